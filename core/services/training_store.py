"""Trainings as the library keeps them: states with their audit records, and which process has one in hand.

One training runs at a time in a home, whatever processes use it: its board holds a lock, which the operating system
frees when the process dies. A training that the library calls running while the lock is free was cut short.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from core.config.locks import file_lock
from core.domain.audit import AuditCode, AuditOutcome
from core.domain.errors import EnvironmentFault, InputError
from core.domain.training import ACTIVE_STATES, Candidate, TrainingRun, TrainingState
from core.services.candidates import record_candidate
from core.services.engine import Engine
from core.services.start_training import CASES, RUN, utc_now

CLOSED = "training.closed"
LOST = "training.worker_lost"


class TrainingStore:
    """Used by the board's thread only, but for ``get`` and ``all``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = engine.paths.training / "board.lock"
        self._held: ExitStack | None = None

    # -- the right to train --------------------------------------------------------------------

    def take(self) -> bool:
        """Take the right to train; False when another process has it."""
        if self._held is not None:
            return True
        stack = ExitStack()
        try:
            stack.enter_context(file_lock(self._lock, timeout_s=0.0))
        except EnvironmentFault:
            return False
        self._held = stack
        return True

    def give(self) -> None:
        """Give it back."""
        if self._held is not None:
            self._held.close()
            self._held = None

    # -- reading -------------------------------------------------------------------------------

    def get(self, run_id: str) -> TrainingRun:
        """Return a training; InputError ``training.unknown`` when there is none."""
        with self._engine.unit_of_work(writes=False) as uow:
            run = uow.trainings.get(run_id)
        if run is None:
            raise InputError("training.unknown", f"There is no training {run_id}.", "List the trainings.")
        return run

    def all(self) -> list[TrainingRun]:
        """Return the trainings, the newest first."""
        with self._engine.unit_of_work(writes=False) as uow:
            return uow.trainings.all()

    def queued(self) -> list[TrainingRun]:
        """Return those that wait, the oldest first."""
        with self._engine.unit_of_work(writes=False) as uow:
            return uow.trainings.in_states([TrainingState.QUEUED])

    def trained_sha256(self, run_id: str) -> str:
        """Return the digest of the bundle that a training has made, empty before."""
        with self._engine.unit_of_work(writes=False) as uow:
            return uow.trainings.trained_sha256(run_id)

    # -- changes -------------------------------------------------------------------------------

    def move(self, run: TrainingRun, *, trained_sha256: str | None = None) -> TrainingRun:
        """Keep a training's new state; a final one with its audit record."""
        run = replace(run, updated_utc=utc_now())
        with self._engine.unit_of_work() as uow:
            uow.trainings.update(run, trained_sha256=trained_sha256)
            if run.is_final:
                self._record(run)
        return run

    def succeed(self, run: TrainingRun, candidate: Candidate) -> TrainingRun:
        """Keep the end of a training together with its candidate."""
        run = replace(run, updated_utc=utc_now(), candidate_id=candidate.candidate_id)
        with self._engine.unit_of_work() as uow:
            uow.candidates.add(candidate)
            uow.trainings.update(run)
            record_candidate(self._engine, candidate)
            self._record(run)
        return run

    def cut_short(self, auto_resume: bool) -> list[TrainingRun]:
        """Take over what a process that died or closed left; call it with the right to train.

        What ran goes back to the queue when ``auto_resume``; what the reader had paused waits for the reader.
        """
        with self._engine.unit_of_work(writes=False) as uow:
            found = uow.trainings.in_states([*ACTIVE_STATES, TrainingState.INTERRUPTED])
        moved = []
        for run in found:
            if run.state is TrainingState.CANCELLING:
                moved.append(self.move(replace(run, state=TrainingState.CANCELLED)))
                self.delete_files(run.run_id)
                continue
            if run.state is not TrainingState.INTERRUPTED:
                run = self.move(interrupted(run, CLOSED, "The program ended while it ran."))
                moved.append(run)
            if auto_resume and run.error_code == CLOSED and run.held_by != "reader":
                moved.append(self.move(queued_again(run)))
        return moved

    def delete_cases(self, run_id: str) -> None:
        """Delete the copies of images and labels; curves, checkpoints and the bundle stay."""
        for folder in (CASES, f"{RUN}/cache"):
            shutil.rmtree(self._folder(run_id) / folder, ignore_errors=True)

    def delete_files(self, run_id: str) -> None:
        """Delete all that a training has on disk."""
        shutil.rmtree(self._folder(run_id), ignore_errors=True)

    def _folder(self, run_id: str) -> Path:
        return self._engine.paths.training / run_id

    def _record(self, run: TrainingRun) -> None:
        cancelled = run.state is TrainingState.CANCELLED
        good = run.state is TrainingState.SUCCEEDED or cancelled
        self._engine.record(
            AuditCode.TRAINING_CANCELLED if cancelled else AuditCode.TRAINING_FINISHED,
            object_kind="model",
            object_ref=run.model_id,
            detail={
                "run_id": run.run_id,
                "model_id": run.model_id,
                "state": str(run.state),
                "epochs": run.epoch,
                "candidate_id": run.candidate_id,
            },
            outcome=AuditOutcome.SUCCESS if good else AuditOutcome.SERIOUS_FAILURE,
            reason=run.error_code,
        )


def interrupted(run: TrainingRun, code: str, message: str) -> TrainingRun:
    """Return a training that was cut short; a reader's pause is remembered."""
    held = "reader" if run.state is TrainingState.PAUSED else ""
    return replace(
        run,
        state=TrainingState.INTERRUPTED,
        eta_seconds=None,
        held_by=held,
        error_code=code,
        error=message,
        remedy="Resume it: it goes on from its last checkpoint.",
    )


def queued_again(run: TrainingRun) -> TrainingRun:
    """Return a training that waits for its turn once more."""
    return replace(
        run,
        state=TrainingState.QUEUED,
        waits_for="turn",
        held_by="",
        eta_seconds=None,
        error_code="",
        error="",
        remedy="",
    )
