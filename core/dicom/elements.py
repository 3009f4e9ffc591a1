"""A bounded reader of DICOM data elements.

It reads only the elements that are asked for, steps over the others, never follows a length beyond the
end of the file and never nests deeper than ``MAX_DEPTH``. Source: DICOM PS3.5 section 7.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from core.dicom.faults import malformed
from core.dicom.source import ByteSource

MAX_DEPTH = 32
MAX_ITEMS = 200_000
MAX_ELEMENTS = 2_000_000
"""Elements and items kept of one file, some 250 bytes each; an enhanced object of 10,000 frames may have a million."""
UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
CHARACTER_SET = 0x00080005

DELIMITERS = frozenset({ITEM_END, SEQUENCE_END})
_SHORT = {
    vr.encode(): vr
    for vr in (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
}
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
KNOWN_VRS = frozenset(_SHORT) | _LONG
_COMMON_CHARACTER_SETS = {
    "": "iso8859",
    "ISO_IR 6": "iso8859",
    "ISO_IR 100": "latin_1",
    "ISO_IR 192": "utf_8",
}
DEFAULT_ENCODINGS = ("iso8859",)
_MISSPELT = (
    (re.compile(r"ISO[ _.-]?IR[ _.-]?(\d+)"), "ISO_IR"),
    (re.compile(r"ISO[ _.-]?2022[ _.-]?IR[ _.-]?(\d+)"), "ISO 2022 IR"),
)
_ALONE = frozenset({"ISO_IR 192", "GB18030", "GBK"})
"""Character sets without code extensions. Source: DICOM PS3.3 C.12.1.1.2, table C.12-5."""
_ESCAPES = re.compile("\x1b(?:[$]?[()-][A-Z]|[$][A-Z])")
_DELIMITER_BYTES = b"\\\r\n\t\x0c^="
_NUMERIC = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


def tag_name(tag: int) -> str:
    """Return ``(gggg,eeee)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


class RawElement(NamedTuple):
    """One element as it stands in the file; ``vr`` is empty for implicit VR; ``items`` for sequences."""

    vr: str
    value: bytes = b""
    items: tuple[Elements, ...] = ()


class PixelLocation(NamedTuple):
    """Where the pixels lie: tag, VR, offset of the value, length (None when encapsulated)."""

    tag: int
    vr: str
    offset: int
    length: int | None


@dataclass(slots=True)
class Elements:
    """A data set or an item, with typed access. A missing or unusable value gives the empty value."""

    little_endian: bool = True
    raw: dict[int, RawElement] = field(default_factory=dict)
    encodings: tuple[str, ...] = DEFAULT_ENCODINGS

    def __contains__(self, tag: int) -> bool:
        """Whether the element stands in the data set."""
        return tag in self.raw

    def text(self, tag: int) -> str:
        """Return a string without padding; every character decodes (ISO 8859-1)."""
        element = self.raw.get(tag)
        return "" if element is None else element.value.decode("latin-1").strip(" \0\r\n\t")

    def person_text(self, tag: int) -> str:
        """Return a string in the data set's character set; undecodable bytes are replaced."""
        element = self.raw.get(tag)
        if element is None:
            return ""
        value = element.value.rstrip(b" \0")
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii").strip()
        try:
            return _decoded(value, self.encodings).strip()
        except (LookupError, UnicodeError):
            return value.decode("latin-1").strip()

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return the values of a multi-valued string."""
        text = self.text(tag)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return numbers of any numeric VR (DS and IS too); empty when one of them is no number."""
        element = self.raw.get(tag)
        if element is None or not element.value:
            return ()
        code = _NUMERIC.get(element.vr or _implicit_vr(tag).split(" ")[0])
        try:
            if code is not None and element.value[:1] not in (b"",):
                order = "<" if self.little_endian else ">"
                count = len(element.value) // struct.calcsize(code)
                return tuple(map(float, struct.unpack_from(f"{order}{count}{code}", element.value)))
            return tuple(map(float, element.value.decode("latin-1").strip(" \0").split("\\")))
        except (ValueError, struct.error):
            return ()

    def number(self, tag: int) -> float | None:
        """Return the first number, or None."""
        values = self.numbers(tag)
        return values[0] if values else None

    def integer(self, tag: int) -> int | None:
        """Return the first number as an integer, or None when there is none or it has no integer."""
        value = self.number(tag)
        if value is None or value != value or abs(value) > 1e15:
            return None
        return int(value)

    def items(self, tag: int) -> tuple[Elements, ...]:
        """Return the items of a sequence."""
        element = self.raw.get(tag)
        return () if element is None else element.items


