"""A data set of a derived object as bounded, typed items.

Everything is read by our own element reader: it never follows a length beyond the file, never nests deeper than 32
levels and raises only our errors. What is missing or unusable reads as empty.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.dicom.elements import Elements, RawElement
from core.dicom.faults import malformed, translated
from core.dicom.part10 import NotDicom, ParsedFile, parse_file

if TYPE_CHECKING:
    from core.dicom.header import Header

MAX_HEADER_BYTES = 128 << 20
"""Elements without pixels or documents; a structure set of a long series has about 50 MB."""
MAX_TEXT = 64_000
"""Characters of one text that are kept."""

_CONTROL = {code: None for code in range(32) if code not in (9, 10)} | {127: None}
_CHARACTER_SET = 0x00080005


@dataclass(frozen=True, slots=True)
class Code:
    """A coded entry: value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str

    def is_any_of(self, *codes: str) -> bool:
        """Whether the code is one of ``"SCHEME:value"``."""
        return f"{self.scheme}:{self.value}" in codes


class Item:
    """A data set, or an item of a sequence, with the character set of the nearest data set that names one."""

    __slots__ = ("elements",)

    def __init__(self, elements: Elements, encodings: tuple[str, ...] | None = None) -> None:
        if encodings is not None and _CHARACTER_SET not in elements:
            elements.encodings = encodings
        self.elements = elements

    def __contains__(self, tag: int) -> bool:
        """Whether the element stands here."""
        return tag in self.elements

    def text(self, tag: int) -> str:
        """Return a string of the default repertoire (UID, code string, date)."""
        return self.elements.text(tag)[:MAX_TEXT].translate(_CONTROL)

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return the values of a multi-valued string."""
        return self.elements.texts(tag)

    def words(self, tag: int) -> str:
        """Return a text in its character set, without control characters."""
        text = self.elements.person_text(tag)[:MAX_TEXT].replace("\r\n", "\n").replace("\r", "\n")
        return text.translate(_CONTROL).strip()

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return finite numbers; empty when one of them is none."""
        values = self.elements.numbers(tag)
        return values if all(abs(v) < 1e300 for v in values) else ()

    def number(self, tag: int) -> float | None:
        """Return the first number, or None."""
        values = self.numbers(tag)
        return values[0] if values else None

    def integer(self, tag: int) -> int | None:
        """Return the first number as an integer, or None."""
        return self.elements.integer(tag)

    def value(self, tag: int) -> bytes:
        """Return the bytes of an element; empty when it is absent."""
        element: RawElement | None = self.elements.raw.get(tag)
        return b"" if element is None else element.value

    def items(self, tag: int) -> tuple[Item, ...]:
        """Return the items of a sequence."""
        return tuple(Item(item, self.elements.encodings) for item in self.elements.items(tag))

    def first(self, tag: int) -> Item | None:
        """Return the first item of a sequence, or None."""
        items = self.elements.items(tag)
        return Item(items[0], self.elements.encodings) if items else None

    def code(self, tag: int) -> Code | None:
        """Return the first code of a code sequence, or None.

        Source: DICOM PS3.3 8.8 (Code Value, Long Code Value, URN Code Value).
        """
        item = self.first(tag)
        if item is None:
            return None
        value = item.words(0x00080100) or item.words(0x00080119) or item.words(0x00080120)
        meaning = item.words(0x00080104)
        return Code(value, item.text(0x00080102), meaning) if value or meaning else None


@dataclass(frozen=True)
class DerivedFile:
    """A file that was opened: its data set, and its header where it has pixels."""

    path: Path
    data: Item
    parsed: ParsedFile

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        return self.data.text(0x00080016) or self.parsed.meta.text(0x00020002)

    def header(self) -> Header:
        """Return the description of the pixels, checked against the bytes that are there.

        Raises
        ------
        InputError
            When there are no pixels, fewer than announced, or an impossible description.
        """
        # Here, not above: the header's module reads many tags that objects without pixels don't have.
        from core.dicom.header import describe
        from core.dicom.pixel_check import check_pixels

        if self.parsed.pixels is None:
            raise malformed("The object has no Pixel Data.", "dicom.no_pixels")
        elements = self.parsed.elements
        # A copy without the frames' groups: they are read elsewhere, and ``describe`` drops them.
        own = {tag: element for tag, element in elements.raw.items() if tag >> 16 != 0x5200}
        copied = Elements(elements.little_endian, own, elements.encodings)
        header = describe(replace(self.parsed, elements=copied))
        check_pixels(header)
        return header


def open_derived_file(path: Path, wanted: Collection[int]) -> DerivedFile:
    """Read the elements ``wanted`` of a file; items of a wanted sequence whole.

    Raises
    ------
    InputError
        When it is no DICOM file, damaged, or has more elements than any sensible object.
    EnvironmentFault
        When it can't be read.
    """
    with translated("Reading the object"):
        try:
            # Without the sequences first: it tells, at the price of a few jumps, how much there is to read.
            shell = parse_file(path, frozenset((0x00080016, 0x00080018)))
        except NotDicom:
            raise malformed("This is no DICOM file.", "dicom.not_dicom") from None
        end = shell.pixels.offset if shell.pixels is not None else shell.size
        if end > MAX_HEADER_BYTES and 0x00420011 not in wanted:
            raise malformed(
                f"The object describes itself in {end >> 20} MB; {MAX_HEADER_BYTES >> 20} MB are the most.",
                "derived.too_large",
            )
        parsed = parse_file(path, frozenset(wanted) | {_CHARACTER_SET, 0x00080016, 0x00080018})
        return DerivedFile(path, Item(parsed.elements), parsed)
