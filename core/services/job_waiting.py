"""Wait for a job as a command does: with progress, and with the job's error raised here."""

from __future__ import annotations

from core.domain.errors import AppError, BugError, EnvironmentFault, InputError, SafetyError
from core.domain.progress import Cancelled, Progress
from core.jobs.queue import JobView
from core.jobs.transitions import JobState
from core.services.job_board import JobBoard

_POLL_S = 0.1
_FAMILIES: dict[str, type[AppError]] = {
    cls.__name__: cls for cls in (InputError, EnvironmentFault, SafetyError, BugError)
}


def wait_for(board: JobBoard, job_id: str, progress: Progress) -> JobView:
    """Return a job that has succeeded.

    An interrupt (Ctrl-C) while waiting cancels the job.

    Raises
    ------
    AppError
        That of the failed job, in its own family; Cancelled if somebody cancelled it; EnvironmentFault if the
        worker was lost or the board shut down.
    """
    try:
        while not (view := board.wait(job_id, _POLL_S)).is_final and board.is_open:
            if view.phase:
                progress(view.phase, view.fraction)
    except KeyboardInterrupt:
        board.cancel(job_id)
        raise
    if view.state == JobState.SUCCEEDED:
        progress("Done", 1.0)
        return view
    if view.state == JobState.CANCELLED:
        raise Cancelled()
    if view.failure is not None:
        family = _FAMILIES.get(view.failure.family, BugError)
        raise family(view.failure.code, view.failure.message, view.failure.remedy)
    raise EnvironmentFault("jobs.interrupted", "The job was interrupted.", "Run it again.")
