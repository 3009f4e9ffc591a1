"""The queue of jobs in the library, and which process a job belongs to.

Several processes may use one home (the window and a command line). Each holds a lock per job that it has not
finished; the operating system frees the lock when its holder dies, so a job whose lock is free and that is
not finished was cut short.
"""

from __future__ import annotations

import contextlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from core.config.locks import file_lock
from core.domain.errors import EnvironmentFault
from core.jobs.queue import StoredJob, error_from_json, error_to_json
from core.jobs.transitions import FINAL, JobState
from core.services.engine import Engine


class LibraryJobStore:
    """A ``core.jobs.queue.JobStore`` on the engine's library. Used by the board's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._folder = engine.paths.root / "jobs"
        self._held: dict[str, ExitStack] = {}

    def add(self, job: StoredJob) -> None:
        """Append a job and hold it."""
        self.claim(job.job_id)
        with self._engine.unit_of_work() as uow:
            uow.jobs.add(job.job_id, job.kind, json.dumps(job.request), job.title)

    def update(self, job: StoredJob) -> None:
        """Keep state, error and result; let go of a finished job, hold one that is tried again."""
        if job.state not in FINAL:
            self.claim(job.job_id)
        with self._engine.unit_of_work() as uow:
            uow.jobs.set_state(job.job_id, str(job.state), error_to_json(job.error), job.result_id)
        if job.state in FINAL:
            self.release(job.job_id)

    def all(self) -> list[StoredJob]:
        """Return the last 200 jobs of the library, the oldest first."""
        with self._engine.unit_of_work(writes=False) as uow:
            records = {record.job_id: record for record in [*uow.jobs.all(), *uow.jobs.pending()]}
        kept = sorted(records.values(), key=lambda record: record.created_utc)
        return [
            StoredJob(
                record.job_id,
                record.kind,
                record.title,
                JobState(record.state),
                _request(record.payload_json),
                error_from_json(record.error_json),
                record.result_id,
            )
            for record in kept
        ]

    def claim(self, job_id: str) -> bool:
        """Hold a job; False when another process does."""
        if job_id in self._held:
            return True
        stack = ExitStack()
        try:
            stack.enter_context(file_lock(self._lock(job_id), timeout_s=0.0))
        except EnvironmentFault:
            return False
        self._held[job_id] = stack
        return True

    def release(self, job_id: str) -> None:
        """Let go of a job."""
        stack = self._held.pop(job_id, None)
        if stack is not None:
            stack.close()
            with contextlib.suppress(OSError):
                self._lock(job_id).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of all jobs."""
        for job_id in list(self._held):
            self.release(job_id)

    def _lock(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.lock"


def _request(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
