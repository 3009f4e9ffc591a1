"""The hash chain: each record's hash covers the record and the hash before it.

``hash = HMAC-SHA256(K, prev ‖ canonical JSON of the record)``. Without the key K nobody can write a record
that fits; an edit, a deletion, an insertion or a swap breaks the chain at the first record touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from json.encoder import encode_basestring_ascii as _quoted

from core.domain.audit import AuditRecord

GENESIS = bytes(32)
FIELDS = tuple(f.name for f in fields(AuditRecord))

_BLOCK_BYTES = 64
_TEXTS = tuple(f.type == "str" for f in fields(AuditRecord))
_TEMPLATE = "[" + ",".join(["%s"] * len(FIELDS)) + "]"


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


def canonical(values: tuple) -> bytes:
    """Return the canonical JSON of a record's fields: an array in their order, ASCII, no spaces.

    Raises
    ------
    TypeError
        If a text field holds something else, which only a changed database gives.
    """
    # What json.dumps gives, twice as fast: a verification does this for every record.
    return (_TEMPLATE % tuple([_quoted(v) if t else v for v, t in zip(values, _TEXTS, strict=True)])).encode(
        "ascii"
    )


def record_hash(key: bytes, prev: bytes, record: AuditRecord) -> bytes:
    """Return the 32-byte hash of a record that follows the hash ``prev``."""
    return KeyedHash(key).of(prev + canonical(astuple(record)))


class KeyedHash:
    """HMAC-SHA256 whose key is absorbed once. Source: RFC 2104."""

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK_BYTES, b"\0")
        if len(padded) != _BLOCK_BYTES:
            raise ValueError("the key is longer than a block")
        self._inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded))
        self._outer = hashlib.sha256(bytes(b ^ 0x5C for b in padded))

    def of(self, message: bytes) -> bytes:
        """Return the 32-byte code of a message."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


Link = tuple[int, str, bytes, bytes]
"""Sequence number, JSON of the record's fields, stored previous hash, stored hash."""


class ChainWalk:
    """Walks records in order and keeps the first break. Call ``feed`` with batches, then read ``head``.

    Parameters
    ----------
    key : bytes
        The chain's key.
    watch : iterable of int
        Sequence numbers whose hashes are kept in ``heads``.
    """

    def __init__(self, key: bytes, watch: Iterable[int] = ()) -> None:
        self._keyed = KeyedHash(key)
        self._watch = frozenset(watch)
        self.head = Head()
        self.broken: ChainBreak | None = None
        self.heads: dict[int, bytes] = {}

    def feed(self, links: Iterable[Link]) -> bool:
        """Check records that follow those fed before; False once the chain is broken."""
        if self.broken:
            return False
        seq, last, keyed, watch = self.head.seq, self.head.hash, self._keyed.of, self._watch
        for number, text, prev, stored in links:
            seq += 1
            fits = number == seq and prev == last
            if not fits or (keyed(last + text.encode()) != stored and self._differs(last, text, stored)):
                self.broken = _break(seq, number, prev == last)
                seq = self.broken.seq - 1
                break
            last = stored
            if seq in watch:
                self.heads[seq] = last
        self.head = Head(seq, last)
        return self.broken is None

    def _differs(self, last: bytes, text: str, stored: bytes) -> bool:
        """Whether the hash is wrong for the canonical form too: a database writes rare characters unescaped."""
        try:
            return self._keyed.of(last + canonical(tuple(json.loads(text)))) != stored
        except (TypeError, ValueError):
            return True


def link(row: tuple) -> Link:
    """Return the link of a row: the fields of AuditRecord, previous hash, hash."""
    try:
        text = canonical(row[:-2]).decode("ascii")
    except TypeError:
        text = ""
    return row[0], text, row[-2], row[-1]


def _break(seq: int, number: int, follows: bool) -> ChainBreak:
    if number > seq:
        return ChainBreak(seq, "record missing")
    if number < seq:
        return ChainBreak(number, "record out of order")
    return ChainBreak(seq, "record was changed" if follows else "record doesn't follow the one before it")
