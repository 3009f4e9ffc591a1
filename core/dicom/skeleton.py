"""Reading a header that is built like one read before, in a few steps instead of one per element.

The files of a series, mostly of a scanner, hold the same elements in the same order; only values differ, and the
lengths of a few. A skeleton remembers tags, value representations and lengths of one file that was read element by
element. Another file is held against it with a handful of ``struct`` calls: where every element header agrees byte by
byte, the element-by-element reader would have seen the same, so its answer is known but for the values. Where a length
differs the skeleton learns that it varies; where anything else differs it doesn't fit, and the file is read slowly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from core.dicom.elements import CHARACTER_SET, DELIMITERS, PIXEL_TAGS, UNDEFINED, ElementReader, Elements
from core.dicom.part10 import EXECUTABLE_PREAMBLES
from core.dicom.source import ByteSource
from core.domain.errors import AppError

DATA_BEGINS = 132
MOST_VARYING = 48
_META_GROUP = 2
_MAGIC = b"DICM"
_SHORT_LENGTH = struct.Struct("<H").unpack_from
_LONG_LENGTH = struct.Struct("<I").unpack_from


@dataclass(slots=True)
class Place:
    """One element at the top level: its header's bytes, where the length stands in them, and its value.

    ``slot`` numbers the values that are kept, -1 for others. ``block`` is header and content of a sequence of undefined
    length, else empty.
    """

    tag: int
    head: bytes
    length_at: int
    length: int
    slot: int
    varies: bool = False
    block: bytes = b""


class Skeleton:
    """The build of one header.

    Parameters
    ----------
    window : bytes
        The file from its first byte to behind the header of its pixels.
    begin : int
        Where the data set begins behind the meta information.
    explicit : bool
        Whether the data set is written with explicit VR; it is little endian.
    wanted : collection of int
        Tags whose values are kept; those of the meta information always are.

    Attributes
    ----------
    tags, values : list
        Tags and values that were kept of the first file, in the order in which ``read`` returns those of others.
    pixel_tag, pixel_vr : int, str
        Of the pixels.
    study_at, series_at, instance_at : int
        Which of the values are the UIDs; ``fixed`` are the tags whose values must equal the base's (see ``bind``).

    Raises
    ------
    ValueError, AppError
        If the file has no pixels, or they begin beyond the window.
    """

    def __init__(self, window: bytes, begin: int, explicit: bool, wanted: Collection[int]) -> None:
        self.tags: list[int] = []
        self.values: list[bytes] = []
        self.pixel_tag, self.pixel_vr = 0, ""
        self.study_at = self.series_at = self.instance_at = 0
        self.fixed: frozenset[int] = frozenset()
        self._explicit = explicit
        self._pixel_head = b""
        self._first = -1
        self._places = self._outline(window, begin, explicit, frozenset(wanted))
        self._steps: list[tuple[Any, ...]] = []
        self._varying = 0
        self._compile()

    def bind(self, elements: Elements, identifiers: tuple[int, int, int]) -> bool:
        """Note where the UIDs of study, series and instance stand, and which values may not change.

        Returns False when a UID or the order of the elements makes a comparison with other files impossible.
        """
        tags = self.tags
        if len(set(tags)) != len(tags) or not set(identifiers) <= set(tags):
            return False
        self.study_at, self.series_at, self.instance_at = (tags.index(tag) for tag in identifiers)
        kept = elements.raw
        if any(tag not in kept for tag in tags if tag >> 16 != _META_GROUP):
            return False
        self.fixed = frozenset(
            tag for tag in tags if tag >> 16 == _META_GROUP or tag == CHARACTER_SET or kept[tag].vr == "SQ"
        )
        return True

    def read(self, window: bytes) -> tuple[list[bytes], int, int] | None:
        """Return the kept values of another file, and offset and length of its pixels; None when it doesn't fit."""
        if window[128:132] != _MAGIC or window.startswith(EXECUTABLE_PREAMBLES):
            return None
        while True:
            misfit = -1
            values: list[bytes] = []
            position = DATA_BEGINS
            try:
                for step in self._steps:
                    kind = step[0]
                    if kind == 0:
                        _, unpack, size, heads_of, heads, values_of, first = step
                        fields = unpack(window, position)
                        if heads_of(fields) != heads:
                            misfit = self._misfit(heads_of(fields), first)
                            break
                        if values_of is not None:
                            values += values_of(fields)
                        position += size
                    elif kind == 1:
                        _, head, at, size, length_of, slot = step
                        if not window.startswith(head, position):
                            return None
                        length = length_of(window, position + at)[0]
                        position += size + length
                        if position > len(window):
                            return None
                        if slot >= 0:
                            values.append(window[position - length : position])
                    else:
                        position = self._pass_block(step[1], window, position, values)
                        if position < 0:
                            return None
                else:
                    return self._pixels(window, position, values)
            except struct.error:
                return None
            if misfit < 0 or not self._learn(misfit):
                return None

    def _pixels(
        self, window: bytes, position: int, values: list[bytes]
    ) -> tuple[list[bytes], int, int] | None:
        head = self._pixel_head
        if not window.startswith(head, position):
            return None
        start = position + len(head)
        length = int(_LONG_LENGTH(window, start)[0])
        return values, start + 4, length

    def _pass_block(self, place: Place, window: bytes, position: int, values: list[bytes]) -> int:
        """Return the position behind a sequence of undefined length, -1 when it must be read slowly."""
        if window.startswith(place.block, position):
            if place.slot >= 0:
                values.append(place.block)
            return position + len(place.block)
        if place.slot >= 0 or not window.startswith(place.head, position):
            return -1
        try:
            reader = ElementReader(ByteSource.of_bytes(window), self._explicit, little_endian=True)
            return reader.behind_items(position, len(window))
        except AppError:
            return -1

    def _misfit(self, found: tuple[bytes, ...], first: int) -> int:
        """Return the number of the first place that differs when its length alone does, else -1."""
        for number, head in enumerate(found, start=first):
            place = self._places[number]
            if head != place.head:
                return number if head[: place.length_at] == place.head[: place.length_at] else -1
        return -1

    def _learn(self, number: int) -> bool:
        """Let the length of a place vary from now on; the next attempt tells whether more than that differs."""
        place = self._places[number]
        # Where VR is implicit, the first length tells the reader that it is: there it may not vary.
        if place.varies or self._varying >= MOST_VARYING or (number == self._first and not self._explicit):
            return False
        place.varies = True
        self._varying += 1
        self._compile()
        return True

    def _outline(self, window: bytes, begin: int, explicit: bool, wanted: frozenset[int]) -> list[Place]:
        """List the elements at the top level up to the pixels; ValueError when there are none in the window."""
        places: list[Place] = []
        source = ByteSource.of_bytes(window)
        position, end = DATA_BEGINS, len(window)
        meta = ElementReader(source, explicit=True, little_endian=True)
        body = ElementReader(source, explicit, little_endian=True)
        while True:
            reader = meta if position < begin else body
            tag, vr, length, start = reader.header(position, end)
            head = window[position:start]
            if position >= begin and tag in PIXEL_TAGS:
                if len(head) < 8:
                    raise ValueError("no header of pixels")
                self.pixel_tag, self.pixel_vr = tag, vr
                self._pixel_head = head[:-4]
                return places
            if tag in DELIMITERS:
                raise ValueError("ends before the pixels")
            if position >= begin and self._first < 0:
                self._first = len(places)
            keep = tag in wanted or position < begin
            if length == UNDEFINED:
                behind = reader.behind_items(position, end)
                place = Place(tag, head, 0, 0, self._slot(tag, keep), block=window[position:behind])
                value = place.block
            else:
                behind = start + length
                if behind > end:
                    raise ValueError("beyond the window")
                at = len(head) - (2 if vr and len(head) == 8 else 4)
                place = Place(tag, head, at, length, self._slot(tag, keep))
                value = window[start:behind]
            if place.slot >= 0:
                self.values.append(value)
            places.append(place)
            position = behind

    def _slot(self, tag: int, keep: bool) -> int:
        if not keep:
            return -1
        self.tags.append(tag)
        return len(self.tags) - 1

    def _compile(self) -> None:
        """Turn the places into steps: runs of fixed lengths, single places whose length varies, blocks."""
        steps: list[tuple[Any, ...]] = []
        run: list[Place] = []
        first = 0
        for number, place in enumerate(self._places):
            if not place.varies and not place.block:
                run.append(place)
                continue
            _close_run(steps, run, first)
            run, first = [], number + 1
            if place.block:
                steps.append((2, place))
            else:
                length_of: Callable[..., tuple[Any, ...]] = (
                    _SHORT_LENGTH if len(place.head) - place.length_at == 2 else _LONG_LENGTH
                )
                head = place.head[: place.length_at]
                steps.append((1, head, place.length_at, len(place.head), length_of, place.slot))
        _close_run(steps, run, first)
        self._steps = steps


def _close_run(steps: list[tuple[Any, ...]], run: list[Place], first: int) -> None:
    """Append the step of a run: one ``struct`` that returns element headers and kept values."""
    if not run:
        return
    layout, heads, values = ["<"], [], []
    count = 0
    for place in run:
        layout.append(f"{len(place.head)}s")
        heads.append(count)
        count += 1
        layout.append(f"{place.length}{'s' if place.slot >= 0 else 'x'}")
        if place.slot >= 0:
            values.append(count)
            count += 1
    packed = struct.Struct("".join(layout))
    expected = tuple(place.head for place in run)
    steps.append(
        (
            0,
            packed.unpack_from,
            packed.size,
            _several(heads),
            expected,
            _several(values) if values else None,
            first,
        )
    )


def _several(numbers: list[int]) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
    """Return what takes those fields, as a tuple even when it is one."""
    if len(numbers) == 1:
        only = numbers[0]
        return lambda fields: (fields[only],)
    return itemgetter(*numbers)
