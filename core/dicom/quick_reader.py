"""Headers of many files: each is told as its difference from one that was read before, where there is such a one.

Used in this process and in scanner processes (``scanner_process``); needs no numpy, so that those start fast.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from core.dicom.part10 import ParsedFile, parse_file
from core.dicom.skeleton import DATA_BEGINS, Piece, Skeleton
from core.domain.errors import AppError

MOST_SKELETONS = 12
BASES_KEPT = 2048
"""Headers that others may refer to; reader and receiver forget the older ones alike."""
_LEAST_WINDOW, _MOST_WINDOW = 8192, 1 << 18
_SPARE = 2048
_META_INSTANCE, _META_LENGTH = 0x00020003, 0x00020000
_INSTANCE, _SERIES, _STUDY = 0x00080018, 0x0020000E, 0x0020000D
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

Stamp = tuple[int, int, int]


class Like(NamedTuple):
    """A header that equals the base's but for some values, and where the pixels lie.

    Of the meta information only the SOP Instance UID and the group's length may differ; those aren't told.
    """

    base: int
    changes: dict[int, bytes]
    pixels_at: int
    pixels_length: int
    stamp: Stamp


class Whole(NamedTuple):
    """A header read element by element; others may refer to it as ``base`` unless that is negative."""

    base: int
    parsed: ParsedFile


@dataclass(slots=True)
class _Base:
    number: int
    values: list[bytes]
    pieces: list[Piece]
    version: int


class QuickReader:
    """Reads headers one after the other. Not thread-safe."""

    def __init__(self, wanted: Collection[int]) -> None:
        self._wanted = wanted
        self._skeletons: list[Skeleton] = []
        self._bases: dict[tuple[Skeleton, object, object], _Base] = {}
        self._next = 0
        self._window = _LEAST_WINDOW

    def read(self, file: str) -> Like | Whole:
        """Read a header.

        Raises
        ------
        NotDicom, InputError, OSError
            As ``parse_file``.
        """
        handle = os.open(file, _OPEN)
        try:
            status = os.fstat(handle)
            window = os.read(handle, self._window) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(handle)
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        for place, skeleton in enumerate(self._skeletons):
            found = skeleton.read(window)
            if found is None:
                continue
            if place:
                self._skeletons.insert(0, self._skeletons.pop(place))
            told = self._difference(skeleton, found, stamp)
            if told is not None:
                return told
            break
        return self._slowly(file, stamp)

    def _difference(
        self, skeleton: Skeleton, found: tuple[list[Piece], int, int], stamp: Stamp
    ) -> Like | None:
        """Return what differs from the base of the same series; None when there is no usable base."""
        pieces, pixels_at, length = found
        base = self._bases.get((skeleton, *skeleton.identity(pieces)))
        if base is None:
            return None
        if base.version != skeleton.version:
            base.pieces, base.version = skeleton.grouped(base.values), skeleton.version
        changes = skeleton.differences(pieces, base.pieces)
        if changes.pop(_META_INSTANCE, None) is not None:
            changes.pop(_META_LENGTH, None)
        if not skeleton.fixed.isdisjoint(changes) or not skeleton.instance(pieces).strip(b" \0"):
            return None
        return Like(base.number, changes, pixels_at, length, stamp)

    def _slowly(self, file: str, stamp: Stamp) -> Whole:
        parsed = parse_file(Path(file), self._wanted)
        plain = parsed.deflated_from is None and parsed.syntax.little_endian and not parsed.vr_mismatch
        if not plain or parsed.pixels is None or parsed.foreign_preamble or parsed.stamp != stamp:
            return Whole(-1, parsed)
        header_bytes = parsed.pixels.offset
        if header_bytes > _MOST_WINDOW:
            return Whole(-1, parsed)
        self._window = max(self._window, -(-(header_bytes + _SPARE) // 4096) * 4096)
        skeleton, pieces = self._skeleton_of(file, parsed, header_bytes)
        if skeleton is None:
            return Whole(-1, parsed)
        number = self._next
        self._next += 1
        key = (skeleton, *skeleton.identity(pieces))
        self._bases[key] = _Base(number, skeleton.flat(pieces), pieces, skeleton.version)
        if len(self._bases) > BASES_KEPT // 2:
            self._bases = {
                key: base for key, base in self._bases.items() if base.number > number - BASES_KEPT // 4
            }
        return Whole(number, parsed)

    def _skeleton_of(
        self, file: str, parsed: ParsedFile, header_bytes: int
    ) -> tuple[Skeleton | None, list[Piece]]:
        """Return the skeleton that fits a file, a new one when none does; None when it can have none."""
        with Path(file).open("rb", buffering=0) as stream:
            window = stream.read(header_bytes) or b""
        for skeleton in self._skeletons:
            found = skeleton.read(window)
            if found is not None:
                return skeleton, found[0]
        if len(window) < header_bytes or window[128:DATA_BEGINS] != b"DICM":
            return None, []
        try:
            skeleton = Skeleton(window, parsed.begin, parsed.syntax.explicit, self._wanted)
        except (AppError, ValueError, LookupError):
            return None, []
        if not skeleton.bind(parsed.elements, (_STUDY, _SERIES, _INSTANCE)):
            return None, []
        self._skeletons.insert(0, skeleton)
        del self._skeletons[MOST_SKELETONS:]
        return skeleton, skeleton.grouped(skeleton.values)
