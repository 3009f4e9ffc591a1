"""One warm worker, one job at a time, and what happens when either goes wrong.

Threads: a supervisor has one thread of its own, which starts, judges and ends the worker; the worker's
reading thread only puts messages into the inbox. ``submit``, ``cancel`` and ``shutdown`` may be called from
any thread. ``emit`` is called on the supervisor's thread and must not block.

Cancel ladder: cooperative flag → ``grace_s`` → SIGTERM → ``terminate_s`` → end of the process tree.
A lost worker is replaced when the next job needs one, after a pause that grows with every loss in a row.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from core.domain.errors import AppError, EnvironmentFault
from core.jobs.autopsy import Vitals, describe_death, first_look
from core.jobs.liveness import Liveness, Timing
from core.jobs.messages import (
    CancelJob,
    Event,
    FromWorker,
    Heartbeat,
    JobCancelled,
    JobFailed,
    JobSubmitted,
    JobSucceeded,
    PauseJob,
    ResumeJob,
    StopWorker,
    WorkerLost,
    WorkerReady,
    YieldToReader,
)
from core.jobs.worker_port import Worker

LOG = logging.getLogger(__name__)
_TICK_S = 0.1
_LOOK_S = 1.0


@dataclass
class _Attendance:
    """A worker and what is known of it."""

    worker: Worker
    number: int
    started_s: float
    liveness: Liveness
    ready: bool = False
    warm: bool = False


@dataclass
class _Running:
    """The job that the worker holds."""

    job: JobSubmitted
    vitals: Vitals
    looked_s: float = 0.0
    terminate_at_s: float | None = None
    kill_at_s: float | None = None

    @property
    def cancelling(self) -> bool:
        return self.terminate_at_s is not None or self.kill_at_s is not None


@dataclass
class _Losses:
    """Workers lost in a row, and when the next may start."""

    count: int = 0
    not_before_s: float = 0.0
    last_reason: str = ""
    last_s: float = field(default=float("-inf"))


class Supervisor:
    """Runs jobs in a worker process.

    Parameters
    ----------
    launch : callable
        Starts a worker; called on the supervisor's thread.
    emit : callable
        Receives every event of every job.
    timing : Timing
        The limits.
    """

    def __init__(
        self, launch: Callable[[], Worker], emit: Callable[[Event], None], timing: Timing | None = None
    ) -> None:
        self._launch = launch
        self._emit = emit
        self._timing = timing or Timing()
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pending: deque[JobSubmitted] = deque()
        self._attendance: _Attendance | None = None
        self._running: _Running | None = None
        self._losses = _Losses()
        self._numbers = 0
        self._wanted = False
        self._ends = False
        self._thread = threading.Thread(target=self._loop, name="overread-supervisor", daemon=True)

    # -- any thread ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the supervisor's thread (not yet a worker)."""
        self._thread.start()

    def submit(self, job: JobSubmitted) -> None:
        """Queue a job."""
        self._post(lambda: self._pending.append(job))

    def warm_up(self) -> None:
        """Start a worker now, so that it has loaded its libraries when the first job comes."""
        self._post(self._want_worker)

    def cancel(self, job_id: str) -> None:
        """Stop a job; answered by ``JobCancelled``. A job that is not known here is ignored."""
        self._post(lambda: self._cancel(job_id))

    def tell(self, message: PauseJob | ResumeJob | YieldToReader) -> None:
        """Pass a wish on to the worker that has the job; ignored when no worker has it."""
        self._post(lambda: self._tell(message))

    @property
    def worker_pid(self) -> int | None:
        """Process number of the present worker."""
        attendance = self._attendance
        return None if attendance is None else attendance.worker.pid

    @property
    def is_warm(self) -> bool:
        """Whether the worker has loaded the compute libraries."""
        attendance = self._attendance
        return attendance is not None and attendance.warm

    def shutdown(self) -> None:
        """End the worker and the thread. Jobs that still run get no further event."""
        if not self._thread.is_alive():
            return
        self._post(self._end)
        self._thread.join()

    # -- the supervisor's thread ---------------------------------------------------------------------

    def _post(self, action: Callable[[], None]) -> None:
        self._inbox.put(action)

    def _loop(self) -> None:
        while not self._ends:
            try:
                self._step()
            except Exception:
                LOG.exception("the supervisor stumbled; its worker is replaced")
                self._lose("The supervisor of the worker made a mistake; see the log.")

    def _step(self) -> None:
        """Do one thing that was asked for, if any within a tick, then look around."""
        with contextlib.suppress(queue.Empty):
            action = self._inbox.get(timeout=_TICK_S if self._has_deadlines() else None)
            action()
        if not self._ends:
            self._tick(time.monotonic())

    def _has_deadlines(self) -> bool:
        return bool(self._attendance or self._pending)

    def _tick(self, now_s: float) -> None:
        self._judge(now_s)
        self._climb_cancel_ladder(now_s)
        if (
            (self._pending or self._wanted)
            and self._attendance is None
            and now_s >= self._losses.not_before_s
        ):
            self._start_worker(now_s)
        self._hand_out()

    def _want_worker(self) -> None:
        self._wanted = self._attendance is None

    def _start_worker(self, now_s: float) -> None:
        self._wanted = False
        try:
            worker = self._launch()
        except AppError as error:
            self._fail_pending(error)
            return
        self._numbers += 1
        number = self._numbers
        self._attendance = _Attendance(worker, number, now_s, Liveness(self._timing, now_s))
        worker.listen(
            lambda message: self._post(lambda: self._receive(number, message)),
            lambda fault: self._post(lambda: self._worker_ended(number, fault)),
        )

    def _hand_out(self) -> None:
        """Give the worker the next job when it is ready and idle."""
        attendance = self._attendance
        if attendance is None or not attendance.ready or self._running is not None or not self._pending:
            return
        job = self._pending.popleft()
        try:
            attendance.worker.send(job)
        except AppError as error:
            self._emit(failure(job.job_id, error))
            return
        self._running = _Running(job, first_look())

    def _receive(self, number: int, message: FromWorker) -> None:
        attendance = self._attendance
        if attendance is None or attendance.number != number:
            return
        attendance.liveness.beat(time.monotonic())
        if isinstance(message, WorkerReady):
            attendance.ready, attendance.warm = True, message.warm
        elif isinstance(message, Heartbeat):
            if self._running is not None:
                self._running.vitals.look(message.rss_mb)
        elif self._running is not None and message.job_id == self._running.job.job_id:
            self._pass_on(message)

    def _pass_on(self, event: Event) -> None:
        if isinstance(event, JobSucceeded | JobFailed | JobCancelled):
            self._running = None
            self._losses = _Losses()
        self._emit(event)

    def _cancel(self, job_id: str) -> None:
        for job in self._pending:
            if job.job_id == job_id:
                self._pending.remove(job)
                self._emit(JobCancelled(job_id))
                return
        running, attendance = self._running, self._attendance
        if running is None or attendance is None or running.job.job_id != job_id or running.cancelling:
            return
        running.terminate_at_s = time.monotonic() + self._timing.grace_s
        attendance.worker.send(CancelJob(job_id))

    def _tell(self, message: PauseJob | ResumeJob | YieldToReader) -> None:
        running, attendance = self._running, self._attendance
        if running is not None and attendance is not None and running.job.job_id == message.job_id:
            attendance.worker.send(message)

    def _climb_cancel_ladder(self, now_s: float) -> None:
        running, attendance = self._running, self._attendance
        if running is None or attendance is None:
            return
        if running.terminate_at_s is not None and now_s >= running.terminate_at_s:
            running.terminate_at_s, running.kill_at_s = None, now_s + self._timing.terminate_s
            attendance.worker.terminate()
        elif running.kill_at_s is not None and now_s >= running.kill_at_s:
            self._lose("The worker did not stop when asked and was ended.")

    def _judge(self, now_s: float) -> None:
        """Look after the worker: does it start, does it live, what does it use."""
        attendance = self._attendance
        if attendance is None:
            return
        if not attendance.ready:
            if now_s - attendance.started_s > self._timing.start_timeout_s:
                self._lose(f"The worker was not ready after {self._timing.start_timeout_s:.0f} s.")
            return
        if attendance.liveness.is_dead(now_s, attendance.worker.cpu_s()):
            silent_s = attendance.liveness.silent_s(now_s)
            self._lose(f"The worker hung: no sign of life for {silent_s:.0f} s. It was ended.")
            return
        running = self._running
        if running is not None and now_s - running.looked_s >= _LOOK_S:
            running.looked_s = now_s
            running.vitals.look(attendance.worker.rss_mb())

    def _worker_ended(self, number: int, fault: AppError | None) -> None:
        """The worker's stream has ended: it died, or it spoke nonsense."""
        attendance = self._attendance
        if attendance is None or attendance.number != number:
            return
        if fault is not None:
            self._lose(f"The worker's messages cannot be understood: {fault.user_message}")
            return
        status = attendance.worker.reap(2.0)
        self._lose(describe_death(status, self._running.vitals if self._running else None))

    def _lose(self, reason: str) -> None:
        """End what is left of the worker, tell whose job was lost, and decide when the next one may start."""
        attendance, running = self._attendance, self._running
        self._attendance = self._running = None
        if attendance is not None:
            _end_worker(attendance.worker)
        if running is not None and running.cancelling:
            self._emit(JobCancelled(running.job.job_id))
            return
        LOG.info("worker lost: %s", reason)
        self._note_loss(reason)
        if running is not None:
            self._emit(WorkerLost(running.job.job_id, reason))

    def _note_loss(self, reason: str) -> None:
        now_s, pauses = time.monotonic(), self._timing.backoff_s
        count = 1 if now_s - self._losses.last_s > self._timing.stable_after_s else self._losses.count + 1
        if count > len(pauses):
            self._losses = _Losses()
            self._fail_pending(_unstable(count, reason))
            return
        self._losses = _Losses(count, now_s + pauses[count - 1], reason, now_s)

    def _fail_pending(self, error: AppError) -> None:
        while self._pending:
            job = self._pending.popleft()
            self._emit(failure(job.job_id, error))

    def _end(self) -> None:
        self._ends = True
        self._pending.clear()
        attendance, self._attendance, self._running = self._attendance, None, None
        if attendance is not None:
            attendance.worker.send(StopWorker())
            attendance.worker.reap(self._timing.stop_s)
            _end_worker(attendance.worker)


def failure(job_id: str, error: AppError) -> JobFailed:
    """Return the event of a job that an error ended."""
    return JobFailed(job_id, error.code, error.user_message, error.remedy, type(error).__name__)


def _unstable(count: int, reason: str) -> EnvironmentFault:
    return EnvironmentFault(
        "jobs.worker_unstable",
        f"The worker was lost {count} times in a row. The last time: {reason}",
        "Check the installation with 'overread doctor', then run the job again.",
    )


def _end_worker(worker: Worker) -> None:
    """Kill what may be left, reap it, close its pipes."""
    worker.kill()
    if worker.reap(5.0) is None:
        LOG.error("worker %d could not be ended", worker.pid)
    worker.close()
