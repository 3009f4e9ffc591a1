"""Files that an import couldn't take: other content under a known UID, and files that can't be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from core.library.files import resolved, stored_text
from core.library.repositories.chunks import in_chunks
from core.library.tables import ConflictRow, QuarantineRow
from core.library.vault import IdentityVault

_MOST_MESSAGE = 2000


@dataclass(frozen=True)
class ConflictRecord:
    """A file (``file``) whose SOP Instance UID the library has with other content."""

    conflict_id: str
    sop_instance_uid: str
    study_uid: str
    file: Path
    sha256: str
    seen_utc: str


@dataclass(frozen=True)
class QuarantineRecord:
    """A file that couldn't be imported; ``kept`` says that ``file`` is the library's own copy."""

    file_id: str
    file: Path
    code: str
    message: str
    seen_utc: str
    kept: bool


class ConflictRepository:
    """Conflicts that nobody has decided yet."""

    def __init__(self, session: Session, vault: IdentityVault, instances_folder: Path) -> None:
        self._session = session
        self._vault = vault
        self._folder = instances_folder

    def add(self, sop_instance_uid: str, study_uid: str, file: Path, sha256: str, seen_utc: str) -> str:
        """Note a conflict and return its identifier; the same content of the same UID is noted once."""
        conflict_id = self._vault.reference(f"conflict/{sop_instance_uid}/{sha256 or file}")
        self.remove(conflict_id)
        sealed = self._vault.seal_text(_conflict(conflict_id), stored_text(file, self._folder))
        self._session.execute(
            insert(ConflictRow).values(
                conflict_id=conflict_id,
                sop_instance_uid=sop_instance_uid,
                study_uid=study_uid,
                sealed_file=sealed,
                sha256=sha256,
                seen_utc=seen_utc,
            )
        )
        return conflict_id

    def get(self, conflict_id: str) -> ConflictRecord | None:
        """Return one conflict."""
        query = select(*ConflictRow.__table__.c).where(ConflictRow.conflict_id == conflict_id)
        row = self._session.execute(query).one_or_none()
        return None if row is None else self._record(row)

    def list(self) -> list[ConflictRecord]:
        """Return all conflicts, the newest first."""
        query = select(*ConflictRow.__table__.c)
        rows = self._session.execute(query.order_by(ConflictRow.seen_utc.desc(), ConflictRow.conflict_id))
        return [self._record(row) for row in rows]

    def of_studies(self, study_uids: Iterable[str]) -> Sequence[ConflictRecord]:
        """Return the conflicts of the studies."""
        query = select(*ConflictRow.__table__.c)
        return [
            self._record(row)
            for part in in_chunks(tuple(study_uids))
            for row in self._session.execute(query.where(ConflictRow.study_uid.in_(part)))
        ]

    def remove(self, conflict_id: str) -> bool:
        """Forget a conflict; False when there is no such."""
        outcome: Any = self._session.execute(
            delete(ConflictRow).where(ConflictRow.conflict_id == conflict_id)
        )
        return bool(outcome.rowcount)

    def _record(self, row: Any) -> ConflictRecord:
        text = self._vault.open_text(_conflict(row.conflict_id), row.sealed_file)
        return ConflictRecord(
            conflict_id=row.conflict_id,
            sop_instance_uid=row.sop_instance_uid,
            study_uid=row.study_uid,
            file=resolved(text, self._folder),
            sha256=row.sha256,
            seen_utc=row.seen_utc,
        )


class QuarantineRepository:
    """Files that couldn't be imported, and why."""

    def __init__(self, session: Session, vault: IdentityVault, instances_folder: Path) -> None:
        self._session = session
        self._vault = vault
        self._folder = instances_folder

    def put(self, file: Path, code: str, message: str, seen_utc: str, *, kept: bool = False) -> str:
        """Note a file and return its identifier; a file that is there already gets the new reason."""
        text = stored_text(file, self._folder)
        file_id = self._vault.reference(f"quarantine/{text}")
        self.remove(file_id)
        self._session.execute(
            insert(QuarantineRow).values(
                file_id=file_id,
                sealed_file=self._vault.seal_text(_quarantine(file_id), text),
                code=code[:64],
                message=message.replace("\0", "")[:_MOST_MESSAGE],
                seen_utc=seen_utc,
                kept=kept,
            )
        )
        return file_id

    def get(self, file_id: str) -> QuarantineRecord | None:
        """Return one file."""
        query = select(*QuarantineRow.__table__.c).where(QuarantineRow.file_id == file_id)
        row = self._session.execute(query).one_or_none()
        return None if row is None else self._record(row)

    def list(self) -> list[QuarantineRecord]:
        """Return all files, the newest first."""
        query = select(*QuarantineRow.__table__.c)
        rows = self._session.execute(query.order_by(QuarantineRow.seen_utc.desc(), QuarantineRow.file_id))
        return [self._record(row) for row in rows]

    def remove(self, file_id: str) -> bool:
        """Forget a file; False when there is no such."""
        outcome: Any = self._session.execute(delete(QuarantineRow).where(QuarantineRow.file_id == file_id))
        return bool(outcome.rowcount)

    def _record(self, row: Any) -> QuarantineRecord:
        text = self._vault.open_text(_quarantine(row.file_id), row.sealed_file)
        return QuarantineRecord(
            row.file_id, resolved(text, self._folder), row.code, row.message, row.seen_utc, row.kept
        )


def _conflict(conflict_id: str) -> str:
    return f"conflict/{conflict_id}"


def _quarantine(file_id: str) -> str:
    return f"quarantine/{file_id}"
