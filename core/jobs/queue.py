"""The queue of jobs: in memory for everybody, in the database for the next start.

The queue in memory is the truth of this process and may be asked and changed from any thread without
waiting for the disk. Every change is also noted; the owner's thread writes the notes to the store with
``save`` (a window must not wait for a database).
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from core.domain.errors import AppError, InputError
from core.jobs.transitions import FINAL, JobState, Trigger, next_state


@dataclass(frozen=True)
class JobError:
    """Why a job did not succeed; ``family`` is the name of the AppError's class."""

    code: str
    message: str
    remedy: str = ""
    family: str = "BugError"

    @classmethod
    def of(cls, error: AppError) -> JobError:
        """Describe an error."""
        return cls(error.code, error.user_message, error.remedy, type(error).__name__)


@dataclass(frozen=True)
class JobView:
    """What a list of jobs shows.

    ``error`` is the message with its remedy, empty when there is none; ``failure`` has its parts.
    ``fraction`` is that of the whole job (0…1). ``outcome`` is set when the job has succeeded in this process.
    """

    job_id: str
    kind: str
    title: str
    state: str
    phase: str = ""
    fraction: float = 0.0
    eta_seconds: float | None = None
    error: str = ""
    result_id: str | None = None
    failure: JobError | None = None
    outcome: dict[str, Any] = field(default_factory=dict)
    model_id: str = ""
    series_key: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the job stays as it is until somebody retries it."""
        return self.state in FINAL

    @property
    def can_retry(self) -> bool:
        """Whether ``retry`` is allowed."""
        return self.is_final and self.state != JobState.SUCCEEDED


@dataclass(frozen=True)
class StoredJob:
    """A job as the store keeps it; ``request`` is what is needed to run it again."""

    job_id: str
    kind: str
    title: str
    state: str
    request: dict[str, Any]
    error: JobError | None = None
    result_id: str | None = None


class JobStore(Protocol):
    """Where the queue survives."""

    def add(self, job: StoredJob) -> None:
        """Append a job."""

    def update(self, job: StoredJob) -> None:
        """Keep state, error and result of a job."""

    def all(self) -> list[StoredJob]:
        """Return the kept jobs, the oldest first."""


class JobQueue:
    """Jobs in the order of their submission. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._jobs: dict[str, JobView] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, JobState] = {}
        self._notes: deque[str] = deque()

    def add(self, kind: str, title: str, request: dict[str, Any]) -> JobView:
        """Append a job and return its view."""
        view = _named(JobView(uuid.uuid4().hex, kind, title, JobState.QUEUED), request)
        with self._lock:
            self._jobs[view.job_id] = view
            self._requests[view.job_id] = dict(request)
            self._notes.append(view.job_id)
        return view

    def restore(self, job: StoredJob) -> None:
        """Take over a job that the store has."""
        view = JobView(
            job.job_id,
            job.kind,
            job.title,
            job.state,
            fraction=1.0 if job.state == JobState.SUCCEEDED else 0.0,
            error=_text(job.error),
            result_id=job.result_id,
            failure=job.error,
        )
        with self._lock:
            self._jobs[job.job_id] = _named(view, job.request)
            self._requests[job.job_id] = dict(job.request)
            self._kept[job.job_id] = JobState(job.state)

    def next_queued(self) -> JobView | None:
        """Return the oldest job that waits."""
        with self._lock:
            return next((view for view in self._jobs.values() if view.state == JobState.QUEUED), None)

    def request(self, job_id: str) -> dict[str, Any]:
        """Return what the job was asked for."""
        with self._lock:
            self.get(job_id)
            return dict(self._requests[job_id])

    def get(self, job_id: str) -> JobView:
        """Return a job.

        Raises
        ------
        InputError
            If there is none of that identifier (``jobs.unknown``).
        """
        with self._lock:
            if job_id not in self._jobs:
                raise InputError("jobs.unknown", f"There is no job {job_id}.", "Look at the list of jobs.")
            return self._jobs[job_id]

    def views(self) -> list[JobView]:
        """Return all jobs, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def move(
        self,
        job_id: str,
        trigger: Trigger,
        *,
        error: JobError | None = None,
        result_id: str | None = None,
        outcome: dict[str, Any] | None = None,
    ) -> JobView:
        """Take a job through the table of transitions.

        Raises
        ------
        BugError
            If the table has no such transition.
        """
        with self._lock:
            old = self.get(job_id)
            state = next_state(JobState(old.state), trigger)
            new = replace(
                old,
                state=state,
                phase=old.phase if state in (JobState.RUNNING, JobState.CANCELLING) else "",
                fraction=1.0
                if state == JobState.SUCCEEDED
                else (0.0 if state == JobState.QUEUED else old.fraction),
                eta_seconds=None,
                failure=error,
                error=_text(error),
                result_id=result_id or old.result_id,
                outcome=outcome or {},
            )
            self._jobs[job_id] = new
            self._notes.append(job_id)
            return new

    def progress(self, job_id: str, phase: str, fraction: float, eta_seconds: float | None) -> JobView:
        """Note how far a running job is."""
        with self._lock:
            old = self.get(job_id)
            state = next_state(JobState(old.state), Trigger.PROGRESSED)
            new = replace(old, state=state, phase=phase, fraction=fraction, eta_seconds=eta_seconds)
            self._jobs[job_id] = new
            return new

    def retitle(self, job_id: str, title: str) -> None:
        """Give a job a better title, once the model's is known."""
        with self._lock:
            self._jobs[job_id] = replace(self.get(job_id), title=title)

    def save(self, store: JobStore) -> None:
        """Write what has changed since the last call. Call it from one thread only.

        Raises
        ------
        AppError
            If the store cannot be written; the notes are kept for the next call.
        """
        while self._notes:
            with self._lock:
                job_id = self._notes[0]
                job = self._stored(job_id)
            self._save_one(store, job)
            with self._lock:
                self._notes.popleft()

    def _save_one(self, store: JobStore, job: StoredJob) -> None:
        """Write one job, by the states that the store allows: it knows no ``cancelling``."""
        state, kept = JobState(job.state), self._kept.get(job.job_id)
        if kept is None:
            store.add(replace(job, state=JobState.QUEUED))
            kept = self._kept[job.job_id] = JobState.QUEUED
        if state == JobState.CANCELLING:
            state = JobState.RUNNING
        for step in _steps(kept, state):
            store.update(replace(job, state=step))
            self._kept[job.job_id] = step

    def _stored(self, job_id: str) -> StoredJob:
        view = self._jobs[job_id]
        request = self._requests[job_id]
        return StoredJob(job_id, view.kind, view.title, view.state, request, view.failure, view.result_id)


