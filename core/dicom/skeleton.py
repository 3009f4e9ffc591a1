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
Piece = bytes | tuple[bytes, ...]
"""Kept values that were read in one step."""

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


class Twin:
    """Reads the headers of one series: long stretches that are equal, and a few values between them that are not.

    ``window`` is the header that it was made from, up to the length of the pixels.
    """

    __slots__ = ("_steps", "_tail", "window")

    def __init__(self, steps: list[tuple[Any, ...]], tail: bytes, window: bytes) -> None:
        self._steps = steps
        self._tail = tail
        self.window = window

    def read(self, window: bytes) -> tuple[dict[int, bytes], int, int] | None:
        """Return the kept values that differ, offset and length of the pixels; None when other things differ too."""
        position = 0
        changes: dict[int, bytes] = {}
        size = len(window)
        try:
            for chunk, chunk_length, length_of, width, tag, value in self._steps:
                if not window.startswith(chunk, position):
                    return None
                position += chunk_length
                (length,) = length_of(window, position)
                start = position + width
                position = start + length
                if position > size:
                    return None
                if tag >= 0:
                    found = window[start:position]
                    if found != value:
                        changes[tag] = found
            tail = self._tail
            if not window.startswith(tail, position):
                return None
            position += len(tail)
            (length,) = _LONG_LENGTH(window, position)
        except struct.error:
            return None
        return changes, position + 4, length


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
        Tags and values that were kept of the first file, by slot.
    layout : list
        What the pieces that ``read`` returns hold: the slot of a single value, or the slots of a tuple of values.
    version : int
        Grows when the layout changes because the skeleton learned something.
    pixel_tag, pixel_vr : int, str
        Of the pixels.
    fixed : frozenset of int
        Tags whose values must equal those of the first file (see ``bind``).

    Raises
    ------
    ValueError, AppError
        If the file has no pixels, or they begin beyond the window.
    """

    def __init__(self, window: bytes, begin: int, explicit: bool, wanted: Collection[int]) -> None:
        self.tags: list[int] = []
        self.values: list[bytes] = []
        self.layout: list[int | tuple[int, ...]] = []
        self.version = 0
        self.pixel_tag, self.pixel_vr = 0, ""
        self._identifiers: tuple[int, int, int] = (0, 0, 0)
        self._identity_at = ((0, -1), (0, -1))
        self._instance_at = (0, -1)
        self.fixed: frozenset[int] = frozenset()
        self._moving: set[int] = set()
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
        self._identifiers = identifiers
        self._find_identity()
        kept = elements.raw
        if any(tag not in kept for tag in tags if tag >> 16 != _META_GROUP):
            return False
        self.fixed = frozenset(
            tag for tag in tags if tag >> 16 == _META_GROUP or tag == CHARACTER_SET or kept[tag].vr == "SQ"
        )
        return True

    def read(self, window: bytes) -> tuple[list[Piece], int, int] | None:
        """Return the kept values of another file, and offset and length of its pixels; None when it doesn't fit."""
        if window[128:132] != _MAGIC or window.startswith(EXECUTABLE_PREAMBLES):
            return None
        while True:
            misfit = -1
            pieces: list[Piece] = []
            position = DATA_BEGINS
            try:
                for kind, one, two, three, four, five, six in self._steps:
                    if (
                        kind == 0
                    ):  # unpack, size, takes the heads, the heads, takes the values, number of the first
                        fields = one(window, position)
                        if three(fields) != four:
                            misfit = self._misfit(three(fields), six)
                            break
                        if five is not None:
                            pieces.append(five(fields))
                        position += two
                    elif (
                        kind == 1
                    ):  # head, where the length stands, bytes of the header, takes the length, slot
                        if not window.startswith(one, position):
                            return None
                        length = four(window, position + two)[0]
                        start = position + three
                        position = start + length
                        if position > len(window):
                            return None
                        if five >= 0:
                            pieces.append(window[start:position])
                    else:
                        position = self._pass_block(one, window, position, pieces)
                        if position < 0:
                            return None
                else:
                    return self._pixels(window, position, pieces)
            except struct.error:
                return None
            if misfit < 0 or not self._learn(misfit):
                return None

    def grouped(self, values: list[bytes]) -> list[Piece]:
        """Return values by slot as pieces of the present layout."""
        return [
            values[slots] if isinstance(slots, int) else tuple(values[slot] for slot in slots)
            for slots in self.layout
        ]

    def flat(self, pieces: list[Piece]) -> list[bytes]:
        """Return pieces of the present layout as values by slot."""
        values = [b""] * len(self.tags)
        for slots, piece in zip(self.layout, pieces, strict=True):
            if isinstance(slots, int):
                values[slots] = piece  # type: ignore[assignment]
            else:
                for slot, value in zip(slots, piece, strict=True):
                    values[slot] = value  # type: ignore[call-overload]
        return values

    def differences(self, pieces: list[Piece], others: list[Piece]) -> dict[int, bytes]:
        """Return the values of ``pieces`` that differ from those of ``others``, by tag."""
        changes: dict[int, bytes] = {}
        tags = self.tags
        for number, piece in enumerate(pieces):
            other = others[number]
            if piece == other:
                continue
            slots = self.layout[number]
            if isinstance(slots, int):
                changes[tags[slots]] = piece  # type: ignore[assignment]
            else:
                for slot, new, old in zip(slots, piece, other, strict=True):
                    if new != old:
                        changes[tags[slot]] = new  # type: ignore[assignment]
        return changes

    def identity(self, pieces: list[Piece]) -> tuple[object, object]:
        """Return the pieces' values of the Study and the Series Instance UID."""
        (first, i), (second, j) = self._identity_at
        return (
            pieces[first] if i < 0 else pieces[first][i],
            pieces[second] if j < 0 else pieces[second][j],
        )

    def instance(self, pieces: list[Piece]) -> bytes:
        """Return the pieces' value of the SOP Instance UID."""
        piece, index = self._instance_at
        return pieces[piece] if index < 0 else pieces[piece][index]  # type: ignore[return-value]

    def twin(self, window: bytes, values: list[bytes]) -> Twin | None:
        """Return what reads files of one series that differ in the same places as those before.

        Parameters
        ----------
        window : bytes
            A file of the series that this skeleton reads.
        values : list of bytes
            The kept values of the series' base, by slot.
        """
        spans = self._spans(window)
        if not spans:
            return None
        steps: list[tuple[Any, ...]] = []
        chunk_at = 0
        for number in sorted(self._moving):
            place, (start, end) = self._places[number], spans[number]
            width = len(place.head) - place.length_at
            length_of = _SHORT_LENGTH if width == 2 else _LONG_LENGTH
            chunk = window[chunk_at : start - width]
            tag, value = (place.tag, values[place.slot]) if place.slot >= 0 else (-1, b"")
            steps.append((chunk, len(chunk), length_of, width, tag, value))
            chunk_at = end
        tail = window[chunk_at : spans[-1][1]] + self._pixel_head
        return Twin(steps, tail, window[: spans[-1][1] + len(self._pixel_head)])

    def note_moving(self, window: bytes, other: bytes, changes: Collection[int]) -> None:
        """Note where two files of one series differ, and which kept values differ from their base's."""
        first, second = self._spans(window), self._spans(other)
        if not first or not second:
            return
        moving = {
            number
            for number, ((a, b), (c, d)) in enumerate(zip(first, second, strict=True))
            if window[a:b] != other[c:d] or self._places[number].tag in changes
        }
        if not self._explicit:
            moving.discard(self._first)  # its length tells that VR is implicit
        if len(self._moving | moving) <= MOST_VARYING:
            self._moving |= {number for number in moving if not self._places[number].block}

    def _spans(self, window: bytes) -> list[tuple[int, int]]:
        """Return where the values of all places begin and end in a window that fits, empty if that is unclear."""
        spans: list[tuple[int, int]] = []
        position = DATA_BEGINS
        for place in self._places:
            if place.block:
                end = position + len(place.block)
                if not window.startswith(place.block, position):
                    return []
                spans.append((position, end))
            else:
                start = position + len(place.head)
                end = start + int.from_bytes(window[position + place.length_at : start], "little")
                spans.append((start, end))
            position = end
        return spans

    def _pixels(
        self, window: bytes, position: int, pieces: list[Piece]
    ) -> tuple[list[Piece], int, int] | None:
        head = self._pixel_head
        if not window.startswith(head, position):
            return None
        start = position + len(head)
        length = int(_LONG_LENGTH(window, start)[0])
        return pieces, start + 4, length

    def _pass_block(self, place: Place, window: bytes, position: int, pieces: list[Piece]) -> int:
        """Return the position behind a sequence of undefined length, -1 when it must be read slowly."""
        if window.startswith(place.block, position):
            if place.slot >= 0:
                pieces.append(place.block)
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
        self._find_identity()
        self.version += 1
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

    def _find_identity(self) -> None:
        """Find out in which pieces the UIDs stand now."""
        at: dict[int, tuple[int, int]] = {}
        for number, slots in enumerate(self.layout):
            if isinstance(slots, int):
                at[self.tags[slots]] = (number, -1)
            else:
                at.update({self.tags[slot]: (number, index) for index, slot in enumerate(slots)})
        study, series, instance = self._identifiers
        self._identity_at = (at[study], at[series])
        self._instance_at = at[instance]

    def _compile(self) -> None:
        """Turn the places into steps: runs of fixed lengths, single places whose length varies, blocks."""
        steps: list[tuple[Any, ...]] = []
        layout: list[int | tuple[int, ...]] = []
        run: list[Place] = []
        first = 0
        for number, place in enumerate(self._places):
            if not place.varies and not place.block:
                run.append(place)
                continue
            _close_run(steps, layout, run, first)
            run, first = [], number + 1
            if place.slot >= 0:
                layout.append(place.slot)
            if place.block:
                steps.append((2, place, None, None, None, None, None))
            else:
                length_of: Callable[..., tuple[Any, ...]] = (
                    _SHORT_LENGTH if len(place.head) - place.length_at == 2 else _LONG_LENGTH
                )
                head = place.head[: place.length_at]
                steps.append((1, head, place.length_at, len(place.head), length_of, place.slot, None))
        _close_run(steps, layout, run, first)
        self._steps, self.layout = steps, layout


def _close_run(
    steps: list[tuple[Any, ...]], layout: list[int | tuple[int, ...]], run: list[Place], first: int
) -> None:
    """Append the step of a run: one ``struct`` that returns element headers and kept values."""
    if not run:
        return
    fields, heads, values = ["<"], [], []
    count = 0
    for place in run:
        fields.append(f"{len(place.head)}s")
        heads.append(count)
        count += 1
        fields.append(f"{place.length}{'s' if place.slot >= 0 else 'x'}")
        if place.slot >= 0:
            values.append(count)
            count += 1
    packed = struct.Struct("".join(fields))
    expected = tuple(place.head for place in run)
    taken = _several(values) if values else None
    if values:
        layout.append(tuple(place.slot for place in run if place.slot >= 0))
    steps.append((0, packed.unpack_from, packed.size, _several(heads), expected, taken, first))


def _several(numbers: list[int]) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
    """Return what takes those fields, as a tuple even when it is one."""
    if len(numbers) == 1:
        only = numbers[0]
        return lambda fields: (fields[only],)
    return itemgetter(*numbers)
