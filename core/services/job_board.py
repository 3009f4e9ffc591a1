"""The board of jobs: submit, follow, cancel, retry. One per process, one worker behind it, one job at a time.

Threads: the board has one of its own, on which jobs are prepared and finished and the library is written.
All public methods return at once (``wait`` and ``shutdown`` excepted) and may be called from any thread, the
GUI's included. Subscribers are called on the board's thread and must return quickly.

No compute library is loaded by this process: see ``core.jobs.supervisor``.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.domain.errors import AppError, InputError
from core.domain.progress import Cancelled, CancelToken
from core.domain.volume import Volume
from core.jobs.launcher import launch
from core.jobs.liveness import Timing
from core.jobs.messages import (
    Event,
    JobCancelled,
    JobFailed,
    JobProgress,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    WorkerLost,
)
from core.jobs.queue import JobError, JobQueue, JobView, StoredJob
from core.jobs.reporter import Reporter
from core.jobs.server_address import model_in_words, server_of
from core.jobs.shared_arrays import sweep_stale
from core.jobs.supervisor import Supervisor
from core.jobs.transitions import JobState, Trigger
from core.services.engine import Engine
from core.services.job_endings import final_event, known, record_failure
from core.services.job_store import LibraryJobStore

if TYPE_CHECKING:
    from core.services.job_kinds import JobKind

__all__ = ["JobBoard", "JobView"]

LOG = logging.getLogger(__name__)
Subscriber = Callable[[Event], None]

_PREPARED, _COMPUTED = 0.1, 0.95
"""Where the bar stands when the series is loaded, and when the worker is done."""
_OPEN_S = 10.0


class JobBoard:
    """Runs models, explanations and self-tests in a worker process.

    Parameters
    ----------
    engine : Engine
        The home.
    resume : bool
        Whether to go on with the jobs that an earlier process left queued. Jobs that it left running become
        ``interrupted`` in any case.
    timing : Timing, optional
        The limits of the supervisor.
    worker_command : sequence of str, optional
        Another worker program; tests use it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        resume: bool = True,
        timing: Timing | None = None,
        worker_command: Sequence[str] | None = None,
    ) -> None:
        self._engine = engine
        self._resume = resume
        self._queue = JobQueue()
        self._store = LibraryJobStore(engine)
        self._volumes: dict[str, Volume] = {}
        # A report names a patient: it is kept in memory until its job begins, and nowhere else.
        self._texts: dict[str, str] = {}
        self._subscribers: list[Subscriber] = []
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._opened = threading.Event()
        self._current: JobKind | None = None
        self._current_id = ""
        self._token = CancelToken()
        self._committed = False
        self._ends = False
        limits = timing or Timing()
        self._supervisor = Supervisor(
            lambda: launch(limits, worker_command),
            lambda event: self._post(lambda: self._on_event(event)),
            limits,
        )
        self._supervisor.start()
        self._thread = threading.Thread(target=self._loop, name="overread-jobs", daemon=True)
        self._thread.start()
        self._post(self._open)

    # -- any thread ----------------------------------------------------------------------------------

    def subscribe(self, callback: Subscriber) -> None:
        """Have every event of every job reported."""
        self._subscribers.append(callback)

    def submit_run(
        self,
        model_id: str,
        series_key: str,
        device: str = "auto",
        *,
        volume: Volume | None = None,
        contrasts: Mapping[str, str] | None = None,
        text: str | None = None,
    ) -> str:
        """Queue the run of a model on a series; returns the job's identifier.

        What is wrong with the request is told by ``JobFailed``.

        Parameters
        ----------
        volume : Volume, optional
            The series, which saves loading it again.
        contrasts : mapping of str to str, optional
            Of a model that takes several: input → key of the series that the reader says it is.
        text : str, optional
            The report, for a model that takes one. It is not written down: after a restart the job fails.
        """
        request: dict[str, Any] = {"model_id": model_id, "series_key": series_key, "device": device}
        if contrasts:
            request["contrasts"] = dict(contrasts)
        if text:
            request["with_text"] = True
        return self._submit("run", model_in_words(model_id), request, volume, text)

    def submit_explain(
        self,
        result_id: str,
        method: str,
        class_label: str = "",
        layer: str = "",
        volume: Volume | None = None,
        device: str = "auto",
    ) -> str:
        """Queue the explanation of a class of a result; without a class, of its main one."""
        request = {
            "result_id": result_id,
            "method": method,
            "class_label": class_label,
            "layer": layer,
            "device": device,
        }
        return self._submit("explain", method, request, volume)

    def submit_selftest(self, model_id: str, device: str = "auto") -> str:
        """Queue the self-test of a model."""
        return self._submit(
            "selftest", f"Self-test of {model_id}", {"model_id": model_id, "device": device}, None
        )

    def cancel(self, job_id: str) -> None:
        """Stop a job; a waiting one never starts. Nothing of it is kept.

        A job that is finished, or whose result is being stored at this moment, is left as it is.

        Raises
        ------
        InputError
            If there is no such job.
        """
        with self._changed:
            state = self._queue.get(job_id).state
            running = state == JobState.RUNNING and not (job_id == self._current_id and self._committed)
            if state != JobState.QUEUED and not running:
                return
            self._queue.move(job_id, Trigger.CANCEL_REQUESTED)
            if running:
                self._token.cancel()
        if running:
            self._supervisor.cancel(job_id)
        else:
            self._post(lambda: self._tell(JobCancelled(job_id)))

    def retry(self, job_id: str) -> str:
        """Queue a failed, lost, cancelled or interrupted job again, under its identifier.

        Raises
        ------
        InputError
            If there is no such job, or it waits, runs or has succeeded.
        """
        self._opened.wait(_OPEN_S)
        with self._changed:
            if not self._queue.get(job_id).can_retry:
                raise InputError(
                    "jobs.not_retryable",
                    "Only a job that failed, was lost, interrupted or cancelled can be tried again.",
                    "Start a new one.",
                )
            self._queue.move(job_id, Trigger.RETRY_REQUESTED)
        self._post(self._nothing)
        return job_id

    def jobs(self) -> list[JobView]:
        """Return the jobs of this and of earlier sessions, the oldest first.

        Right after the start this waits until those of earlier sessions are read.
        """
        self._opened.wait(_OPEN_S)
        return self._queue.views()

    def wait(self, job_id: str, timeout: float | None = None) -> JobView:
        """Wait until a job is finished, or ``timeout`` seconds have gone; returns how it stands then.

        Not to be called from the GUI thread or a subscriber.
        """
        self._opened.wait(_OPEN_S)
        until_s = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not (view := self._queue.get(job_id)).is_final and not self._ends:
                left_s = None if until_s is None else until_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
        return view

    def warm_up(self) -> None:
        """Start the worker now, so that it has loaded its libraries when the first job comes."""
        self._supervisor.warm_up()

    @property
    def is_open(self) -> bool:
        """Whether jobs are still done; False after ``shutdown``."""
        return not self._ends

    @property
    def worker_pid(self) -> int | None:
        """Process number of the present worker, None when there is none."""
        return self._supervisor.worker_pid

    def shutdown(self) -> None:
        """End the worker and the threads; a job that runs becomes ``interrupted``, waiting ones keep waiting."""
        with self._changed:
            if self._ends:
                return
            self._ends = True
            self._token.cancel()
            self._changed.notify_all()
        self._supervisor.shutdown()
        self._post(self._nothing)
        self._thread.join()

    # -- the board's thread --------------------------------------------------------------------------

    def _submit(
        self, kind: str, title: str, request: dict[str, Any], volume: Volume | None, text: str | None = None
    ) -> str:
        with self._changed:
            view = self._queue.add(kind, title, request)
            if volume is not None:
                self._volumes[view.job_id] = volume
            if text:
                self._texts[view.job_id] = text
        self._post(self._nothing)
        return view.job_id

    def _post(self, action: Callable[[], None]) -> None:
        self._inbox.put(action)

    @staticmethod
    def _nothing() -> None:
        """Wake the loop."""

    def _loop(self) -> None:
        while not self._ends:
            action = self._inbox.get()
            try:
                action()
                self._save()
                self._start_next()
            except Exception:
                LOG.exception("the board of jobs stumbled")
            self._save()
        self._close()

    def _open(self) -> None:
        """Take over what earlier processes left."""
        try:
            sweep_stale(self._engine.paths.temp)
            self._take_over(self._store.all())
        finally:
            self._opened.set()

    def _take_over(self, jobs: Sequence[StoredJob]) -> None:
        for job in jobs:
            unfinished = job.state in (JobState.QUEUED, JobState.RUNNING)
            if not unfinished:
                self._queue.restore(job)
            elif self._store.claim(job.job_id):
                if job.state == JobState.QUEUED and not self._resume:
                    self._store.release(job.job_id)
                    continue
                self._queue.restore(job)
                self._queue.move(job.job_id, Trigger.RESTARTED)

    def _close(self) -> None:
        for view in self._queue.views():
            if view.state in (JobState.RUNNING, JobState.CANCELLING):
                self._queue.move(view.job_id, Trigger.RESTARTED)
        self._release_current()
        self._save()
        self._store.close()

    def _save(self) -> None:
        try:
            self._queue.save(self._store)
        except AppError as error:
            LOG.error("the queue of jobs could not be written (%s); it is tried again", error.code)
        with self._changed:
            self._changed.notify_all()

    def _start_next(self) -> None:
        """Prepare waiting jobs until one is with the worker."""
        while self._current is None and not self._ends and (view := self._queue.next_queued()) is not None:
            with self._changed:
                if self._queue.get(view.job_id).state != JobState.QUEUED:
                    continue
                self._queue.move(view.job_id, Trigger.STARTED)
                self._token, self._committed, self._current_id = CancelToken(), False, view.job_id
            self._save()
            self._prepare(view)

    def _prepare(self, view: JobView) -> None:
        job_id = view.job_id
        # A server's model needs no compute library here.
        if not server_of(str(self._queue.request(job_id).get("model_id", ""))):
            self._supervisor.warm_up()
        # How long loading takes says nothing about how long the model takes.
        report = Reporter(job_id, lambda event: self._show_progress(replace(event, eta_seconds=None)))
        try:
            # Imported with the first job: readers and measures are not needed to open the window.
            from core.services.job_making import make_job

            volume, text = self._volumes.pop(job_id, None), self._texts.pop(job_id, None)
            self._current = make_job(self._engine, view.kind, self._queue.request(job_id), volume, text)
            task = self._current.prepare(
                lambda phase, fraction: report(phase, _PREPARED * min(max(fraction, 0.0), 1.0)), self._token
            )
            self._token.raise_if_cancelled()
            self._queue.retitle(job_id, self._current.title)
            self._supervisor.submit(JobSubmitted(job_id, task))
            if self._token.is_cancelled:  # between the last look and the submission
                self._supervisor.cancel(job_id)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one job ends this job only
            self._end_with(known(error))

    def _on_event(self, event: Event) -> None:
        """Take an event of the supervisor."""
        if event.job_id != self._current_id or self._current is None:
            return
        if isinstance(event, JobProgress):
            done = _PREPARED + (_COMPUTED - _PREPARED) * event.fraction
            self._show_progress(replace(event, fraction=done))
        elif isinstance(event, JobSucceeded):
            self._finish(event.outcome)
        elif isinstance(event, JobFailed):
            self._end(Trigger.FAILED, JobError(event.code, event.message, event.remedy, event.family))
        elif isinstance(event, JobCancelled):
            self._end(Trigger.CANCELLED)
        elif isinstance(event, WorkerLost):
            lost = JobError("jobs.worker_lost", event.reason, "Retry the job.", "EnvironmentFault")
            self._end(Trigger.LOST, lost)
        else:
            if isinstance(event, JobStarted):
                self._current.attached()
            self._tell(event)

    def _show_progress(self, event: JobProgress) -> None:
        if self._token.is_cancelled:
            return
        self._queue.progress(event.job_id, event.phase, event.fraction, event.eta_seconds)
        self._tell(event)

    def _finish(self, outcome: dict[str, Any]) -> None:
        assert self._current is not None
        job_id = self._current_id
        self._show_progress(JobProgress(job_id, "Checking and storing", _COMPUTED))
        try:
            kept = self._current.finish(outcome, self._commit)
        except Exception as error:  # noqa: BLE001 - see _prepare
            self._end_with(known(error))
            return
        self._release_current()
        self._queue.move(job_id, Trigger.SUCCEEDED, result_id=kept.get("result_id"), outcome=kept)
        self._save()
        self._tell(JobSucceeded(job_id, kept))

    def _commit(self) -> None:
        """Pass the point of no return, or raise Cancelled."""
        with self._changed:
            self._token.raise_if_cancelled()
            self._committed = True

    def _end_with(self, error: AppError) -> None:
        if isinstance(error, Cancelled):
            self._end(Trigger.CANCELLED)
        else:
            self._end(Trigger.FAILED, JobError.of(error))

    def _end(self, trigger: Trigger, error: JobError | None = None) -> None:
        """Close the current job without a result and tell how it ended."""
        job_id = self._current_id
        self._release_current()
        if self._ends and trigger == Trigger.CANCELLED:
            return  # the program ends; _close marks the job as interrupted
        with self._changed:
            if self._queue.get(job_id).state == JobState.CANCELLING:
                trigger, error = Trigger.CANCELLED, None
            view = self._queue.move(job_id, trigger, error=error)
        record_failure(self._engine, view, error)
        self._save()
        self._tell(final_event(job_id, trigger, error))

    def _release_current(self) -> None:
        kind, self._current, self._current_id = self._current, None, ""
        if kind is not None:
            kind.release()

    def _tell(self, event: Event) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                LOG.exception("a subscriber failed on %s", type(event).__name__)
