"""All elements of a file for display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.dicom.elements import PIXEL_TAGS, Elements, RawElement, tag_name
from core.dicom.faults import malformed, translated
from core.dicom.part10 import NotDicom, ParsedFile, parse_file

MAX_ELEMENTS = 100_000
MAX_TEXT = 1024
_CHARACTER_SET = 0x00080005
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "UV", "SV"})
_CHARSET_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


def read_tags(path: Path, query: str = "") -> list[dict[str, Any]]:
    """List the elements of a DICOM file.

    Parameters
    ----------
    path : Path
        The file.
    query : str
        Keep elements whose tag, keyword, VR or value contains it, letter case ignored.

    Returns
    -------
    list of dict
        ``tag`` "(gggg,eeee)", ``keyword``, ``vr``, ``value`` (text; binary as "n bytes"), ``depth`` (0 for the data
        set, +1 in each sequence item), in the order of the file, meta information first.

    Raises
    ------
    InputError
        If the file isn't DICOM or is damaged.
    EnvironmentFault
        If it cannot be read.
    """
    with translated("Reading the elements"):
        try:
            parsed = parse_file(path, None)
        except NotDicom:
            raise malformed("This is not a DICOM file.", "dicom.not_dicom") from None
        inherit_character_set(parsed.elements)
        rows: list[dict[str, Any]] = []
        _append(parsed.meta, 0, rows)
        _append(parsed.elements, 0, rows)
        _append_pixels(parsed, rows)
    wanted = query.casefold().strip()
    return [row for row in rows if not wanted or _matches(row, wanted)]


def inherit_character_set(elements: Elements) -> None:
    """Give items the character set of what they stand in, unless they have their own (PS3.3 C.12.1.1.2)."""
    for element in elements.raw.values():
        for item in element.items:
            if _CHARACTER_SET not in item:
                item.encodings = elements.encodings
            inherit_character_set(item)


def _matches(row: dict[str, Any], wanted: str) -> bool:
    bare = row["tag"].strip("()").replace(",", "")
    fields = (row["tag"], bare, row["keyword"], row["vr"], row["value"])
    return any(wanted in str(field).casefold() for field in fields)


def _append(elements: Elements, depth: int, rows: list[dict[str, Any]]) -> None:
    for tag, element in elements.raw.items():
        if len(rows) >= MAX_ELEMENTS:
            return
        vr = vr_of(tag, element)
        rows.append(_row(tag, vr, value_of(elements, tag, element, vr), depth))
        for item in element.items:
            _append(item, depth + 1, rows)


def _append_pixels(parsed: ParsedFile, rows: list[dict[str, Any]]) -> None:
    if parsed.pixels is None:
        return
    rows.append(_row(parsed.pixels.tag, parsed.pixels.vr or "OW", pixel_value(parsed), 0))


def pixel_value(parsed: ParsedFile) -> str:
    """Return the size of the pixels; they themselves are never read here."""
    if parsed.pixels is None:
        return ""
    length = parsed.pixels.length
    if length is not None:
        return f"{length} bytes"
    return f"encapsulated, {parsed.size - parsed.pixels.offset} bytes"


def _row(tag: int, vr: str, value: str, depth: int) -> dict[str, Any]:
    return {"tag": tag_name(tag), "keyword": keyword_of(tag), "vr": vr, "value": value, "depth": depth}


def vr_of(tag: int, element: RawElement) -> str:
    """Return the VR that stands in the file, else the dictionary's."""
    from pydicom.datadict import dictionary_VR

    if element.vr:
        return element.vr
    try:
        return str(dictionary_VR(tag)).split(" ")[0]
    except KeyError:
        return "LO" if tag >> 16 & 1 and 0x10 <= (tag & 0xFFFF) <= 0xFF else "UN"


def keyword_of(tag: int) -> str:
    """Return the keyword of an element, or what kind of element it is."""
    from pydicom.datadict import dictionary_description, dictionary_keyword

    try:
        return str(dictionary_keyword(tag)) or str(dictionary_description(tag))
    except KeyError:
        if tag & 0xFFFF == 0:
            return "GroupLength"
        return "PrivateElement" if tag >> 16 & 1 else ""


def count_in_words(count: int, one: str) -> str:
    """Return ``"1 item"`` or ``"3 items"``."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def value_of(elements: Elements, tag: int, element: RawElement, vr: str) -> str:
    """Return a value as text in its character set; binary as its size; long text cut."""
    if vr == "SQ":
        return count_in_words(len(element.items), "item")
    if vr in _BINARY or tag in PIXEL_TAGS:
        return f"{len(element.value)} bytes"
    if vr in _NUMBERS:
        text = "\\".join(f"{number:.10g}" for number in elements.numbers(tag))
    elif vr == "AT":
        text = _tag_values(elements, element)
    else:
        text = elements.person_text(tag) if vr in _CHARSET_TEXT else elements.text(tag)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + f"… ({len(text)} characters)"


def _tag_values(elements: Elements, element: RawElement) -> str:
    order: Any = "little" if elements.little_endian else "big"
    words = [int.from_bytes(element.value[n : n + 2], order) for n in range(0, len(element.value) - 1, 2)]
    return "\\".join(
        f"({group:04X},{number:04X})" for group, number in zip(words[::2], words[1::2], strict=False)
    )
