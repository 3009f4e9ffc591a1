"""Which state a job may go to, as a table. A pair that is not in the table is a bug and raises."""

from __future__ import annotations

from enum import StrEnum

from core.domain.errors import BugError


class JobState(StrEnum):
    """Where a job stands.

    ``lost``: the worker died or went silent. ``interrupted``: the application ended while the job ran.
    Both, like ``failed`` and ``cancelled``, can be retried.
    """

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    INTERRUPTED = "interrupted"


class Trigger(StrEnum):
    """What moves a job: a message of the worker, or a wish of the reader."""

    STARTED = "started"
    PROGRESSED = "progressed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    CANCEL_REQUESTED = "cancel requested"
    RETRY_REQUESTED = "retry requested"
    RESTARTED = "application restarted"


S, T = JobState, Trigger

TRANSITIONS: dict[tuple[JobState, Trigger], JobState] = {
    (S.QUEUED, T.STARTED): S.RUNNING,
    (S.QUEUED, T.FAILED): S.FAILED,
    (S.QUEUED, T.CANCEL_REQUESTED): S.CANCELLED,
    (S.QUEUED, T.RESTARTED): S.QUEUED,
    (S.RUNNING, T.STARTED): S.RUNNING,  # the board prepares the job, then the worker takes it
    (S.RUNNING, T.PROGRESSED): S.RUNNING,
    (S.RUNNING, T.SUCCEEDED): S.SUCCEEDED,
    (S.RUNNING, T.FAILED): S.FAILED,
    (S.RUNNING, T.CANCELLED): S.CANCELLED,
    (S.RUNNING, T.LOST): S.LOST,
    (S.RUNNING, T.CANCEL_REQUESTED): S.CANCELLING,
    (S.RUNNING, T.RESTARTED): S.INTERRUPTED,
    # Whatever arrives after a wish to cancel, nothing is kept.
    (S.CANCELLING, T.STARTED): S.CANCELLING,
    (S.CANCELLING, T.PROGRESSED): S.CANCELLING,
    (S.CANCELLING, T.SUCCEEDED): S.CANCELLED,
    (S.CANCELLING, T.FAILED): S.CANCELLED,
    (S.CANCELLING, T.CANCELLED): S.CANCELLED,
    (S.CANCELLING, T.LOST): S.CANCELLED,
    (S.CANCELLING, T.CANCEL_REQUESTED): S.CANCELLING,
    (S.CANCELLING, T.RESTARTED): S.CANCELLED,
    (S.FAILED, T.RETRY_REQUESTED): S.QUEUED,
    (S.CANCELLED, T.RETRY_REQUESTED): S.QUEUED,
    (S.LOST, T.RETRY_REQUESTED): S.QUEUED,
    (S.INTERRUPTED, T.RETRY_REQUESTED): S.QUEUED,
}

FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED, S.LOST, S.INTERRUPTED})
"""States in which a job stays until somebody retries it."""


def next_state(state: JobState, trigger: Trigger) -> JobState:
    """Return the state after ``trigger``.

    Raises
    ------
    BugError
        If the pair is not in ``TRANSITIONS`` (code ``jobs.illegal_transition``).
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise BugError(
            "jobs.illegal_transition",
            f"A job that is {state} cannot be {trigger}.",
            "Report this with the log of the application.",
        ) from None
