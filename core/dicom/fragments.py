"""Encapsulated pixel data: where each frame's compressed bytes lie. Source: DICOM PS3.5 A.4."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

from core.dicom.faults import malformed
from core.dicom.part10 import ParsedFile
from core.dicom.source import ByteSource

_ITEM = b"\xfe\xff\x00\xe0"
_END = b"\xfe\xff\xdd\xe0"
MAX_FRAGMENTS = 2_000_000


@dataclass(frozen=True, slots=True)
class Fragment:
    """One item of encapsulated pixel data: offset of its value in the file, and its length."""

    offset: int
    length: int


@dataclass(frozen=True)
class FragmentTable:
    """All fragments after the basic offset table, and the table itself (offsets from the first fragment)."""

    fragments: tuple[Fragment, ...]
    basic_offsets: tuple[int, ...]


def read_fragments(source: ByteSource, start: int) -> FragmentTable:
    """List the fragments that begin at ``start``.

    Raises
    ------
    InputError
        ``dicom.truncated`` when a fragment or the closing delimiter is missing, with n of m bytes.
    """
    fragments: list[Fragment] = []
    position = start
    offsets: tuple[int, ...] = ()
    first = True
    while True:
        if position + 8 > source.size:
            raise malformed(
                f"Pixel Data has no end: {len(fragments)} fragments, then the file stops at byte {source.size}.",
                "dicom.truncated",
            )
        marker = source.read(position, 8)
        if marker[:4] == _END:
            break
        if marker[:4] != _ITEM:
            raise malformed(f"Pixel Data is damaged at byte {position}: no fragment begins there.")
        (length,) = struct.unpack("<I", marker[4:])
        remaining = source.size - position - 8
        if length > remaining:
            raise malformed(
                f"A fragment of Pixel Data is incomplete: {remaining} of {length} bytes.", "dicom.truncated"
            )
        if first:
            table = source.read(position + 8, length) if length else b""
            offsets = struct.unpack(f"<{length // 4}I", table[: length // 4 * 4])
            first = False
        else:
            fragments.append(Fragment(position + 8, length))
        if len(fragments) > MAX_FRAGMENTS:
            raise malformed(f"Pixel Data has more than {MAX_FRAGMENTS} fragments.")
        position += 8 + length
    return FragmentTable(tuple(fragments), offsets)


def encapsulated_shortfall(parsed: ParsedFile, frames: int) -> None:
    """Raise InputError when the fragments of ``parsed`` are incomplete or fewer than the frames."""
    assert parsed.pixels is not None
    with ByteSource.open(parsed.file) as source:
        table = read_fragments(source, parsed.pixels.offset)
    if len(table.fragments) < frames:
        raise malformed(
            f"Pixel Data is incomplete: {len(table.fragments)} fragments for {frames} frames.",
            "dicom.truncated",
        )


def frames_of(table: FragmentTable, frames: int) -> tuple[tuple[Fragment, ...], ...]:
    """Assign fragments to frames by the basic offset table, or one each, or all to the only frame.

    Raises
    ------
    InputError
        When fragments cannot be told apart (``dicom.frame_boundaries``).
    """
    fragments = table.fragments
    if frames == 1:
        return (fragments,)
    if len(fragments) == frames:
        return tuple((fragment,) for fragment in fragments)
    if len(table.basic_offsets) >= frames and fragments:
        origin = fragments[0].offset - 8
        starts = [*table.basic_offsets[:frames], 1 << 62]
        groups = tuple(
            tuple(f for f in fragments if low <= f.offset - 8 - origin < high)
            for low, high in pairwise(starts)
        )
        if all(groups):
            return groups
    raise malformed(
        f"{len(fragments)} fragments cannot be assigned to {frames} frames: the offset table is missing.",
        "dicom.frame_boundaries",
    )
