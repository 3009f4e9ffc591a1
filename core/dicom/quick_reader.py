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
from core.dicom.skeleton import DATA_BEGINS, Piece, Skeleton, Twin
from core.domain.errors import AppError

MOST_SKELETONS = 12
MOST_TWINS = 8
_MOST_REBUILT = 8
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
    rebuilt: int = 0


@dataclass(slots=True, eq=False)
class _Entry:
    """A twin, and the one that the file after its last one belonged to."""

    base: _Base
    skeleton: Skeleton
    twin: Twin
    after: _Entry | None = None


class QuickReader:
    """Reads headers one after the other. Not thread-safe."""

    def __init__(self, wanted: Collection[int]) -> None:
        self._wanted = wanted
        self._skeletons: list[Skeleton] = []
        self._bases: dict[tuple[Skeleton, object, object], _Base] = {}
        self._twins: list[_Entry] = []
        self._last: _Entry | None = None
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
        told = self._as_twin(window, stamp)
        if told is not None:
            return told
        for place, skeleton in enumerate(self._skeletons):
            found = skeleton.read(window)
            if found is None:
                continue
            if place:
                self._skeletons.insert(0, self._skeletons.pop(place))
            told = self._difference(skeleton, found, stamp, window)
            if told is not None:
                return told
            break
        return self._slowly(file, stamp)

    def _difference(
        self, skeleton: Skeleton, found: tuple[list[Piece], int, int], stamp: Stamp, window: bytes
    ) -> Like | None:
        """Return what differs from the base of the same series; None when there is no usable base."""
        pieces, pixels_at, length = found
        base = self._bases.get((skeleton, *skeleton.identity(pieces)))
        if base is None or not self._is_remembered(base):
            return None
        if base.version != skeleton.version:
            base.pieces, base.version = skeleton.grouped(base.values), skeleton.version
        changes = skeleton.differences(pieces, base.pieces)
        moved = tuple(changes)
        if not skeleton.instance(pieces).strip(b" \0"):
            return None
        told = _like(skeleton, base, (changes, pixels_at, length), stamp)
        if told is not None:
            self._twin(skeleton, base, window[:pixels_at], moved)
        return told

    def _is_remembered(self, base: _Base) -> bool:
        """Whether the receiver still knows a base."""
        return self._next - base.number <= BASES_KEPT

    def _as_twin(self, window: bytes, stamp: Stamp) -> Like | None:
        """Return what differs from a base whose files differ in known places; None when it isn't such a file."""
        last = self._last
        guess = last.after if last is not None else None
        if guess is not None and (same := guess.twin.read(window)) is not None:
            self._last = guess
            return _like(guess.skeleton, guess.base, same, stamp) if self._is_remembered(guess.base) else None
        for entry in self._twins:
            if entry is not guess and (same := entry.twin.read(window)) is not None:
                if last is not None:
                    last.after = entry  # series are often mixed in a regular order
                self._last = entry
                return (
                    _like(entry.skeleton, entry.base, same, stamp)
                    if self._is_remembered(entry.base)
                    else None
                )
        return None

    def _keep_twin(self, skeleton: Skeleton, base: _Base, window: bytes) -> None:
        twin = skeleton.twin(window, base.values)
        if twin is not None:
            entry = _Entry(base, skeleton, twin)
            entry.after = entry
            if self._last is not None:
                self._last.after = entry
            self._last = entry
            self._twins.insert(0, entry)
            for old in self._twins[MOST_TWINS:]:
                old.after = None
            del self._twins[MOST_TWINS:]

    def _twin(self, skeleton: Skeleton, base: _Base, window: bytes, moved: Collection[int]) -> None:
        """Make what reads the next files of this series faster, from one that was read."""
        if base.rebuilt > _MOST_REBUILT:  # its files differ in ever new places
            return
        base.rebuilt += 1
        former = next((entry for entry in self._twins if entry.base is base), None)
        if former is not None:
            self._twins.remove(former)
            former.after = None
        skeleton.note_moving(window if former is None else former.twin.window, window, moved)
        self._keep_twin(skeleton, base, window)

    def _slowly(self, file: str, stamp: Stamp) -> Whole:
        parsed = parse_file(Path(file), self._wanted)
        plain = parsed.deflated_from is None and parsed.syntax.little_endian and not parsed.vr_mismatch
        if not plain or parsed.pixels is None or parsed.foreign_preamble or parsed.stamp != stamp:
            return Whole(-1, parsed)
        header_bytes = parsed.pixels.offset
        if header_bytes > _MOST_WINDOW:
            return Whole(-1, parsed)
        self._window = max(self._window, -(-(header_bytes + _SPARE) // 4096) * 4096)
        skeleton, pieces, window = self._skeleton_of(file, parsed, header_bytes)
        if skeleton is None:
            return Whole(-1, parsed)
        number = self._next
        self._next += 1
        key = (skeleton, *skeleton.identity(pieces))
        base = self._bases[key] = _Base(number, skeleton.flat(pieces), pieces, skeleton.version)
        if skeleton.instance(pieces).strip(b" \0"):
            self._keep_twin(skeleton, base, window)
        else:
            base.rebuilt = _MOST_REBUILT + 1  # nothing may be told as its twin
        if len(self._bases) > BASES_KEPT // 2:
            self._bases = {
                key: base for key, base in self._bases.items() if base.number > number - BASES_KEPT // 4
            }
        return Whole(number, parsed)

    def _skeleton_of(
        self, file: str, parsed: ParsedFile, header_bytes: int
    ) -> tuple[Skeleton | None, list[Piece], bytes]:
        """Return the skeleton that fits a file, a new one when none does; None when it can have none."""
        with Path(file).open("rb", buffering=0) as stream:
            window = stream.read(header_bytes) or b""
        for skeleton in self._skeletons:
            found = skeleton.read(window)
            if found is not None:
                return skeleton, found[0], window
        if len(window) < header_bytes or window[128:DATA_BEGINS] != b"DICM":
            return None, [], b""
        try:
            skeleton = Skeleton(window, parsed.begin, parsed.syntax.explicit, self._wanted)
        except (AppError, ValueError, LookupError):
            return None, [], b""
        if not skeleton.bind(parsed.elements, (_STUDY, _SERIES, _INSTANCE)):
            return None, [], b""
        self._skeletons.insert(0, skeleton)
        del self._skeletons[MOST_SKELETONS:]
        return skeleton, skeleton.grouped(skeleton.values), window


def _like(
    skeleton: Skeleton, base: _Base, found: tuple[dict[int, bytes], int, int], stamp: Stamp
) -> Like | None:
    """Return a header that differs from its base only in what may differ, else None."""
    changes, pixels_at, length = found
    if changes.pop(_META_INSTANCE, None) is not None:
        changes.pop(_META_LENGTH, None)
    if not skeleton.fixed.isdisjoint(changes):
        return None
    instance = changes.get(_INSTANCE)
    if instance is not None and not instance.strip(b" \0"):
        return None
    return Like(base.number, changes, pixels_at, length, stamp)
