"""DICOM files written byte by byte, so that every part of them can be wrong."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

CT = b"1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = b"1.2.840.10008.1.2.1"
IMPLICIT = b"1.2.840.10008.1.2"
DEFLATED = b"1.2.840.10008.1.2.1.99"
BIG_ENDIAN = b"1.2.840.10008.1.2.2"
ROOT = "1.2.826.0.1.3680043.8.498.78"
ROWS, COLUMNS = 8, 10
UNDEFINED = 0xFFFFFFFF
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")

Element = tuple[bytes, bytes]
Changes = Mapping[int, Element | None]


def even(value: bytes, fill: bytes = b" ") -> bytes:
    """Return a value of even length."""
    return value + fill * (len(value) % 2)


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None, implicit: bool = False) -> bytes:
    """Return an element in little endian; ``length`` is what its header claims."""
    count = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", count) + value
    if vr in _LONG:
        return head + vr + struct.pack("<HI", 0, count) + value
    return head + vr + struct.pack("<H", count & 0xFFFF) + value


def us(*values: int) -> Element:
    """Return unsigned short values."""
    return b"US", struct.pack(f"<{len(values)}H", *values)


def text(vr: bytes, value: bytes | str) -> Element:
    """Return a text, padded."""
    return vr, even(value if isinstance(value, bytes) else value.encode("latin-1"))


def uid(value: bytes | str) -> Element:
    """Return a UID, padded."""
    return b"UI", even(value if isinstance(value, bytes) else value.encode(), b"\0")


def image_elements(number: int, instance: int = 1) -> dict[int, Element]:
    """Return the elements of a sound CT image; ``number`` tells studies apart, ``instance`` slices."""
    pixels = struct.pack(f"<{ROWS * COLUMNS}h", *range(ROWS * COLUMNS))
    return {
        0x00080005: text(b"CS", "ISO_IR 100"),
        0x00080008: text(b"CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        0x00080016: uid(CT),
        0x00080018: uid(f"{ROOT}.{number}.3.{instance}"),
        0x00080020: text(b"DA", "20240102"),
        0x00080060: text(b"CS", "CT"),
        0x00080050: text(b"SH", f"HOSTILE-{number}"),
        0x0008103E: text(b"LO", "hostile"),
        0x00100010: text(b"PN", "PLANTED^MARKER"),
        0x00100020: text(b"LO", f"HOSTILE-{number}"),
        0x0020000D: uid(f"{ROOT}.{number}.1"),
        0x0020000E: uid(f"{ROOT}.{number}.2"),
        0x00200011: text(b"IS", "1"),
        0x00200013: text(b"IS", str(instance)),
        0x00200032: text(b"DS", f"0\\0\\{2 * instance}"),
        0x00200037: text(b"DS", "1\\0\\0\\0\\1\\0"),
        0x00200052: uid(f"{ROOT}.{number}.4"),
        0x00280002: us(1),
        0x00280004: text(b"CS", "MONOCHROME2"),
        0x00280010: us(ROWS),
        0x00280011: us(COLUMNS),
        0x00280030: text(b"DS", "1\\1"),
        0x00280100: us(16),
        0x00280101: us(16),
        0x00280102: us(15),
        0x00280103: us(1),
        0x00281052: text(b"DS", "-1024"),
        0x00281053: text(b"DS", "1"),
        0x7FE00010: (b"OW", pixels),
    }


def data_set(elements: Mapping[int, Element], *, implicit: bool = False) -> bytes:
    """Return elements in the order of their tags."""
    return b"".join(
        element(tag, vr, value, implicit=implicit) for tag, (vr, value) in sorted(elements.items())
    )


def meta(syntax: bytes = EXPLICIT, sop_class: bytes = CT, sop_instance: bytes = b"1.2.3.4") -> bytes:
    """Return group 2."""
    body = b"".join(
        (
            element(0x00020001, b"OB", b"\0\1"),
            element(0x00020002, *uid(sop_class)),
            element(0x00020003, *uid(sop_instance)),
            element(0x00020010, *uid(syntax)),
            element(0x00020012, *uid("1.2.826.0.1.3680043.8.498.9")),
        )
    )
    return element(0x00020000, b"UL", struct.pack("<I", len(body))) + body


def part10(body: bytes, *, head: bytes | None = None, preamble: bytes = b"") -> bytes:
    """Return a file: preamble, prefix, meta information, data set."""
    return preamble.ljust(128, b"\0")[:128] + b"DICM" + (meta() if head is None else head) + body


def image(
    number: int,
    changes: Changes | None = None,
    *,
    instance: int = 1,
    syntax: bytes = EXPLICIT,
    tail: bytes = b"",
    preamble: bytes = b"",
) -> bytes:
    """Return a CT image with some elements changed (None removes one) and ``tail`` behind the last one."""
    elements = image_elements(number, instance)
    for tag, change in (changes or {}).items():
        if change is None:
            elements.pop(tag, None)
        else:
            elements[tag] = change
    body = data_set(elements, implicit=syntax == IMPLICIT) + tail
    if syntax == DEFLATED:
        body = deflated(body)
    instance_uid = elements.get(0x00080018, (b"UI", b""))[1].rstrip(b"\0")
    return part10(body, head=meta(syntax, CT, instance_uid[:64]), preamble=preamble)


def deflated(body: bytes) -> bytes:
    """Return a raw deflate stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def fragments(*parts: bytes, table: bytes = b"", closed: bool = True) -> bytes:
    """Return encapsulated pixel data: offset table, fragments, end."""
    item = struct.Struct("<HHI").pack
    out = [item(0xFFFE, 0xE000, len(table)), table]
    for part in parts:
        out += [item(0xFFFE, 0xE000, len(even(part, b"\0"))), even(part, b"\0")]
    return b"".join(out) + (item(0xFFFE, 0xE0DD, 0) if closed else b"")


def encapsulated(number: int, syntax: bytes, pixels: bytes, changes: Changes | None = None) -> bytes:
    """Return a CT image with encapsulated pixel data ``pixels``."""
    removed: dict[int, Element | None] = {**(changes or {}), 0x7FE00010: None}
    tail = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED) + pixels
    return image(number, removed, syntax=syntax, tail=tail)
