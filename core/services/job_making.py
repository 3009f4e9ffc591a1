"""From a request of the queue to the job that fulfils it."""

from __future__ import annotations

from typing import Any

from core.domain.errors import InputError
from core.domain.volume import Volume
from core.services.engine import Engine
from core.services.explain_job import ExplainJob
from core.services.job_kinds import JobKind
from core.services.remote_job import RemoteRunJob
from core.services.remote_models import is_remote
from core.services.run_job import RunJob
from core.services.selftest_job import SelfTestJob


def make_job(
    engine: Engine, kind: str, request: dict[str, Any], volume: Volume | None, text: str | None = None
) -> JobKind:
    """Return the job of a kind.

    Parameters
    ----------
    kind : str
        ``"run"``, ``"explain"`` or ``"selftest"``.
    request : dict
        What was asked for; may come from the library of an earlier version.
    volume : Volume or None
        The series, if it is in memory already.
    text : str or None
        The report that goes with the run.

    Raises
    ------
    InputError
        If the kind is unknown or the request incomplete.
    """
    try:
        if kind == "run" and is_remote(request["model_id"]):
            return RemoteRunJob(engine, request, volume, text)
        if kind == "run":
            return RunJob(engine, request, volume, text)
        if kind == "explain":
            return ExplainJob(engine, request, volume)
        if kind == "selftest":
            return SelfTestJob(engine, request)
    except KeyError as error:
        raise InputError(
            "jobs.incomplete", f"The job does not say its {error}.", "Start a new one."
        ) from error
    raise InputError("jobs.unknown_kind", "The job is of a kind that this version does not know.", "Update.")