def _named(view: JobView, request: dict[str, Any]) -> JobView:
    return replace(
        view,
        model_id=str(request.get("model_id", "")),
        series_key=str(request.get("series_key", "")),
        result_id=view.result_id or request.get("result_id") or None,
    )


def _steps(kept: JobState, state: JobState) -> Iterable[JobState]:
    """Return the states to write: several notes may have become one, but the store wants every step."""
    if kept == state:
        return ()
    steps = [state]
    if state in (JobState.SUCCEEDED, JobState.LOST) and kept != JobState.RUNNING:
        steps.insert(0, JobState.RUNNING)
    if kept in FINAL and state != JobState.QUEUED:
        steps.insert(0, JobState.QUEUED)
    if kept == JobState.RUNNING and state == JobState.QUEUED:
        steps.insert(0, JobState.INTERRUPTED)
    return steps


def error_to_json(error: JobError | None) -> str | None:
    """Return an error as the store keeps it."""
    if error is None:
        return None
    return json.dumps(
        {"code": error.code, "message": error.message, "remedy": error.remedy, "family": error.family}
    )


def error_from_json(text: str | None) -> JobError | None:
    """Return the error of a stored text; a text of another making becomes the message."""
    if not text:
        return None
    try:
        document = json.loads(text)
        return JobError(**{name: str(document[name]) for name in ("code", "message", "remedy", "family")})
    except (ValueError, KeyError, TypeError):
        return JobError("jobs.failed", "The job failed in an earlier session.")


def _text(error: JobError | None) -> str:
    return f"{error.message} {error.remedy}".strip() if error is not None else ""
