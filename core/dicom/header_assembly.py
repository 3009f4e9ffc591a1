"""Turns what a quick reader tells back into headers: copies of a base with the few fields that differ.

A field of a header is taken over from the base when the elements that it was made from are equal. Which those are is
not listed anywhere: describing the base once through a dictionary that notes what is asked for tells. A change of
another element than those below that was asked for has the header described anew.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from core.dicom.elements import UNDEFINED, ChangedElements, Elements, PixelLocation, RawElement
from core.dicom.header import Header, Vector
from core.dicom.identifiers import is_uid
from core.dicom.part10 import ParsedFile
from core.dicom.pixel_check import check_pixels
from core.dicom.quick_reader import BASES_KEPT, Like, Whole
from core.dicom.reading import IncompleteImage, checked, read_header
from core.domain.errors import InputError

_INSTANCE_UID, _INSTANCE_NUMBER, _POSITION = 0x00080018, 0x00200013, 0x00200032
_RENEWED = frozenset({_INSTANCE_UID, _INSTANCE_NUMBER, _POSITION})
_EXPECTED_VRS = {_INSTANCE_UID: ("UI", ""), _INSTANCE_NUMBER: ("IS", ""), _POSITION: ("DS", "")}
_FARTHEST_MM = 1e7
_LARGEST = 1e15
_PADDING = " \0\r\n\t"
_all_fields = attrgetter(*(field.name for field in fields(Header)))


class _Noting(dict[int, RawElement]):
    """Elements that note which of them were asked for."""

    def __init__(self, raw: dict[int, RawElement]) -> None:
        super().__init__(raw)
        self.asked: set[int] = set()

    def get(self, key: int, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.add(key)  # type: ignore[arg-type]
        return super().__contains__(key)

    def __getitem__(self, key: int) -> RawElement:
        self.asked.add(key)
        return super().__getitem__(key)


class _Base:
    """A header that others refer to; ``header`` is None when it was refused.

    ``odd`` is set when place and number aren't written as the strings that the quick way expects, or something must be
    said of the file.
    """

    __slots__ = ("asked", "elements", "header", "nested", "odd", "parsed", "pixels_length")

    def __init__(self, parsed: ParsedFile) -> None:
        self.parsed = parsed
        self.header: Header | None = None
        self.elements = Elements(
            parsed.elements.little_endian, dict(parsed.elements.raw), parsed.elements.encodings
        )
        self.nested = any(element.items for element in self.elements.raw.values())
        self.asked: set[int] = set()
        # Pixels of this length passed the check; -1 (encapsulated) has each file's fragments counted.
        length = None if parsed.pixels is None else parsed.pixels.length
        self.pixels_length = -1 if length is None else length
        self.odd = any(
            tag in self.elements.raw and self.elements.raw[tag].vr not in vrs
            for tag, vrs in _EXPECTED_VRS.items()
        )

    def describe(self) -> Header:
        """Return the header of the base itself and note what it was made from; raises as ``read_header``."""
        noting = _Noting(self.elements.raw)
        self.parsed.elements.raw = noting
        try:
            header = checked(self.parsed)
        finally:
            self.parsed.elements.raw = dict(noting)
        self.asked = noting.asked - _RENEWED
        self.odd = self.odd or bool(header.issues)  # they may be about place, number or UID
        self.elements = header.elements  # without the sequences that were dropped once they were understood
        self.header = header
        return header


class HeaderAssembly:
    """Makes headers of what one quick reader tells, in the order in which it told."""

    def __init__(self) -> None:
        self._bases: dict[int, _Base] = {}

    def header(self, file: Path, told: Like | Whole) -> Header:
        """Return the header of a file.

        Raises
        ------
        IsDicomdir, InputError, EnvironmentFault
            As ``read_header``.
        """
        if isinstance(told, Whole):
            if told.base < 0:
                return checked(told.parsed)
            base = self._bases[told.base] = _Base(told.parsed)
            self._bases.pop(told.base - BASES_KEPT, None)
            return base.describe()
        base = self._bases[told.base]
        header = base.header
        if header is None or base.odd or not base.asked.isdisjoint(told.changes):
            return _anew(file, base, told)
        parsed = _parsed(file, base, told)
        renewed = _renewed(header, parsed, told.changes)
        if renewed is None:
            return _anew(file, base, told)
        if told.pixels_length != base.pixels_length or told.pixels_at + told.pixels_length > told.stamp[0]:
            _check_pixels(renewed)
        return renewed


def _anew(file: Path, base: _Base, told: Like) -> Header:
    """Describe a header whose difference from the base is more than place and number."""
    if base.nested:  # what was dropped is needed to describe it
        return read_header(file)
    return checked(_parsed(file, base, told))


def _parsed(file: Path, base: _Base, told: Like) -> ParsedFile:
    like = base.parsed
    pixels = like.pixels
    assert pixels is not None
    length = None if told.pixels_length == UNDEFINED else told.pixels_length
    return ParsedFile(
        file,
        told.stamp[0],
        like.meta,
        ChangedElements(base.elements, told.changes),
        like.syntax,
        PixelLocation(pixels.tag, pixels.vr, told.pixels_at, length),
        like.foreign_preamble,
        told.stamp,
        like.deflated_from,
        like.vr_mismatch,
        like.begin,
    )


def _renewed(base: Header, parsed: ParsedFile, changes: dict[int, bytes]) -> Header | None:
    """Return the base's header with another place, number and UID; None when one of them is odd."""
    header = Header(*_all_fields(base))
    header.file, header.parsed = parsed.file, parsed
    for tag, value in changes.items():
        if tag == _INSTANCE_UID:
            header.sop_instance_uid = value.decode("latin-1").strip(_PADDING)
            if not is_uid(header.sop_instance_uid):
                return None
        elif tag == _INSTANCE_NUMBER:
            header.instance_number = parsed.elements.integer(tag) if b"\\" in value else _integer(value)
        elif tag == _POSITION:
            header.position = _position(value)
            if header.position is None:
                return None
    return header


def _check_pixels(header: Header) -> None:
    try:
        check_pixels(header)
    except InputError as error:
        raise IncompleteImage(error, header.series_uid) from error


def _integer(value: bytes) -> int | None:
    """Return what ``Elements.integer`` makes of an integer string."""
    try:
        number = float(value.decode("latin-1").strip(" \0"))
    except ValueError:
        return None
    return None if number != number or abs(number) > _LARGEST else int(number)


def _position(value: bytes) -> Vector | None:
    """Return three plain numbers of a decimal string; None for anything else."""
    try:
        x, y, z = map(float, value.decode("latin-1").strip(" \0").split("\\"))
    except ValueError:
        return None
    usable = abs(x) < _FARTHEST_MM and abs(y) < _FARTHEST_MM and abs(z) < _FARTHEST_MM
    return (x, y, z) if usable else None
