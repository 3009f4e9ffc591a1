"""The board of trainings: one at a time in a process of its own, at night if so wished, yielding to reading.

Threads: the board has one of its own, which writes the library and is the only one to change a training's state.
``subscribe``, ``wake`` and ``reading_active`` return at once and may be called from the window's thread; everything
else blocks (library, files). Subscribers are called on the board's thread and must return quickly.

No compute library is loaded by this process: the training worker is ``python -m core.worker.trainer``.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.digest import bundle_digest
from core.domain.errors import AppError, BugError, InputError, SafetyError
from core.domain.training import (
    ACTIVE_STATES,
    CurvePoint,
    TrainingChanged,
    TrainingCurves,
    TrainingEvent,
    TrainingNote,
    TrainingRun,
    TrainingState,
)
from core.jobs.launcher import launch
from core.jobs.liveness import Timing
from core.jobs.messages import (
    CompareTask,
    Event,
    JobCancelled,
    JobFailed,
    JobMetric,
    JobNote,
    JobPaused,
    JobProgress,
    JobResumed,
    JobSubmitted,
    JobSucceeded,
    PauseJob,
    ResumeJob,
    TrainTask,
    WorkerLost,
    YieldToReader,
)
from core.jobs.supervisor import Supervisor
from core.services.candidates import make_candidate
from core.services.engine import Engine
from core.services.job_endings import known
from core.services.list_models import catalogue
from core.services.promote_model import repair_pointers
from core.services.start_training import CASES, RUN, recipe_text, utc_now
from core.services.training_curves import read_curves, read_notes
from core.services.training_night import may_run
from core.services.training_store import CLOSED, LOST, TrainingStore, interrupted, queued_again

LOG = logging.getLogger(__name__)
Subscriber = Callable[[TrainingEvent], None]
S = TrainingState

TICK_S = 5.0
YIELD_S = 1.0
"""How long a training rests after the last sign of reading."""
_YIELD_EVERY_S = 0.2
_TRAINED = 0.9
"""Where the bar stands when the training is done and the comparison begins."""
_ANSWER_S = 60.0
# The worker runs only when nobody else does: on a busy machine its signs of life come late.
_TIMING = Timing(timeout_s=180.0, grace_s=45.0, start_timeout_s=900.0)


def trainer_command() -> list[str]:
    """Return the program that trains: the worker executable of a frozen build, else this interpreter."""
    if getattr(sys, "frozen", False):
        name = "overread-worker.exe" if sys.platform == "win32" else "overread-worker"
        return [str(Path(sys.executable).with_name(name)), "train-process"]
    return [sys.executable, "-m", "core.worker.trainer"]


class TrainingBoard:
    """Runs trainings one after the other.

    Parameters
    ----------
    engine : Engine
        The home.
    timing : Timing, optional
        The limits of the supervisor.
    worker_command : sequence of str, optional
        Another worker program; tests use it.
    auto_resume : bool
        Whether a training that was cut short by the end of the program goes on by itself.
    only : str
        A training's id: this board looks after that one alone (the command line).
    clock : callable
        Local time, for the night hours.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        timing: Timing | None = None,
        worker_command: Sequence[str] | None = None,
        auto_resume: bool = True,
        only: str = "",
        clock: Callable[[], datetime] = datetime.now,
        tick_s: float = TICK_S,
    ) -> None:
        self._engine = engine
        self._timing = timing or _TIMING
        self._command = list(worker_command) if worker_command is not None else trainer_command()
        self._auto_resume = auto_resume
        self._only = only
        self._clock = clock
        self._tick_s = tick_s
        self._store = TrainingStore(engine)
        self._subscribers: list[Subscriber] = []
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._current: TrainingRun | None = None
        self._trained: dict[str, Any] = {}
        self._supervisor: Supervisor | None = None
        self._ends = False
        self._yielded_s = float("-inf")
        self._thread = threading.Thread(target=self._loop, name="overread-trainings", daemon=True)
        self._thread.start()
        self._inbox.put(self._open)

    # -- at once -------------------------------------------------------------------------------

    def subscribe(self, callback: Subscriber) -> None:
        """Have every change of every training reported."""
        self._subscribers.append(callback)

    def wake(self) -> None:
        """Look into the queue now."""
        self._inbox.put(self._nothing)

    def reading_active(self) -> None:
        """Say that somebody reads right now: the training rests for a moment after its present step."""
        current, supervisor = self._current, self._supervisor
        now = time.monotonic()
        if current is None or supervisor is None or now - self._yielded_s < _YIELD_EVERY_S:
            return
        self._yielded_s = now
        supervisor.tell(YieldToReader(current.run_id, YIELD_S))

    @property
    def worker_pid(self) -> int | None:
        """Process number of the training worker, None when there is none."""
        supervisor = self._supervisor
        return None if supervisor is None else supervisor.worker_pid

    # -- blocking ------------------------------------------------------------------------------

    def runs(self) -> list[TrainingRun]:
        """Return the trainings, the newest first."""
        return [self._live(run) for run in self._store.all()]

    def run(self, run_id: str) -> TrainingRun:
        """Return a training; raises InputError ``training.unknown``."""
        return self._live(self._store.get(run_id))

    def curves(self, run_id: str) -> tuple[CurvePoint, ...]:
        """Return what a training has recorded so far, of earlier sessions too."""
        return read_curves(self._engine, run_id)

    def pause(self, run_id: str) -> None:
        """Let the running training rest after its present step.

        Raises
        ------
        InputError
            If it doesn't run (``training.not_running``).
        """
        self._ask(lambda: self._pause(run_id))

    def resume(self, run_id: str) -> None:
        """Let a paused training go on, or queue an interrupted or failed one: it goes on from its checkpoint.

        Raises
        ------
        InputError
            If there is nothing to resume (``training.not_resumable``).
        """
        self._ask(lambda: self._resume(run_id))

    def cancel(self, run_id: str) -> None:
        """End a training; a running one within its present step. Nothing of it is kept.

        Raises
        ------
        InputError
            If it is over (``training.not_cancellable``) or another process runs it (``training.elsewhere``).
        """
        self._ask(lambda: self._cancel(run_id))

    def wait(self, run_id: str, timeout: float | None = None) -> TrainingRun:
        """Wait until a training is over or interrupted, or ``timeout`` seconds have gone; return how it stands."""
        until_s = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._ends:
                run = self.run(run_id)
                left_s = None if until_s is None else until_s - time.monotonic()
                if run.is_final or run.state is S.INTERRUPTED or (left_s is not None and left_s <= 0):
                    return run
                self._changed.wait(1.0 if left_s is None else min(left_s, 1.0))
        return self.run(run_id)

    def shutdown(self) -> None:
        """End worker and thread; a running training becomes interrupted and can be resumed."""
        if self._ends:
            return
        self._ends = True
        self.wake()
        self._thread.join()

    # -- the board's thread: loop ----------------------------------------------------------------

    @staticmethod
    def _nothing() -> None:
        """Wake the loop."""

    def _ask(self, action: Callable[[], None]) -> None:
        """Have the board's thread do something; what it raises is raised here."""
        if self._ends:
            raise InputError(
                "training.board_closed", "The program is being closed.", "Try it after the next start."
            )
        answer: Future[None] = Future()

        def do() -> None:
            try:
                action()
                answer.set_result(None)
            except Exception as error:  # noqa: BLE001 - it belongs to the one who asked
                answer.set_exception(error)

        self._inbox.put(do)
        answer.result(_ANSWER_S)

    def _loop(self) -> None:
        while not self._ends:
            try:
                action = self._inbox.get(timeout=self._tick_s)
            except queue.Empty:
                action = self._nothing
            try:
                action()
                if not self._ends:
                    self._look_around()
            except Exception:
                LOG.exception("the board of trainings stumbled")
        self._close()

    def _open(self) -> None:
        """Take over what earlier processes left."""
        if self._only:
            return
        repair_pointers(self._engine)
        if self._store.take():
            try:
                for run in self._store.cut_short(self._auto_resume):
                    self._tell(TrainingChanged(run))
            finally:
                self._store.give()

    def _look_around(self) -> None:
        if self._current is not None:
            if self._current.state in (S.RUNNING, S.COMPARING) and not may_run(self._current, self._clock()):
                self._stop_for_the_day()
            return
        for run in self._store.queued():
            if self._only and run.run_id != self._only:
                continue
            if not may_run(run, self._clock()):
                if run.waits_for != "night":
                    self._tell(TrainingChanged(self._store.move(replace(run, waits_for="night"))))
                continue
            if self._store.take():
                self._start(run)
            return

    def _close(self) -> None:
        run = self._current
        self._end_worker()
        if run is not None:
            if run.state is S.CANCELLING:
                self._finish(replace(run, state=S.CANCELLED))
            else:
                self._store.move(interrupted(run, CLOSED, "The program ended while it ran."))
        self._current = None
        self._store.give()
        with self._changed:
            self._changed.notify_all()

    # -- the board's thread: one training ---------------------------------------------------------

    def _start(self, run: TrainingRun) -> None:
        """Give a training to a worker of its own."""
        self._trained = {}
        self._current = run
        try:
            base = self._base(run)
            finished = self._finished_bundle(run)
            state = S.RUNNING if finished is None else S.COMPARING
            self._keep(
                replace(
                    run,
                    state=state,
                    waits_for="",
                    held_by="",
                    phase="Starting",
                    started_utc=run.started_utc or utc_now(),
                )
            )
            supervisor = Supervisor(
                lambda: launch(self._timing, self._command),
                lambda event: self._inbox.put(lambda: self._hear(supervisor, event)),
                self._timing,
            )
            self._supervisor = supervisor
            supervisor.start()
            task = (
                self._train_task(run, base) if finished is None else self._compare_task(run, base, finished)
            )
            supervisor.submit(JobSubmitted(run.run_id, task))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one training ends this one only
            self._fail(known(error))

    def _base(self, run: TrainingRun) -> Bundle:
        """Return the model in use; refuse when it is another one than the training began with."""
        bundle = catalogue(self._engine).get(run.model_id)
        if bundle_digest(bundle) != run.base_sha256:
            raise SafetyError(
                "training.other_base",
                f"The training began with version {run.base_version}; another one is in use now.",
                "Start a new training from the version in use.",
            )
        return bundle

    def _finished_bundle(self, run: TrainingRun) -> Bundle | None:
        """Return the bundle of a training that was interrupted in its comparison."""
        sha256 = self._store.trained_sha256(run.run_id)
        if not sha256:
            return None
        bundle = read_bundle(self._engine.paths.training / run.run_id / RUN / "bundle")
        if bundle_digest(bundle) != sha256:
            raise SafetyError(
                "training.changed", "The trained model's files were changed since.", "Start a new training."
            )
        self._trained = {"version": bundle.manifest.version, "bundle_sha256": sha256}
        return bundle

    def _train_task(self, run: TrainingRun, base: Bundle) -> TrainTask:
        return TrainTask(
            folder=str(self._engine.paths.training / run.run_id),
            recipe=recipe_text(self._engine, run.run_id),
            base_path=str(base.path),
            sealed_folder=str(self._engine.paths.training),
            sealed_key=self._engine.keys.derive("training").hex(),
            device=str(run.settings.get("device", "auto")),
            max_memory_mb=int(str(run.settings.get("max_memory_mb", 0))),
        )

    def _compare_task(self, run: TrainingRun, base: Bundle, candidate: Bundle) -> CompareTask:
        return CompareTask(
            cases_folder=str(self._engine.paths.training / run.run_id / CASES),
            current_path=str(base.path),
            candidate_path=str(candidate.path),
            sealed_folder=str(self._engine.paths.training),
            sealed_key=self._engine.keys.derive("training").hex(),
            device=str(run.settings.get("device", "auto")),
            seed=int(str(run.settings.get("seed", 0))),
        )

    def _hear(self, supervisor: Supervisor, event: Event) -> None:
        """Take an event of the worker; one of a worker that was sent away belongs to nobody."""
        run = self._current
        if supervisor is not self._supervisor or run is None or event.job_id != run.run_id:
            return
        try:
            self._take(run, event)
        except Exception as error:  # noqa: BLE001 - see _start
            self._fail(known(error))

    def _take(self, run: TrainingRun, event: Event) -> None:
        match event:
            case JobProgress():
                self._show(self._advanced(run, event))
            case JobMetric():
                self._take_metric(run, event)
            case JobNote(code=code, message=message):
                note = TrainingNote(code, message, utc_now())
                self._show(replace(run, notes=(*run.notes, note)))
            case JobPaused(held_by=held_by):
                self._rest(run, held_by)
            case JobResumed():
                state = S.RUNNING if run.state is S.PAUSED else run.state
                self._keep(replace(run, state=state, held_by=""))
            case JobSucceeded(outcome=outcome):
                self._next(run, outcome)
            case JobFailed():
                self._fail(_error_of(event))
            case JobCancelled():
                self._finish(replace(run, state=S.CANCELLED))
            case WorkerLost(reason=reason):
                self._lose(run, reason)

    def _advanced(self, run: TrainingRun, event: JobProgress) -> TrainingRun:
        comparing = run.state is S.COMPARING
        fraction = _TRAINED + (1 - _TRAINED) * event.fraction if comparing else _TRAINED * event.fraction
        return replace(run, phase=event.phase, fraction=fraction, eta_seconds=event.eta_seconds)

    def _take_metric(self, run: TrainingRun, event: JobMetric) -> None:
        if event.name == "epoch":
            self._show(replace(run, epoch=int(event.value), step=event.step))
            return
        self._current = replace(run, step=max(run.step, event.step))
        self._tell(TrainingCurves(run.run_id, (CurvePoint(event.name, event.step, event.value),)))

    def _rest(self, run: TrainingRun, held_by: str) -> None:
        if held_by == "reader" and run.state is S.RUNNING:
            self._keep(replace(run, state=S.PAUSED, held_by="reader"))
        else:
            self._show(replace(run, held_by=held_by))

    def _next(self, run: TrainingRun, outcome: dict[str, Any]) -> None:
        """Go from the training to the comparison, or from the comparison to the end."""
        if run.state is S.CANCELLING:
            self._finish(replace(run, state=S.CANCELLED))
            return
        if run.state is S.COMPARING:
            if outcome.get("candidate_sha256") != self._trained["bundle_sha256"]:
                raise BugError("training.compared_other", "Another model was compared than the trained one.")
            candidate = make_candidate(self._engine, run, self._trained, outcome)
            done = replace(run, state=S.SUCCEEDED, phase="", fraction=1.0, eta_seconds=None, held_by="")
            notes = read_notes(self._engine, run.run_id) or run.notes
            self._current = None
            done = self._store.succeed(replace(done, notes=notes), candidate)
            self._store.delete_cases(run.run_id)
            self._ended(done)
            return
        candidate_bundle = read_bundle(Path(str(outcome["bundle"])))
        sha256 = bundle_digest(candidate_bundle)
        if sha256 != outcome["bundle_sha256"]:
            raise SafetyError(
                "training.changed", "The trained model's files were changed.", "Start a new training."
            )
        self._trained = {"version": outcome["version"], "bundle_sha256": sha256}
        state = replace(
            run, state=S.COMPARING, phase="Comparing", fraction=_TRAINED, eta_seconds=None, held_by=""
        )
        self._keep(state, trained_sha256=sha256)
        assert self._supervisor is not None
        self._supervisor.submit(
            JobSubmitted(run.run_id, self._compare_task(run, self._base(run), candidate_bundle))
        )

    def _fail(self, error: AppError) -> None:
        run = self._current
        assert run is not None
        if run.state is S.CANCELLING:
            self._finish(replace(run, state=S.CANCELLED))
            return
        self._finish(
            replace(
                run,
                state=S.FAILED,
                eta_seconds=None,
                held_by="",
                error_code=error.code,
                error=error.user_message,
                remedy=error.remedy,
            )
        )

    def _lose(self, run: TrainingRun, reason: str) -> None:
        if run.state is S.CANCELLING:
            self._finish(replace(run, state=S.CANCELLED))
            return
        self._current = None
        self._ended(self._store.move(interrupted(run, LOST, reason)))

    def _finish(self, run: TrainingRun) -> None:
        """Keep the end of the present training."""
        self._current = None
        run = self._store.move(run)
        self._ended(run)
        if run.state is S.CANCELLED:
            self._store.delete_files(run.run_id)

    def _ended(self, run: TrainingRun) -> None:
        self._end_worker()
        self._store.give()
        self._tell(TrainingChanged(run))

    def _end_worker(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.shutdown()

    def _stop_for_the_day(self) -> None:
        """End the worker at the end of the night; the next night goes on from the checkpoint."""
        run, self._current = self._current, None
        assert run is not None
        self._end_worker()
        self._store.give()
        self._tell(TrainingChanged(self._store.move(replace(queued_again(run), waits_for="night"))))

    # -- the board's thread: wishes ----------------------------------------------------------------

    def _pause(self, run_id: str) -> None:
        run = self._current
        if run is None or run.run_id != run_id or not run.can_pause or self._supervisor is None:
            raise InputError(
                "training.not_running", "Only a running training can be paused.", "Look at its state."
            )
        self._supervisor.tell(PauseJob(run_id))

    def _resume(self, run_id: str) -> None:
        run = self._current
        if run is not None and run.run_id == run_id and self._supervisor is not None:
            if run.state is not S.PAUSED:
                raise _not_resumable()
            self._supervisor.tell(ResumeJob(run_id))
            return
        stored = self._store.get(run_id)
        if stored.state not in (S.INTERRUPTED, S.FAILED):
            raise _not_resumable()
        self._tell(TrainingChanged(self._store.move(queued_again(stored))))

    def _cancel(self, run_id: str) -> None:
        run = self._current
        if run is not None and run.run_id == run_id and self._supervisor is not None:
            if run.state is not S.CANCELLING:
                self._keep(replace(run, state=S.CANCELLING, held_by=""))
                self._supervisor.cancel(run_id)
            return
        stored = self._store.get(run_id)
        if not stored.can_cancel:
            raise InputError("training.not_cancellable", "This training is over.", "Look at its state.")
        if stored.state in ACTIVE_STATES:
            raise InputError(
                "training.elsewhere", "Another program of this home runs the training.", "Cancel it there."
            )
        self._tell(TrainingChanged(self._store.move(replace(stored, state=S.CANCELLED, waits_for=""))))
        self._store.delete_files(run_id)

    # -- telling ---------------------------------------------------------------------------------

    def _keep(self, run: TrainingRun, *, trained_sha256: str | None = None) -> None:
        self._current = self._store.move(run, trained_sha256=trained_sha256)
        self._tell(TrainingChanged(self._current))

    def _show(self, run: TrainingRun) -> None:
        self._current = run
        self._tell(TrainingChanged(run))

    def _live(self, run: TrainingRun) -> TrainingRun:
        current = self._current
        return current if current is not None and current.run_id == run.run_id else run

    def _tell(self, event: TrainingEvent) -> None:
        with self._changed:
            self._changed.notify_all()
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                LOG.exception("a subscriber failed on %s", type(event).__name__)


def _error_of(event: JobFailed) -> AppError:
    return AppError(event.code, event.message, event.remedy)


def _not_resumable() -> InputError:
    return InputError(
        "training.not_resumable",
        "Only a paused, interrupted or failed training can be resumed.",
        "Start a new one.",
    )