class ChangedElements(Elements):
    """The elements of another data set but for some values; the dictionary is made when it is first asked for.

    Thousands of headers of one series then need the room of one, and of what differs.
    """

    __slots__ = ("_base", "_changes", "_merged")

    def __init__(self, base: Elements, changes: dict[int, bytes]) -> None:
        self.little_endian = base.little_endian
        self.encodings = base.encodings
        self._base = base
        self._changes = changes
        self._merged: dict[int, RawElement] | None = None

    @property
    def raw(self) -> dict[int, RawElement]:  # type: ignore[override]
        """The elements by tag."""
        if self._merged is None:
            merged = self._base.raw.copy()
            for tag, value in self._changes.items():
                merged[tag] = RawElement(merged[tag].vr, value)
            self._merged = merged
        return self._merged


@lru_cache(maxsize=8192)
def _implicit_vr(tag: int) -> str:
    # loaded on first use: plain files need none of it, and it takes a third of a second
    from pydicom.datadict import dictionary_VR

    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


class ElementReader:
    """Walks a data set. One instance per file; not thread-safe."""

    def __init__(self, source: ByteSource, explicit: bool, little_endian: bool) -> None:
        order = "<" if little_endian else ">"
        self._source = source
        self._explicit = explicit
        self._little = little_endian
        self._implicit_header = struct.Struct(order + "HHI").unpack_from
        self._explicit_header = struct.Struct(order + "HH2sH").unpack_from
        self._long = struct.Struct(order + "I").unpack_from
        self.pixels: PixelLocation | None = None
        self.end = 0
        self._kept = 0

    def read(
        self,
        position: int,
        end: int,
        wanted: Collection[int] | None,
        depth: int = 0,
        encodings: tuple[str, ...] = DEFAULT_ENCODINGS,
    ) -> Elements:
        """Read elements from ``position`` up to ``end``, a delimiter or the pixels.

        Parameters
        ----------
        wanted : collection of int or None
            Tags whose values are kept; None keeps all. Items of a wanted sequence are kept whole.
        depth : int
            Nesting of the item, 0 for the data set.
        encodings : tuple of str
            Of the data set around the item, which hold until the item names others. Source: DICOM PS3.3 C.12.1.1.2.

        Returns
        -------
        Elements
            What was read. ``self.end`` is the position behind it, ``self.pixels`` where the pixels lie.

        Raises
        ------
        InputError
            For a length beyond the end, an invalid VR, nesting deeper than ``MAX_DEPTH``, or more than
            ``MAX_ELEMENTS`` to be kept.
        """
        if depth > MAX_DEPTH:
            raise malformed(f"Sequences are nested deeper than {MAX_DEPTH} levels.", "dicom.nested_too_deep")
        out = Elements(self._little, encodings=encodings)
        raw = out.raw
        source = self._source
        while position < end:
            tag, vr, length, start = self.header(position, end)
            if tag in DELIMITERS:
                position = start
                break
            if tag in PIXEL_TAGS and depth == 0:
                self.pixels = PixelLocation(tag, vr, start, None if length == UNDEFINED else length)
                position = start
                break
            keep = wanted is None or tag in wanted
            if keep:
                self._count()
            if length == UNDEFINED or (keep and (vr == "SQ" or (not vr and _implicit_vr(tag) == "SQ"))):
                _check_length(tag, length, start, end)
                items = self._items(tag, vr, start, length, keep, depth, out.encodings)
                if keep:
                    raw[tag] = RawElement("SQ", b"", items)
                position = self.end
                continue
            position = start + length
            if position > end:
                _check_length(tag, length, start, end)
            if keep:
                offset = start - source.base
                value = source.window[offset : offset + length] if offset >= 0 else b""
                raw[tag] = RawElement(vr, value if len(value) == length else source.read(start, length))
                if tag == CHARACTER_SET:
                    out.encodings = _encodings(out)
        self.end = position
        return out

    def header(self, position: int, end: int) -> tuple[int, str, int, int]:
        """Return tag, VR (empty for implicit VR and delimiters), length and the position of the value."""
        source = self._source
        offset = position - source.base
        if offset < 0 or offset + 12 > len(source.window):
            if position + 8 > end:
                raise malformed(
                    f"The data set ends within an element header at byte {position}.", "dicom.truncated"
                )
            offset = source.load(position, min(12, end - position))
        if self._explicit:
            group, element, letters, length = self._explicit_header(source.window, offset)
            vr = _SHORT.get(letters)
            if vr is not None and group != 0xFFFE:
                return group << 16 | element, vr, length, position + 8
            if group != 0xFFFE:
                return self._long_header(group << 16 | element, letters, offset, position, end)
        group, element, length = self._implicit_header(source.window, offset)
        return group << 16 | element, "", length, position + 8

    def behind_items(self, position: int, end: int) -> int:
        """Return the position behind the sequence of undefined length at ``position``; raises as ``read``."""
        tag, vr, length, start = self.header(position, end)
        self._items(tag, vr, start, length, keep=False, depth=0)
        return self.end

    def _long_header(
        self, tag: int, letters: bytes, offset: int, position: int, end: int
    ) -> tuple[int, str, int, int]:
        """Read the rest of a header with a 32-bit length; unknown VRs of two letters have one too."""
        if letters not in _LONG and not (letters.isalpha() and letters.isupper()):
            raise malformed(f"Element {tag_name(tag)} has an invalid value representation.")
        if position + 12 > end:
            raise malformed(f"The file ends within the header of {tag_name(tag)}.", "dicom.truncated")
        return tag, letters.decode("ascii"), self._long(self._source.window, offset + 8)[0], position + 12

    def _count(self) -> None:
        self._kept += 1
        if self._kept > MAX_ELEMENTS:
            raise malformed(f"The file has more than {MAX_ELEMENTS} elements.", "dicom.too_many_elements")

    def _items(
        self,
        tag: int,
        vr: str,
        start: int,
        length: int,
        keep: bool,
        depth: int,
        encodings: tuple[str, ...] = DEFAULT_ENCODINGS,
    ) -> tuple[Elements, ...]:
        """Read the items of a sequence; an undefined-length UN holds implicit VR (PS3.5 6.2.2 note 2)."""
        reader: ElementReader = self
        if vr == "UN" and self._explicit:
            reader = ElementReader(self._source, explicit=False, little_endian=True)
            reader._kept = self._kept
        position, last = start, (start + length if length != UNDEFINED else self._source.size)
        kept: list[Elements] = []
        count = 0
        while position < last:
            if position + 8 > last:
                raise malformed(f"Sequence {tag_name(tag)} ends within an item header.", "dicom.truncated")
            item, _, item_length, body = reader.header(position, last)
            if item == SEQUENCE_END:
                position = body
                break
            if item != ITEM:
                raise malformed(
                    f"Sequence {tag_name(tag)} holds {tag_name(item)} where an item should begin."
                )
            if item_length != UNDEFINED and body + item_length > last:
                raise malformed(
                    f"An item of {tag_name(tag)} claims {item_length} bytes, but {last - body} remain.",
                    "dicom.truncated",
                )
            count += 1
            if count > MAX_ITEMS:
                raise malformed(f"Sequence {tag_name(tag)} has more than {MAX_ITEMS} items.")
            if keep or item_length == UNDEFINED:
                stop = last if item_length == UNDEFINED else body + item_length
                elements = reader.read(body, stop, None if keep else (), depth + 1, encodings)
                position = reader.end
                if keep:
                    reader._count()
                    kept.append(elements)
            else:
                position = body + item_length
        else:
            if length == UNDEFINED:
                raise malformed(f"Sequence {tag_name(tag)} has no end.", "dicom.truncated")
        self.end = position
        self._kept = reader._kept
        return tuple(kept)


