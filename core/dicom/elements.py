"""A bounded reader of DICOM data elements.

It reads only the elements that are asked for, steps over the others, never follows a length beyond the
end of the file and never nests deeper than ``MAX_DEPTH``. Source: DICOM PS3.5 section 7.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR

from core.dicom.faults import malformed
from core.dicom.source import ByteSource

MAX_DEPTH = 32
MAX_ITEMS = 200_000
UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_SPECIFIC_CHARACTER_SET = 0x00080005

_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_NUMERIC = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


def tag_name(tag: int) -> str:
    """Return ``(gggg,eeee)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True, slots=True)
class RawElement:
    """One element as it stands in the file; ``vr`` is empty for implicit VR; ``items`` for sequences."""

    vr: str
    value: bytes = b""
    items: tuple[Elements, ...] = ()


@dataclass(frozen=True, slots=True)
class PixelLocation:
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
    encodings: tuple[str, ...] = ("iso8859",)

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
        if value.isascii():
            return value.decode("ascii").strip()
        try:
            return str(
                decode_bytes(value, list(self.encodings), {0x5C, 0x0D, 0x0A, 0x09, 0x0C, 0x5E, 0x3D})
            ).strip()
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
            return tuple(float(part) for part in element.value.decode("latin-1").strip(" \0").split("\\"))
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


def _implicit_vr(tag: int) -> str:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


class ElementReader:
    """Walks a data set. One instance per file; not thread-safe."""

    def __init__(
        self,
        source: ByteSource,
        explicit: bool,
        little_endian: bool,
        observe: Callable[..., None] | None = None,
    ) -> None:
        order = "<" if little_endian else ">"
        self._source = source
        self._explicit = explicit
        self._little = little_endian
        self._tag_and_length = struct.Struct(order + "HHI").unpack_from
        self._tag_and_short = struct.Struct(order + "HHxxH").unpack_from
        self._long = struct.Struct(order + "I").unpack_from
        self._observe = observe
        self.pixels: PixelLocation | None = None
        self.end = 0

    def read(self, position: int, end: int, wanted: Collection[int] | None, depth: int = 0) -> Elements:
        """Read elements from ``position`` up to ``end``, a delimiter or the pixels.

        Parameters
        ----------
        wanted : collection of int or None
            Tags whose values are kept; None keeps all. Items of a wanted sequence are kept whole.
        depth : int
            Nesting of the item, 0 for the data set.

        Returns
        -------
        Elements
            What was read. ``self.end`` is the position behind it, ``self.pixels`` where the pixels lie.

        Raises
        ------
        InputError
            For a length beyond the end, an invalid VR, or nesting deeper than ``MAX_DEPTH``.
        """
        if depth > MAX_DEPTH:
            raise malformed(f"Sequences are nested deeper than {MAX_DEPTH} levels.", "dicom.nested_too_deep")
        out = Elements(self._little)
        raw = out.raw
        source = self._source
        while position < end:
            if position + 8 > end:
                raise malformed(
                    f"The data set ends within an element header at byte {position}.", "dicom.truncated"
                )
            tag, vr, length, start = self._header(position, end)
            if tag in (ITEM_END, SEQUENCE_END):
                position = start
                break
            if depth == 0 and tag in PIXEL_TAGS:
                self.pixels = PixelLocation(tag, vr, start, None if length == UNDEFINED else length)
                position = start
                break
            keep = wanted is None or tag in wanted
            if self._observe is not None:
                self._observe(tag, vr, length, start, depth)
            if length != UNDEFINED and start + length > end:
                raise malformed(
                    f"Element {tag_name(tag)} claims {length} bytes, but {end - start} remain.",
                    "dicom.truncated",
                )
            if length == UNDEFINED or vr == "SQ" or (not vr and keep and _implicit_vr(tag) == "SQ"):
                if keep or length == UNDEFINED or self._observe is not None:
                    items = self._items(tag, vr, start, length, keep, depth)
                    if keep:
                        raw[tag] = RawElement("SQ", b"", items)
                    position = self.end
                else:
                    position = start + length
                continue
            if keep:
                raw[tag] = RawElement(vr, source.read(start, length))
                if tag == _SPECIFIC_CHARACTER_SET:
                    out.encodings = _encodings(out)
            position = start + length
        self.end = position
        return out

    def _header(self, position: int, end: int) -> tuple[int, str, int, int]:
        """Return tag, VR, length and the position of the value."""
        source = self._source
        offset = position - source.base
        if offset < 0 or offset + 12 > len(source.window):
            offset = source.load(position, min(12, end - position))
        group, element, length = self._tag_and_length(source.window, offset)
        tag = group << 16 | element
        if not self._explicit or group == 0xFFFE:
            return tag, "", length, position + 8
        vr = source.window[offset + 4 : offset + 6]
        if vr in _SHORT:
            return tag, vr.decode("ascii"), self._tag_and_short(source.window, offset)[2], position + 8
        if vr in _LONG or (vr.isalpha() and vr.isupper()):
            if position + 12 > end:
                raise malformed(f"The file ends within the header of {tag_name(tag)}.", "dicom.truncated")
            return tag, vr.decode("ascii"), self._long(source.window, offset + 8)[0], position + 12
        raise malformed(f"Element {tag_name(tag)} has an invalid value representation.")

    def _items(
        self, tag: int, vr: str, start: int, length: int, keep: bool, depth: int
    ) -> tuple[Elements, ...]:
        """Read the items of a sequence; an undefined-length UN holds implicit VR (PS3.5 6.2.2 note 2)."""
        reader: ElementReader = self
        if vr == "UN" and self._explicit:
            reader = ElementReader(self._source, explicit=False, little_endian=True, observe=self._observe)
        position, last = start, (start + length if length != UNDEFINED else self._source.size)
        kept: list[Elements] = []
        count = 0
        while position < last:
            if position + 8 > last:
                raise malformed(f"Sequence {tag_name(tag)} ends within an item header.", "dicom.truncated")
            item, _, item_length, body = reader._header(position, last)
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
            if keep or item_length == UNDEFINED or self._observe is not None:
                stop = last if item_length == UNDEFINED else body + item_length
                elements = reader.read(body, stop, None if keep else (), depth + 1)
                position = reader.end
                if keep:
                    kept.append(elements)
            else:
                position = body + item_length
        else:
            if length == UNDEFINED:
                raise malformed(f"Sequence {tag_name(tag)} has no end.", "dicom.truncated")
        self.end = position
        return tuple(kept)


def _encodings(elements: Elements) -> tuple[str, ...]:
    names = [name or "ISO_IR 6" for name in elements.texts(_SPECIFIC_CHARACTER_SET)] or ["ISO_IR 6"]
    try:
        return tuple(convert_encodings(names))
    except (LookupError, ValueError):
        return ("iso8859",)
