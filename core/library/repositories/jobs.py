"""The persistent queue of jobs."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.domain.errors import BugError, InputError
from core.library.repositories.chunks import in_chunks
from core.library.tables import JobRow

LEGAL_TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled", "failed", "interrupted"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "interrupted", "lost"}),
    "interrupted": frozenset({"queued", "cancelled"}),
    "lost": frozenset({"queued", "cancelled"}),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "succeeded": frozenset(),
}
"""From each state, the states that may follow. ``interrupted``: the program ended; ``lost``: the worker died."""


@dataclass(frozen=True)
class JobRecord:
    """One job as the queue keeps it; ``payload_json`` and ``error_json`` are the caller's JSON."""

    job_id: str
    kind: str
    title: str
    state: str
    payload_json: str
    error_json: str | None
    result_id: str | None
    created_utc: str
    updated_utc: str


class JobRepository:
    """Jobs in the order of their submission."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, job_id: str, kind: str, payload_json: str, title: str) -> None:
        """Append a job in state ``queued``."""
        now = _now()
        last = self._session.scalar(select(func.max(JobRow.number))) or 0
        self._session.add(
            JobRow(
                job_id=job_id,
                number=last + 1,
                kind=kind,
                title=title,
                state="queued",
                payload=payload_json,
                created_utc=now,
                updated_utc=now,
            )
        )
        self._session.flush()

    def naming(self, identifiers: Collection[str]) -> dict[str, str]:
        """Return the states of the jobs whose payload holds one of the identifiers (series keys, results), by job."""
        wanted = set(identifiers)
        rows = self._session.execute(select(JobRow.job_id, JobRow.state, JobRow.payload))
        return {row.job_id: row.state for row in rows if wanted & _texts(json.loads(row.payload))}

    def remove(self, job_ids: Collection[str]) -> None:
        """Delete jobs."""
        for part in in_chunks(list(job_ids)):
            self._session.execute(delete(JobRow).where(JobRow.job_id.in_(part)))

    def set_state(
        self, job_id: str, state: str, error_json: str | None = None, result_id: str | None = None
    ) -> None:
        """Move a job to another state.

        Raises
        ------
        InputError
            If there is no such job (``jobs.unknown``).
        BugError
            If the transition isn't in ``LEGAL_TRANSITIONS`` (``jobs.transition``).
        """
        row = self._session.get(JobRow, job_id)
        if row is None:
            raise InputError("jobs.unknown", f"There is no job {job_id}.", "List the jobs.")
        if state not in LEGAL_TRANSITIONS[row.state]:
            raise BugError(
                "jobs.transition",
                f"Job {job_id} can't go from {row.state} to {state}.",
                "Report this fault.",
            )
        row.state = state
        row.error = error_json
        row.result_id = result_id or row.result_id
        row.updated_utc = _now()
        self._session.flush()

    def get(self, job_id: str) -> JobRecord | None:
        """Return one job."""
        row = self._session.get(JobRow, job_id)
        return None if row is None else _record(row)

    def pending(self) -> list[JobRecord]:
        """Return queued and running jobs, the oldest first; after a restart the running ones were cut short."""
        query = select(JobRow).where(JobRow.state.in_(("queued", "running"))).order_by(JobRow.number)
        return [_record(row) for row in self._session.scalars(query)]

    def all(self, limit: int = 200) -> list[JobRecord]:
        """Return jobs, the newest first."""
        query = select(JobRow).order_by(JobRow.number.desc()).limit(limit)
        return [_record(row) for row in self._session.scalars(query)]


def _record(row: JobRow) -> JobRecord:
    return JobRecord(
        job_id=row.job_id,
        kind=row.kind,
        title=row.title,
        state=row.state,
        payload_json=row.payload,
        error_json=row.error,
        result_id=row.result_id,
        created_utc=row.created_utc,
        updated_utc=row.updated_utc,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _texts(value: Any) -> set[str]:
    """Return all texts within a JSON value."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(_texts, value)) if isinstance(value, list) else set()