def _check_length(tag: int, length: int, start: int, end: int) -> None:
    if length != UNDEFINED and start + length > end:
        raise malformed(
            f"Element {tag_name(tag)} claims {length} bytes, but {end - start} remain.", "dicom.truncated"
        )


def _encodings(elements: Elements) -> tuple[str, ...]:
    return _python_encodings(elements.texts(CHARACTER_SET))


@lru_cache(maxsize=64)
def _python_encodings(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return Python's names of the character sets; Latin-1 for unknown ones."""
    if len(names) <= 1:
        known = _COMMON_CHARACTER_SETS.get("".join(names))
        if known is not None:
            return (known,)
    from pydicom.charset import convert_encodings

    terms = [_term(name) for name in names]
    usable = [term or "ISO_IR 6" for n, term in enumerate(terms) if term is not None or n == 0]
    usable = usable[:1] if usable[0] in _ALONE else [term for term in usable if term not in _ALONE]
    try:
        return tuple(convert_encodings(usable))
    except (LookupError, ValueError):
        return DEFAULT_ENCODINGS


@lru_cache(maxsize=256)
def _term(name: str) -> str | None:
    """Return the defined term for a character set's name, misspelt ones mended; None for an unknown one.

    Only the standard's terms count: Python knows encodings of other names that no DICOM file may choose.
    """
    from pydicom.charset import python_encoding

    for pattern, prefix in _MISSPELT:
        match = pattern.fullmatch(name.upper())
        if match:
            name = f"{prefix} {match[1]}"
    return name if name in python_encoding else None


def unknown_character_sets(elements: Elements) -> tuple[str, ...]:
    """Return the names in Specific Character Set that the standard doesn't know."""
    names = elements.texts(CHARACTER_SET)
    if len(names) <= 1 and "".join(names) in _COMMON_CHARACTER_SETS:
        return ()
    return tuple(name for name in names if _term(name) is None)


def _decoded(value: bytes, encodings: tuple[str, ...]) -> str:
    if b"\x1b" not in value:
        return value.decode(encodings[0])
    from pydicom.charset import decode_bytes

    # pydicom leaves the escape sequence of ISO 2022 IR 58 in the text
    return _ESCAPES.sub("", str(decode_bytes(value, list(encodings), set(_DELIMITER_BYTES))))
