"""Rows of the audit trail; what they mean and whether they fit together is known to ``core.audit``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from core.domain.audit import AuditRecord
from core.domain.errors import EnvironmentFault
from core.library.tables import AnchorRow, AuditRow, Base

_COLUMNS = tuple(AuditRow.__table__.c)
_FIELDS = ", ".join(column.name for column in _COLUMNS[:-2])
_BATCH = 5000
_LAST = select(AuditRow.seq, AuditRow.hash).order_by(AuditRow.seq.desc()).limit(1)
_INSERT = insert(Base.metadata.tables[AuditRow.__tablename__])


class AuditRepository:
    """Appends to and reads the chain inside the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def last(self) -> tuple[int, bytes] | None:
        """Return sequence number and hash of the last record."""
        row = self._session.execute(_LAST).first()
        return None if row is None else (row.seq, bytes(row.hash))

    def append(self, record: AuditRecord, prev: bytes, digest: bytes) -> None:
        """Insert a record."""
        self._session.execute(_INSERT, {**record.__dict__, "prev": prev, "hash": digest})

    def append_anchor(self, seq: int, head: bytes, ts_utc: str, signature: bytes, key_id: str) -> None:
        """Insert a signed head."""
        values = {"seq": seq, "head": head, "ts_utc": ts_utc, "sig": signature, "key_id": key_id}
        self._session.execute(insert(AnchorRow).values(**values))

    def has_anchor(self, seq: int) -> bool:
        """Whether the record is anchored."""
        return self._session.get(AnchorRow, seq) is not None

    def anchors(self) -> list[tuple[int, bytes, str, bytes, str]]:
        """Return (seq, head, time, signature, key id) of all anchors in order."""
        rows = self._session.execute(select(*AnchorRow.__table__.c).order_by(AnchorRow.seq))
        return [(r.seq, bytes(r.head), r.ts_utc, bytes(r.sig), r.key_id) for r in rows]

    def count(self) -> int:
        """Number of records."""
        return self._session.scalar(select(func.count()).select_from(AuditRow)) or 0

    def batches(self) -> Iterator[Sequence[Any]]:
        """Yield rows (fields of AuditRecord, prev, hash) in order, some thousand at a time."""
        unreadable = EnvironmentFault(
            "audit.unreadable", "The audit trail can't be read.", "Check the library, or restore a backup."
        )
        return self._raw(f"SELECT {_FIELDS}, prev, hash FROM audit ORDER BY seq", unreadable)

    def json_batches(self) -> Iterator[Sequence[Any]] | None:
        """Yield (seq, fields as a JSON array, prev, hash) in order on SQLite, which builds the JSON itself.

        That halves the time of a verification. The iterator raises ValueError when a field holds bytes, which only a
        changed database has. None on PostgreSQL.
        """
        if self._session.connection().dialect.name != "sqlite":
            return None
        statement = f"SELECT seq, json_array({_FIELDS}), prev, hash FROM audit ORDER BY seq"
        return self._raw(statement, ValueError("a record can't be told as JSON"))

    def _raw(self, statement: str, failure: Exception) -> Iterator[Sequence[Any]]:
        # Straight from the driver: a Row object per record would cost more than its hash.
        connection = self._session.connection()
        cursor = connection.connection.cursor()
        try:
            cursor.execute(statement)
            while rows := cursor.fetchmany(_BATCH):
                yield rows
        except connection.dialect.loaded_dbapi.Error as error:
            raise failure from error
        finally:
            cursor.close()

    def newest(self, event_code: str, limit: int) -> list[AuditRecord]:
        """Return the last records of one kind, the newest first."""
        query = select(*_COLUMNS[:-2]).where(AuditRow.event_code == event_code)
        query = query.order_by(AuditRow.seq.desc()).limit(limit)
        return [AuditRecord(*row) for row in self._session.execute(query)]

    def records(
        self, since_utc: str = "", limit: int | None = None, newest_first: bool = False
    ) -> list[AuditRecord]:
        """Return records at or after a time, in order of their number."""
        query = select(*_COLUMNS[:-2]).where(AuditRow.ts_utc >= since_utc)
        query = query.order_by(AuditRow.seq.desc() if newest_first else AuditRow.seq)
        if limit is not None:
            query = query.limit(limit)
        return [AuditRecord(*row) for row in self._session.execute(query)]
