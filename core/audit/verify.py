"""Checks the whole chain: every hash, every anchor, and that the end is where it was last seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.audit.anchors import ANCHOR_EVERY, Anchor, AnchorSigner
from core.audit.chain import ChainBreak, ChainWalk, Head, link
from core.domain.audit import AuditVerification


class AuditReader(Protocol):
    """What the check reads."""

    def batches(self) -> Iterator[Sequence[tuple]]:
        """Yield rows (fields of AuditRecord, prev, hash) in order."""

    def json_batches(self) -> Iterator[Sequence[tuple]] | None:
        """Yield (seq, fields as JSON, prev, hash) in order, where the database can do that; raises ValueError."""

    def anchors(self) -> list[tuple[int, bytes, str, bytes, str]]:
        """Return (seq, head, time, signature, key id) of all anchors in order."""


@dataclass(frozen=True)
class Witness:
    """A head remembered outside the database. ``name`` says where; ``head`` is None when it is gone or forged."""

    name: str
    head: Head | None


def verify_chain(
    reader: AuditReader, key: bytes, signer: AnchorSigner, witnesses: Sequence[Witness]
) -> AuditVerification:
    """Check the chain against its key, its anchors and the witnesses.

    Returns the break with the smallest sequence number. Must run inside one read transaction, begun after the witnesses
    were read: the chain may be ahead of a witness, never behind.
    """
    anchors = [Anchor(*row) for row in reader.anchors()]
    watched = {a.seq for a in anchors} | {w.head.seq for w in witnesses if w.head}
    walk, events = _walked(reader, key, watched)
    breaks = [walk.broken] if walk.broken else []
    if not breaks:
        breaks += _anchor_breaks(anchors, walk, signer)
        breaks += [found for w in witnesses if (found := _witness_break(w, walk))]
    if not breaks:
        return AuditVerification(events, True, anchors=len(anchors))
    first = min(breaks, key=lambda found: found.seq)
    return AuditVerification(events, False, first.seq, first.reason, len(anchors))


def _walked(reader: AuditReader, key: bytes, watched: set[int]) -> tuple[ChainWalk, int]:
    """Return the walk over the whole chain and the number of records."""
    fast = reader.json_batches()
    if fast is not None:
        try:
            return _fed(ChainWalk(key, watched), fast)
        except ValueError:
            pass  # a record holds what JSON can't: the way below finds which
    return _fed(ChainWalk(key, watched), (list(map(link, rows)) for rows in reader.batches()))


def _fed(walk: ChainWalk, batches: Iterable[Sequence[tuple]]) -> tuple[ChainWalk, int]:
    events = 0
    for links in batches:
        events += len(links)
        walk.feed(links)
    return walk, events


def _anchor_breaks(anchors: Sequence[Anchor], walk: ChainWalk, signer: AnchorSigner) -> list[ChainBreak]:
    present = {a.seq for a in anchors}
    wanted = range(ANCHOR_EVERY, walk.head.seq + 1, ANCHOR_EVERY)
    found = [ChainBreak(seq, "anchor missing") for seq in wanted if seq not in present]
    for anchor in anchors:
        if anchor.seq > walk.head.seq:
            found.append(
                ChainBreak(walk.head.seq + 1, "records cut off after the last one (an anchor is ahead)")
            )
        elif walk.heads.get(anchor.seq) != anchor.head:
            found.append(ChainBreak(anchor.seq, "anchor names another hash"))
        elif not signer.is_genuine(anchor):
            found.append(ChainBreak(anchor.seq, "anchor's signature is wrong"))
    return found


def _witness_break(witness: Witness, walk: ChainWalk) -> ChainBreak | None:
    head = witness.head
    if head is None:
        return ChainBreak(walk.head.seq + 1, f"{witness.name} is missing or not genuine")
    if head.seq > walk.head.seq:
        return ChainBreak(walk.head.seq + 1, f"records missing at the end ({witness.name} has {head.seq})")
    if head.seq and walk.heads.get(head.seq) != head.hash:
        return ChainBreak(head.seq, f"record differs from the one that {witness.name} has seen")
    return None
