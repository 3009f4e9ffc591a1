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

from core.dicom.elements import UNDEFINED, Elements, PixelLocation, RawElement
from core.dicom.header import Header, describe
from core.dicom.identifiers import complete_uids, is_uid
from core.dicom.part10 import ParsedFile
from core.dicom.pixel_check import check_pixels
from core.dicom.quick_reader import BASES_KEPT, Like, Whole
from core.dicom.reading import IncompleteImage, checked, read_header
from core.domain.errors import InputError
from core.domain.volume import SeriesIssue

_INSTANCE_UID, _INSTANCE_NUMBER, _POSITION = 0x00080018, 0x00200013, 0x00200032
_RENEWED = frozenset({_INSTANCE_UID, _INSTANCE_NUMBER, _POSITION})
_FARTHEST_MM = 1e7
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
    """A header that others refer to; ``header`` is None when it was refused."""

    __slots__ = ("asked", "elements", "header", "nested", "parsed")

    def __init__(self, parsed: ParsedFile) -> None:
        self.parsed = parsed
        self.header: Header | None = None
        self.elements = Elements(
            parsed.elements.little_endian, dict(parsed.elements.raw), parsed.elements.encodings
        )
        self.nested = any(element.items for element in self.elements.raw.values())
        self.asked: set[int] = set()

    def describe(self) -> Header:
        """Return the header of the base itself and note what it was made from; raises as ``read_header``."""
        header = checked(self.parsed)
        noting = _Noting(self.elements.raw)
        trial = _copied(self.parsed, Elements(self.elements.little_endian, noting, self.elements.encodings))
        issues: list[SeriesIssue] = []
        complete_uids(describe(trial), issues)
        self.asked = noting.asked - _RENEWED
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
        if header is None or not base.asked.isdisjoint(told.changes):
            return _anew(file, base, told)
        parsed = _parsed(file, base, told)
        return _renewed(header, parsed, told.changes) or _anew(file, base, told)


def _anew(file: Path, base: _Base, told: Like) -> Header:
    """Describe a header whose difference from the base is more than place and number."""
    if base.nested:  # sequences were dropped from the base's elements once they were understood
        return read_header(file)
    return checked(_parsed(file, base, told))


def _parsed(file: Path, base: _Base, told: Like) -> ParsedFile:
    raw = base.elements.raw.copy() if base.header is None else base.header.elements.raw.copy()
    for tag, value in told.changes.items():
        raw[tag] = RawElement(raw[tag].vr if tag in raw else base.elements.raw[tag].vr, value)
    parsed = _copied(base.parsed, Elements(base.elements.little_endian, raw, base.elements.encodings))
    pixels = base.parsed.pixels
    assert pixels is not None
    length = None if told.pixels_length == UNDEFINED else told.pixels_length
    parsed.file, parsed.size, parsed.stamp = file, told.stamp[0], told.stamp
    parsed.pixels = PixelLocation(pixels.tag, pixels.vr, told.pixels_at, length)
    return parsed


def _copied(parsed: ParsedFile, elements: Elements) -> ParsedFile:
    """Return the same with other elements."""
    return ParsedFile(
        parsed.file,
        parsed.size,
        parsed.meta,
        elements,
        parsed.syntax,
        parsed.pixels,
        parsed.foreign_preamble,
        parsed.stamp,
        parsed.deflated_from,
        parsed.vr_mismatch,
        parsed.begin,
    )


def _renewed(base: Header, parsed: ParsedFile, changes: dict[int, bytes]) -> Header | None:
    """Return the base's header with another place, number and UID; None when one of them is odd."""
    header = Header(*_all_fields(base))
    header.file, header.parsed = parsed.file, parsed
    elements = parsed.elements
    if _INSTANCE_UID in changes:
        header.sop_instance_uid = elements.text(_INSTANCE_UID)
        if not is_uid(header.sop_instance_uid):
            return None
    if _INSTANCE_NUMBER in changes:
        header.instance_number = elements.integer(_INSTANCE_NUMBER)
    if _POSITION in changes:
        position = elements.numbers(_POSITION)
        if len(position) != 3 or not all(abs(v) < _FARTHEST_MM for v in position):
            return None
        header.position = (position[0], position[1], position[2])
    if base.issues and any(issue.code == "dicom.blank_uid" for issue in base.issues):
        return None
    try:
        check_pixels(header)
    except InputError as error:
        raise IncompleteImage(error, header.series_uid) from error
    return header
