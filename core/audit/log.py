"""Turns events into records of the chain, in the transaction of the change that they describe."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from core.audit.anchors import ANCHOR_EVERY, AnchorSigner
from core.audit.chain import GENESIS, Head, record_hash
from core.audit.detail import canonical_detail
from core.audit.head_file import HeadFile
from core.domain.audit import AuditEvent, AuditRecord
from core.domain.errors import EnvironmentFault

REASON_LIMIT = 200
_log = logging.getLogger(__name__)


class AuditStore(Protocol):
    """What the chain needs of the database."""

    def last(self) -> tuple[int, bytes] | None:
        """Return sequence number and hash of the last record."""

    def append(self, record: AuditRecord, prev: bytes, digest: bytes) -> None:
        """Insert a record."""

    def append_anchor(self, seq: int, head: bytes, ts_utc: str, signature: bytes, key_id: str) -> None:
        """Insert a signed head."""

    def has_anchor(self, seq: int) -> bool:
        """Whether the record is anchored."""


@dataclass(frozen=True)
class AuditContext:
    """Who and where: the same for all records of one process."""

    user_id: str
    os_user: str
    role: str
    session_id: str
    host: str
    app_version: str
    process: str
    boot_id: str

    @classmethod
    def of_process(
        cls, user_id: str, os_user: str, role: str, session_id: str, app_version: str
    ) -> AuditContext:
        """Return the context of this process."""
        process = f"{Path(sys.argv[0]).stem[:32] or 'python'}:{os.getpid()}"
        return cls(user_id, os_user, role, session_id, socket.gethostname(), app_version, process, boot_id())


class AuditLog:
    """Appends events to the chain. Used by one writer at a time (the unit of work sees to that).

    Parameters
    ----------
    key : bytes
        32 bytes, key of the chain.
    on_head : callable
        Called with a Head that carries an anchor, after its transaction was committed.
    """

    def __init__(
        self,
        key: bytes,
        signer: AnchorSigner,
        head_file: HeadFile,
        context: AuditContext,
        on_head: Callable[[Head], None] | None = None,
    ) -> None:
        self._key = key
        self._signer = signer
        self._head_file = head_file
        self.context = context
        self._on_head = on_head
        self._pending: Head | None = None
        self._pending_anchor = False

    def append(self, store: AuditStore, event: AuditEvent) -> None:
        """Append an event inside the store's transaction.

        Raises
        ------
        BugError
            If the detail holds a key or value that isn't allowed (``audit.detail``).
        """
        # Within a transaction nobody else appends: the writer lock and BEGIN IMMEDIATE see to that.
        last = self._pending or Head(*(store.last() or (0, GENESIS)))
        record = self._record(last.seq + 1, event)
        digest = record_hash(self._key, last.hash, record)
        store.append(record, last.hash, digest)
        self._pending = Head(record.seq, digest)
        if record.seq % ANCHOR_EVERY == 0:
            self._anchor(store, self._pending)

    def anchor_now(self, store: AuditStore) -> None:
        """Sign the present head, unless it is signed already or the chain is empty."""
        last = store.last()
        if last is not None and not store.has_anchor(last[0]):
            self._pending = Head(*last)
            self._anchor(store, self._pending)

    def committed(self) -> None:
        """Note the new head outside the database.

        When that fails, the change stays: it is on disk with its record, and a chain ahead of its witness is no
        break. The next commit tries again.
        """
        head, anchored = self._pending, self._pending_anchor
        self.rolled_back()
        if head is None:
            return
        try:
            self._head_file.advance(head)
            if anchored and self._on_head is not None:
                self._on_head(head)
        except EnvironmentFault as error:
            _log.warning("the end of the audit trail could not be noted (%s)", error.code)

    def rolled_back(self) -> None:
        """Forget what was appended."""
        self._pending, self._pending_anchor = None, False

    def _anchor(self, store: AuditStore, head: Head) -> None:
        anchor = self._signer.sign(head, utc_now())
        store.append_anchor(anchor.seq, anchor.head, anchor.ts_utc, anchor.signature, anchor.key_id)
        self._pending_anchor = True

    def _record(self, seq: int, event: AuditEvent) -> AuditRecord:
        where = self.context
        return AuditRecord(
            seq=seq,
            ts_utc=utc_now(),
            mono_ns=time.monotonic_ns(),
            boot_id=where.boot_id,
            user_id=where.user_id,
            os_user=where.os_user,
            role=where.role,
            session_id=where.session_id,
            host=where.host,
            app_version=where.app_version,
            process=where.process,
            event_code=str(event.code),
            event_type=event.code.name.lower().replace("_", "-"),
            action=event.action,
            object_kind=event.object_kind,
            object_ref=event.object_ref,
            n_objects=int(event.n_objects),
            detail_json=canonical_detail(event.detail),
            outcome=int(event.outcome),
            reason=event.reason[:REASON_LIMIT],
        )


def utc_now() -> str:
    """Return the time in UTC with microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def boot_id() -> str:
    """Return what tells one start of the computer from another, so that monotonic times can be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return f"boot-{round(time.time() - time.monotonic())}"
