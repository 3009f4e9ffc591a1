"""The jobs: one list for the panel, the status bar and whoever waits for a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import JOB_ACTIVE, JOB_RETRYABLE, JobRow, Presenter, ReviewEngine, Tasks, ignore
from core.jobs.messages import (
    Event,
    JobCancelled,
    JobFailed,
    JobProgress,
    JobStarted,
    JobSucceeded,
    WorkerLost,
)

Listener = Callable[[tuple[JobRow, ...]], None]


@dataclass(frozen=True)
class JobsState:
    """All jobs, newest first; ``device`` is what the last one ran on."""

    jobs: tuple[JobRow, ...] = ()
    device: str = ""

    @property
    def running(self) -> JobRow | None:
        """The job that runs now, else the next in the queue."""
        active = [job for job in self.jobs if job.state in JOB_ACTIVE]
        return next((job for job in active if job.state == "running"), active[-1] if active else None)

    @property
    def retryable(self) -> JobRow | None:
        """The newest job that may be tried again."""
        return next((job for job in self.jobs if job.state in JOB_RETRYABLE), None)

    @property
    def waiting(self) -> int:
        """How many jobs are queued."""
        return sum(1 for job in self.jobs if job.state == "queued")


class JobsPresenter(Presenter[JobsState]):
    """Follows the engine's events. Progress is drawn from the event, everything else asks the board again."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(JobsState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._listeners: list[Listener] = []
        self._asking = False
        self._ask_again = False
        self.finished: Callable[[JobRow], None] = lambda _: None
        self._announced: set[str] = set()

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with the jobs after each change."""
        self._listeners.append(listener)

    def on_event(self, event: Event) -> None:
        """Take an event of the engine; on the GUI thread."""
        if isinstance(event, JobProgress):
            self._on_progress(event)
            return
        if isinstance(event, JobStarted) and event.device:
            self._publish(replace(self.state, device=event.device))
        if isinstance(event, JobFailed):
            self._notices.say("danger", event.message, event.remedy)
        if isinstance(event, WorkerLost):
            self._notices.say("danger", f"The model's process was lost: {event.reason}", "Retry it in Jobs.")
        if isinstance(event, JobStarted | JobSucceeded | JobFailed | JobCancelled | WorkerLost):
            self.refresh()

    def _on_progress(self, event: JobProgress) -> None:
        known = [job for job in self.state.jobs if job.job_id == event.job_id]
        if not known:
            self.refresh()
            return
        moved = replace(
            known[0],
            state="running",
            phase=event.phase,
            fraction=event.fraction,
            eta_seconds=event.eta_seconds,
        )
        self._take(tuple(moved if job.job_id == event.job_id else job for job in self.state.jobs))

    def refresh(self) -> None:
        """Read the jobs; requests that come meanwhile are answered by one more reading."""
        if self._asking:
            self._ask_again = True
            return
        self._asking = True

        def done(jobs: list[JobRow]) -> None:
            self._asking = False
            self._take(tuple(jobs))
            if self._ask_again:
                self._ask_again = False
                self.refresh()

        def failed(error: Exception) -> None:
            self._asking = False
            self._notices.report(error)  # type: ignore[arg-type]

        self._tasks.db(self._engine.jobs, done, failed)

    def _take(self, jobs: tuple[JobRow, ...]) -> None:
        before = {job.job_id: job.state for job in self.state.jobs}
        self._publish(replace(self.state, jobs=jobs))
        for listener in self._listeners:
            listener(jobs)
        for job in jobs:
            if (
                job.state == "succeeded"
                and before.get(job.job_id) in JOB_ACTIVE
                and job.job_id not in self._announced
            ):
                self._announced.add(job.job_id)
                self.finished(job)

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop."""
        self._tasks.io(lambda: self._engine.cancel_job(job_id), ignore, self._notices.report)

    def cancel_running(self) -> None:
        """Ask the running job to stop, if any."""
        if self.state.running is not None:
            self.cancel(self.state.running.job_id)

    def retry_newest(self) -> None:
        """Queue the newest failed job again, if any."""
        if self.state.retryable is not None:
            self.retry(self.state.retryable.job_id)

    def retry(self, job_id: str) -> None:
        """Queue a failed, lost or cancelled job again."""

        def done(_: None) -> None:
            self.refresh()

        self._tasks.io(lambda: self._engine.retry_job(job_id), done, self._notices.report)
