"""The hash chain: each record's hash covers the record and the hash before it.

``hash = HMAC-SHA256(K, prev ‖ canonical JSON of the record)``. Without the key K nobody can write a record
that fits; an edit, a deletion, an insertion or a swap breaks the chain at the first record touched.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from core.domain.audit import AuditRecord

GENESIS = bytes(32)
FIELDS = tuple(f.name for f in fields(AuditRecord))
RawRow = tuple  # (*FIELDS, prev, hash)

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True)
class Head:
    """The end of a chain: sequence number and hash of its last record; (0, zeros) when it is empty."""

    seq: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True)
class ChainBreak:
    """The first record that doesn't fit, and why."""

    seq: int
    reason: str


def record_hash(key: bytes, prev: bytes, record: AuditRecord) -> bytes:
    """Return the 32-byte hash of a record that follows the hash ``prev``."""
    return hmac.digest(key, prev + _encode(astuple(record)).encode("ascii"), "sha256")


class ChainWalk:
    """Walks rows in order and keeps the first break. Call ``feed`` with batches, then read ``head``."""

    def __init__(self, key: bytes, watch: Iterable[int] = ()) -> None:
        self._key = key
        self._watch = frozenset(watch)
        self.head = Head()
        self.broken: ChainBreak | None = None
        self.heads: dict[int, bytes] = {}

    def feed(self, rows: Iterable[RawRow]) -> bool:
        """Check rows (record fields, prev, hash) that follow those fed before; False once the chain is broken."""
        if self.broken:
            return False
        key, seq, last, digest, watch = self._key, self.head.seq, self.head.hash, hmac.digest, self._watch
        for row in rows:
            seq += 1
            if row[0] != seq:
                reason = "record missing" if row[0] > seq else "record out of order"
                self.broken = ChainBreak(min(seq, row[0]), reason)
                break
            prev, stored = row[-2], row[-1]
            if prev != last:
                self.broken = ChainBreak(seq, "record doesn't follow the one before it")
                break
            expected = digest(key, last + _encode(row[:-2]).encode("ascii"), "sha256")
            if expected != stored:
                self.broken = ChainBreak(seq, "record was changed")
                break
            last = expected
            if seq in watch:
                self.heads[seq] = last
        if self.broken:
            seq = self.broken.seq - 1
        self.head = Head(seq, last)
        return self.broken is None
