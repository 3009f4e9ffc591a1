"""How a job ends without a result: the error as the reader sees it, its event, its audit record."""

from __future__ import annotations

import logging

from core.domain.audit import AuditCode, AuditOutcome
from core.domain.errors import AppError, BugError
from core.jobs.messages import Event, JobCancelled, JobFailed, WorkerLost
from core.jobs.queue import JobError, JobView
from core.jobs.transitions import Trigger
from core.services.engine import Engine

LOG = logging.getLogger(__name__)


def known(error: Exception) -> AppError:
    """Return the error as one of ours; the text of a foreign one goes to the log only."""
    if isinstance(error, AppError):
        return error
    LOG.error("a job failed in the application", exc_info=error)
    return BugError(
        "jobs.bug",
        f"The job stopped with {type(error).__name__} in the application.",
        "Report this with the log of the application.",
    )


def final_event(job_id: str, trigger: Trigger, error: JobError | None) -> Event:
    """Return the event of a job that ended by ``trigger``."""
    if trigger == Trigger.CANCELLED or error is None:
        return JobCancelled(job_id)
    if trigger == Trigger.LOST:
        return WorkerLost(job_id, error.message)
    return JobFailed(job_id, error.code, error.message, error.remedy, error.family)


def record_failure(engine: Engine, view: JobView, error: JobError | None) -> None:
    """Put a failed or lost job into the audit trail; a cancelled one (no error) is no failure.

    The job has failed already: when the trail cannot be written, that goes to the log.
    """
    if error is None:
        return
    try:
        engine.record(
            AuditCode.JOB_FAILED,
            object_kind="job",
            object_ref=view.job_id,
            detail={"kind": view.kind, "state": view.state, "model_id": view.model_id},
            outcome=AuditOutcome.SERIOUS_FAILURE,
            reason=error.code,
        )
    except AppError as refused:
        LOG.error("the end of a job could not be recorded (%s)", refused.code)
