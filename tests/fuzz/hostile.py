"""Hostile files of the fault catalogue, built anew for each run.

Each case says where it stands in the catalogue, how to build what is imported, and what a person must be told: one of
the codes has to appear among the skipped files, the issues of a series, or the errors of opening it.
``SHOWN`` stands for files that are sound apart from texts which must not disturb the screen: their identity has to
come out without control characters.
"""

from __future__ import annotations

import gzip
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from tests.fuzz import dicom_bytes as d

SHOWN = "shown.safely"
NOT_DICOM = frozenset({"dicom.not_dicom", "file.unknown_format", "file.unsupported_format"})
BROKEN = frozenset({"dicom.malformed", "dicom.truncated", "dicom.empty", "dicom.missing_uid"})
CUT = frozenset(
    {"dicom.truncated", "dicom.malformed", "dicom.empty", "dicom.missing_uid", "file.unknown_format"}
)
TOO_LARGE = frozenset(
    {
        "dicom.too_large",
        "dicom.truncated",
        "dicom.malformed",
        "dicom.invalid_image",
        "memory.volume_too_large",
        "memory.exhausted",
    }
)
UNDECODABLE = frozenset({"dicom.undecodable", "dicom.truncated", "dicom.malformed", "dicom.frame_boundaries"})
ZIP = frozenset({"zip.damaged", "zip.member_damaged"})

Build = Callable[[Path, int], Path]


@dataclass(frozen=True)
class Hostile:
    """One case; ``build`` writes into a folder and returns what to import. ``number`` is unique per case."""

    row: str
    name: str
    build: Build
    said: frozenset[str]


def all_cases() -> list[Hostile]:
    """Return every case of the catalogue, in its order."""
    return [
        *_no_dicom(),
        *_empty_data_sets(),
        *_truncated(),
        *_nested(),
        *_lengths(),
        *_deflated(),
        *_sizes(),
        *_garbage_codecs(),
        *_wrong_values(),
        *_preambles(),
        *_identifiers(),
        *_texts(),
        *_duplicates(),
        *_inconsistent(),
        *_file_system(),
        *_dicomdirs(),
        *_zip_names(),
        *_zip_bombs(),
        *_other_formats(),
    ]


def _file(
    row: str, name: str, content: bytes | Callable[[int], bytes], said: frozenset[str] | set[str]
) -> Hostile:
    def build(folder: Path, number: int) -> Path:
        path = folder / "hostile.dcm"
        path.write_bytes(content if isinstance(content, bytes) else content(number))
        return path

    return Hostile(row, name, build, frozenset(said))


def _noise(count: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(count)


# B1 ------------------------------------------------------------------------------------------------------------------


def _no_dicom() -> Iterator[Hostile]:
    contents = {
        "empty": b"",
        "one byte": b"\0",
        "text": b"Dear colleague, here are the images.\n",
        "page": b"<html><script>alert(1)</script></html>",
        "128 zeros": bytes(128),
        "200 zeros": bytes(200),
        "a megabyte of zeros": bytes(1 << 20),
        "noise": _noise(5000, 1),
        "0xFF": b"\xff" * 4096,
        "prefix at the beginning": b"DICM" + _noise(400, 2),
        "document": b"%PDF-1.7\n%%EOF\n",
        "program": b"\x7fELF" + _noise(600, 3),
        "archive of another kind": b"7z\xbc\xaf\x27\x1c" + _noise(600, 4),
        "lines only": b"\n" * 3000,
    }
    for name, content in contents.items():
        yield _file("B1", name, content, NOT_DICOM | BROKEN)


# B2 ------------------------------------------------------------------------------------------------------------------


def _empty_data_sets() -> Iterator[Hostile]:
    shell = bytes(128) + b"DICM"
    said = BROKEN | NOT_DICOM
    yield _file("B2", "prefix and nothing", shell, said)
    yield _file("B2", "prefix and zeros", shell + bytes(900), said)
    yield _file("B2", "prefix and 0xFF", shell + b"\xff" * 900, said)
    for seed in range(6):
        yield _file("B2", f"prefix and noise {seed}", shell + _noise(900, seed), said)
    yield _file("B2", "meta information only", d.part10(b""), said)
    yield _file("B2", "half of the meta information", d.part10(b"")[:170], said)
    yield _file("B2", "data set of zeros", d.part10(bytes(500)), said)
    yield _file("B2", "data set of 0xFF", d.part10(b"\xff" * 500), said)
    for keyword, tag in (("SOP instance", 0x00080018), ("study", 0x0020000D), ("series", 0x0020000E)):
        yield _file(
            "B2",
            f"no {keyword} UID",
            lambda n, tag=tag: d.image(n, {tag: None}),
            {"dicom.blank_uid", *BROKEN},
        )
    uids = dict.fromkeys((0x00080016, 0x00080018, 0x0020000D, 0x0020000E))
    yield _file("B2", "no UID at all", lambda n: d.part10(d.image(n, uids)[300:], head=b""), said)
    yield _file(
        "B2",
        "no UIDs and no pixels",
        lambda n: d.part10(d.data_set({0x00100010: d.text(b"PN", "A^B"), 0x00080060: d.text(b"CS", "CT")})),
        said,
    )
    yield _file("B2", "unknown syntax", lambda n: d.image(n, syntax=b"1.2.3.4.5.6"), {"dicom.invalid_image"})


# B3 ------------------------------------------------------------------------------------------------------------------


def _truncated() -> Iterator[Hostile]:
    for label, syntax, parts in (
        ("explicit", d.EXPLICIT, 24),
        ("implicit", d.IMPLICIT, 12),
        ("deflated", d.DEFLATED, 8),
    ):
        for part in range(parts):

            def cut(number: int, syntax: bytes = syntax, share: float = (part + 0.5) / parts) -> bytes:
                whole = d.image(number, syntax=syntax)
                return whole[: 132 + int((len(whole) - 132) * share)]

            yield _file("B3", f"{label} cut after {part + 1} of {parts}", cut, CUT)
    jpeg = b"\xff\xd8" + _noise(300, 5) + b"\xff\xd9"
    for cut_bytes in (1, 8, 9, 150, 320):
        yield _file(
            "B3",
            f"encapsulated, {cut_bytes} bytes lacking",
            lambda n, c=cut_bytes: d.encapsulated(n, b"1.2.840.10008.1.2.4.70", d.fragments(jpeg))[:-c],
            CUT | UNDECODABLE,
        )
    yield _file("B3", "one byte of pixels lacking", lambda n: d.image(n)[:-1], CUT)
    yield _file("B3", "two bytes of pixels lacking", lambda n: d.image(n)[:-2], CUT)
    half = struct.pack("<40h", *range(40))
    yield _file(
        "B3", "half of the pixels, length honest", lambda n: d.image(n, {0x7FE00010: (b"OW", half)}), CUT
    )
    yield _file(
        "B3",
        "no pixels, length honest",
        lambda n: d.image(n, {0x7FE00010: (b"OW", b"")}),
        CUT | {"dicom.no_pixels"},
    )
    yield _file(
        "B3", "image without Pixel Data", lambda n: d.image(n, {0x7FE00010: None}), CUT | {"dicom.no_pixels"}
    )


# B4 ------------------------------------------------------------------------------------------------------------------


def _nested() -> Iterator[Hostile]:
    def open_ended(number: int, depth: int) -> bytes:
        begin = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, d.UNDEFINED) + struct.pack(
            "<HHI", 0xFFFE, 0xE000, d.UNDEFINED
        )
        end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        nested = begin * depth + end * depth
        return d.image(number, {0x7FE00010: None}) + nested + d.element(0x7FE00010, b"OW", bytes(160))

    def counted(number: int, depth: int, vr: bytes = b"SQ") -> bytes:
        inner = d.element(0x00080100, b"SH", b"x ")
        for _ in range(depth):
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
            inner = d.element(0x52009230, vr, item)
        return d.image(number, {0x7FE00010: None}) + inner + d.element(0x7FE00010, b"OW", bytes(160))

    deep = {"dicom.nested_too_deep", *BROKEN}
    for depth in (33, 50, 240, 300, 5000, 200_000):
        yield _file("B4", f"{depth} open sequences", lambda n, depth=depth: open_ended(n, depth), deep)
    for depth in (33, 50, 300, 2000):
        yield _file("B4", f"{depth} sequences with lengths", lambda n, depth=depth: counted(n, depth), deep)
    endless = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, d.UNDEFINED)
    yield _file("B4", "a sequence without end", lambda n: d.image(n, {0x7FE00010: None}) + endless, CUT)
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, d.UNDEFINED) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, d.UNDEFINED
    )
    yield _file("B4", "unknown sequences, nested", lambda n: d.part10(unknown * 400), deep)
    stray = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) * 3
    yield _file(
        "B4", "delimiters of nothing", lambda n: d.part10(stray + d.image(n)[300:]), BROKEN | NOT_DICOM
    )


# B5 ------------------------------------------------------------------------------------------------------------------


def _lengths() -> Iterator[Hostile]:
    for label, length in (("2 GB", 1 << 31), ("4 GB less two", 0xFFFFFFFE), ("a little too long", 5000)):
        for name, tag, vr in (
            ("private data", 0x00091001, b"OB"),
            ("unlimited text", 0x00204000, b"UT"),
            ("pixels", 0x7FE00010, b"OW"),
            ("a sequence", 0x52009229, b"SQ"),
        ):

            def claim(number: int, tag: int = tag, vr: bytes = vr, length: int = length) -> bytes:
                pixels = {0x7FE00010: None} if tag == 0x7FE00010 else None
                body = d.image(number, pixels)
                place = len(body) if pixels else body.rindex(struct.pack("<HH", 0x7FE0, 0x0010))
                lie = d.element(tag, vr, bytes(160), length=length)
                return body[:place] + lie + body[place:]

            yield _file("B5", f"{name} of {label}", claim, CUT)
    yield _file(
        "B5",
        "endless text",
        lambda n: d.image(n, {0x7FE00010: None}) + d.element(0x7FDF1001, b"UT", b"x", length=d.UNDEFINED),
        CUT,
    )
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0x7FFFFFFF)
    yield _file(
        "B5",
        "an item of 2 GB",
        lambda n: d.image(n, {0x7FE00010: None}) + d.element(0x7FDF1001, b"SQ", item),
        CUT,
    )
    yield _file(
        "B5",
        "meta information of 4 GB",
        d.part10(b"", head=d.element(0x00020001, b"OB", b"\0\1", length=0xFFFFFFF0)),
        CUT,
    )
    yield _file(
        "B5",
        "implicit element of 4 GB",
        lambda n: (
            d.image(n, {0x7FE00010: None}, syntax=d.IMPLICIT)
            + d.element(0x7FDF1001, b"", b"", length=0xFFFFFFF0, implicit=True)
        ),
        CUT,
    )


# B6 ------------------------------------------------------------------------------------------------------------------


def _deflated() -> Iterator[Hostile]:
    def bomb(number: int, megabytes: int) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        elements = d.image_elements(number)
        del elements[0x7FE00010]
        out = [packer.compress(d.data_set(elements))]
        out.append(packer.compress(d.element(0x7FDF1001, b"OB", b"", length=megabytes << 20)))
        block = bytes(1 << 20)
        out += [packer.compress(block) for _ in range(megabytes)]
        out.append(packer.flush())
        return d.part10(b"".join(out), head=d.meta(d.DEFLATED))

    said = {"dicom.inflated_too_large", *CUT}
    yield _file("B6", "grows to 80 MB", lambda n: bomb(n, 80), said)
    yield _file("B6", "grows to 512 MB", lambda n: bomb(n, 512), said)
    yield _file("B6", "no deflate stream", lambda n: d.part10(_noise(900, 6), head=d.meta(d.DEFLATED)), said)
    yield _file("B6", "nothing deflated", lambda n: d.part10(b"", head=d.meta(d.DEFLATED)), said)
    yield _file("B6", "stream without end", lambda n: d.image(n, syntax=d.DEFLATED)[:-6], said)


# B7 ------------------------------------------------------------------------------------------------------------------


def _sizes() -> Iterator[Hostile]:
    said = TOO_LARGE | CUT | UNDECODABLE
    changes: dict[str, d.Changes] = {
        "65535 x 65535": {0x00280010: d.us(65535), 0x00280011: d.us(65535)},
        "a thousand million frames": {0x00280008: d.text(b"IS", "1000000000")},
        "65535 x 65535, a million frames": {
            0x00280010: d.us(65535),
            0x00280011: d.us(65535),
            0x00280008: d.text(b"IS", "999999"),
        },
        "frames without end": {0x00280008: d.text(b"IS", "9" * 12)},
        "no rows": {0x00280010: d.us(0)},
        "no columns": {0x00280011: d.us(0)},
        "Rows lacking": {0x00280010: None},
        "Bits Allocated lacking": {0x00280100: None},
        "no bits": {0x00280100: d.us(0)},
        "three bits": {0x00280100: d.us(3)},
        "64 bits": {0x00280100: d.us(64), 0x00280101: d.us(64)},
        "65535 bits": {0x00280100: d.us(65535)},
        "more bits stored than there are": {0x00280101: d.us(17)},
        "65535 samples": {0x00280002: d.us(65535)},
        "two samples": {0x00280002: d.us(2)},
        "three samples of grey": {0x00280002: d.us(3)},
    }
    for name, change in changes.items():
        yield _file("B7", name, lambda n, c=change: d.image(n, c), said)
    huge: d.Changes = {0x00280010: d.us(65535), 0x00280011: d.us(65535)}
    rle = struct.pack("<16I", 2, 64, 70, *[0] * 13) + b"\x81\x00" * 40
    yield _file(
        "B7", "RLE bomb", lambda n: d.encapsulated(n, b"1.2.840.10008.1.2.5", d.fragments(rle), huge), said
    )
    yield _file(
        "B7",
        "palette without a table",
        lambda n: d.image(n, {0x00280004: d.text(b"CS", "PALETTE COLOR")}),
        said | {"dicom.palette"},
    )
    many = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, 0) for _ in range(60_000))
    frames: d.Changes = {0x00280008: d.text(b"IS", "50000")}
    closed = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    yield _file(
        "B7",
        "50,000 empty frames",
        lambda n: d.encapsulated(n, b"1.2.840.10008.1.2.4.70", many + closed, frames),
        UNDECODABLE,
    )


# B8 ------------------------------------------------------------------------------------------------------------------

SYNTAXES = {
    "JPEG baseline": (b"1.2.840.10008.1.2.4.50", b"\xff\xd8\xff\xe0"),
    "JPEG extended": (b"1.2.840.10008.1.2.4.51", b"\xff\xd8\xff\xe0"),
    "JPEG lossless": (b"1.2.840.10008.1.2.4.57", b"\xff\xd8\xff\xc3"),
    "JPEG lossless SV1": (b"1.2.840.10008.1.2.4.70", b"\xff\xd8\xff\xc3"),
    "JPEG-LS": (b"1.2.840.10008.1.2.4.80", b"\xff\xd8\xff\xf7"),
    "JPEG-LS near": (b"1.2.840.10008.1.2.4.81", b"\xff\xd8\xff\xf7"),
    "JPEG 2000 lossless": (b"1.2.840.10008.1.2.4.90", b"\xff\x4f\xff\x51"),
    "JPEG 2000": (b"1.2.840.10008.1.2.4.91", b"\xff\x4f\xff\x51"),
    "HTJ2K": (b"1.2.840.10008.1.2.4.201", b"\xff\x4f\xff\x51"),
    "RLE": (b"1.2.840.10008.1.2.5", struct.pack("<2I", 2, 64)),
    "MPEG-2": (b"1.2.840.10008.1.2.4.100", b"\0\0\1\xb3"),
    "MPEG-4": (b"1.2.840.10008.1.2.4.102", b"\0\0\0\x18ftyp"),
    "JPEG XL": (b"1.2.840.10008.1.2.4.110", b"\xff\x0a"),
}


def _garbage_codecs() -> Iterator[Hostile]:
    for name, (syntax, magic) in SYNTAXES.items():
        for label, pixels in (
            ("noise", d.fragments(_noise(700, 8))),
            ("noise behind its magic", d.fragments(magic + _noise(700, 9))),
            ("an empty fragment", d.fragments(b"")),
        ):
            yield _file(
                "B8", f"{name}: {label}", lambda n, s=syntax, p=pixels: d.encapsulated(n, s, p), UNDECODABLE
            )
    lying = d.fragments(b"\xff\xd8\xff", table=struct.pack("<I", 0xFFFFFF00))
    yield _file(
        "B8",
        "offset table that lies",
        lambda n: d.encapsulated(n, b"1.2.840.10008.1.2.4.70", lying),
        UNDECODABLE,
    )
    stray = struct.pack("<HHI", 0x0008, 0x0018, 4) + b"abcd"
    yield _file(
        "B8",
        "an element between fragments",
        lambda n: d.encapsulated(n, b"1.2.840.10008.1.2.4.70", stray),
        UNDECODABLE,
    )
    wide = struct.pack(">2sHBHHB", b"\xff\xc3", 11, 8, 65535, 65535, 1) + b"\1\x11\0"
    yield _file(
        "B8",
        "a stream larger than its header",
        lambda n: d.encapsulated(
            n, b"1.2.840.10008.1.2.4.70", d.fragments(b"\xff\xd8" + wide + _noise(300, 10))
        ),
        UNDECODABLE,
    )


# B9 ------------------------------------------------------------------------------------------------------------------


def _wrong_values() -> Iterator[Hostile]:
    def vr(letters: bytes) -> Callable[[int], bytes]:
        def content(number: int) -> bytes:
            sound = d.image(number)
            place = sound.index(struct.pack("<HH2s", 0x0020, 0x0032, b"DS"))
            return sound[: place + 4] + letters + sound[place + 6 :]

        return content

    for letters in (b"ZZ", b"ds", b"\0\0", b"\xff\xff", b"??", b"SQ"):
        yield _file("B9", f"value representation {letters!r}", vr(letters), BROKEN | CUT)
    geometry, spacing = {"dicom.invalid_value"}, {"geometry.no_spacing"}
    rescale = {"dicom.rescale_invalid"}
    values: dict[str, tuple[d.Changes, set[str]]] = {
        "position of two numbers": ({0x00200032: d.text(b"DS", "0\\0")}, geometry),
        "position is no number": ({0x00200032: d.text(b"DS", "a\\b\\c")}, geometry),
        "position is NaN": ({0x00200032: d.text(b"DS", "nan\\0\\0")}, geometry),
        "position is infinite": ({0x00200032: d.text(b"DS", "1e400\\0\\0")}, geometry),
        "position far away": ({0x00200032: d.text(b"DS", "1e30\\0\\0")}, geometry),
        "orientation of zeros": ({0x00200037: d.text(b"DS", "0\\0\\0\\0\\0\\0")}, geometry),
        "orientation of equal axes": ({0x00200037: d.text(b"DS", "1\\0\\0\\1\\0\\0")}, geometry),
        "orientation with commas": ({0x00200037: d.text(b"DS", "1,0\\0\\0\\0\\1\\0")}, geometry),
        "spacing of zero": ({0x00280030: d.text(b"DS", "0\\0")}, spacing),
        "negative spacing": ({0x00280030: d.text(b"DS", "-1\\-1")}, spacing),
        "spacing is NaN": ({0x00280030: d.text(b"DS", "nan\\nan")}, spacing),
        "spacing without end": ({0x00280030: d.text(b"DS", "1" + "0" * 400)}, spacing),
        "one spacing": ({0x00280030: d.text(b"DS", "1")}, spacing),
        "slope of zero": ({0x00281053: d.text(b"DS", "0")}, rescale),
        "slope is NaN": ({0x00281053: d.text(b"DS", "nan")}, rescale),
        "slope is a word": ({0x00281053: d.text(b"DS", "one")}, rescale),
        "intercept is infinite": ({0x00281052: d.text(b"DS", "-inf")}, rescale),
        "slope is huge": ({0x00281053: d.text(b"DS", "1e38")}, rescale),
        "rows as text": ({0x00280010: d.text(b"LO", "eight")}, {"dicom.invalid_image"}),
        "rows of one byte": ({0x00280010: (b"US", b"\x08")}, {"dicom.invalid_image"}),
        "rows without a value": ({0x00280010: (b"US", b"")}, {"dicom.invalid_image"}),
        "frames as a word": ({0x00280008: d.text(b"IS", "many")}, {"dicom.invalid_value"}),
        "frames negative": ({0x00280008: d.text(b"IS", "-3")}, {"dicom.invalid_value"}),
        "frames zero": ({0x00280008: d.text(b"IS", "0")}, {"dicom.invalid_value"}),
        "unknown photometric": (
            {0x00280004: d.text(b"CS", "INFRARED")},
            {"dicom.photometric_unknown", "dicom.undecodable"},
        ),
        "modality of zeros": ({0x00080060: (b"CS", bytes(16))}, {"dicom.invalid_value"}),
        "representation of 7": ({0x00280103: d.us(7)}, {"dicom.invalid_value"}),
    }
    for name, (change, said) in values.items():
        yield _file("B9", name, lambda n, c=change: d.image(n, c), said)
    yield _file(
        "B9",
        "elements in no order",
        lambda n: d.part10(b"".join(d.element(t, *e) for t, e in reversed(d.image_elements(n).items()))),
        BROKEN | CUT,
    )


# B10 -----------------------------------------------------------------------------------------------------------------


def _preambles() -> Iterator[Hostile]:
    said = {"dicom.foreign_preamble"}
    for name, begin in (
        ("Windows program", b"MZ\x90\0"),
        ("Linux program", b"\x7fELF\2\1\1"),
        ("script", b"#!/bin/sh\nrm -rf ~\n"),
        ("archive", b"PK\3\4"),
        ("Java class", b"\xca\xfe\xba\xbe"),
        ("macOS program", b"\xcf\xfa\xed\xfe"),
        ("old macOS program", b"\xce\xfa\xed\xfe"),
        ("document", b"%PDF-1.4\n"),
        ("page", b"<html><script>"),
    ):
        yield _file("B10", f"preamble of a {name}", lambda n, b=begin: d.image(n, preamble=b), said)
    # The standard allows it there; only the DICOM part is read, and no export writes it.
    tiff = b"II*\0\x08\0\0\0"
    yield _file("B10", "preamble of a TIFF picture", lambda n: d.image(n, preamble=tiff), {SHOWN})


# B11 -----------------------------------------------------------------------------------------------------------------


def _identifiers() -> Iterator[Hostile]:
    said = {"dicom.invalid_uid", "dicom.blank_uid", *BROKEN}
    names = {0x00080018: "SOP instance", 0x0020000E: "series", 0x0020000D: "study"}
    values = {
        "a path": b"../../../../tmp/escaped",
        "a Windows path": b"C:\\escaped",
        "300 digits": b"1." + b"2" * 298,
        "65 characters": b"1." + b"2" * 63,
        "blanks": b"      ",
        "letters": b"1.2.840.abc",
        "dots": b"1..2",
        "a zero inside": b"1.2\x003.4",
        "a line break": b"1.2\n3.4",
    }
    for tag, keyword in names.items():
        for name, value in values.items():
            yield _file(
                "B11", f"{keyword} UID: {name}", lambda n, t=tag, v=value: d.image(n, {t: d.uid(v)}), said
            )


# B12 -----------------------------------------------------------------------------------------------------------------


def _texts() -> Iterator[Hostile]:
    for name, value in {
        "script": b"<script>alert(1)</script>",
        "terminal sequences": b"\x1b[31mred\x1b]0;title\x07",
        "zeros": b"A\0B\0C^D\0",
        "line breaks": b"A\r\nB^C",
        "formula": b'=HYPERLINK("http://example.invalid")',
        "ten thousand letters": b"A" * 10_000,
        "a thousand carets": b"^" * 1000,
        "a thousand groups": b"A=" * 1000,
    }.items():
        yield _file(
            "B12", f"name with {name}", lambda n, v=value: d.image(n, {0x00100010: d.text(b"PN", v)}), {SHOWN}
        )
    for name, word in {
        "right-to-left override": "abc\u202egnp.exe",
        "isolates without end": "\u2066\u2067abc",
        "zero-width letters": "a\u200bb\ufeffc",
        "tag characters": "a\U000e0041",
        "line separators": "a\u2028b",
    }.items():
        change: d.Changes = {
            0x00080005: d.text(b"CS", "ISO_IR 192"),
            0x00100010: d.text(b"PN", word.encode()),
        }
        yield _file("B12", f"name with {name}", lambda n, c=change: d.image(n, c), {SHOWN})
    for name, charset in (
        ("unknown", "ISO_IR 9999"),
        ("of a program", "zlib_codec"),
        ("long", "ISO_IR 100\\" * 500),
    ):
        change = {0x00080005: d.text(b"CS", charset), 0x00100010: d.text(b"PN", b"\xff\xfe\x1b$B")}
        said = {SHOWN} if name == "long" else {"dicom.unknown_character_set"}
        yield _file("B15", f"character set {name}", lambda n, c=change: d.image(n, c), said)


# B13, B14 ------------------------------------------------------------------------------------------------------------


def _folder(row: str, name: str, contents: Callable[[int], list[bytes]], said: set[str]) -> Hostile:
    def build(folder: Path, number: int) -> Path:
        for place, content in enumerate(contents(number)):
            (folder / f"{place:04d}.dcm").write_bytes(content)
        return folder

    return Hostile(row, name, build, frozenset(said))


def _duplicates() -> Iterator[Hostile]:
    other = (b"OW", bytes(160))
    yield _folder("B13", "the same file twice", lambda n: [d.image(n)] * 2, {"dicom.duplicate"})
    yield _folder(
        "B13",
        "one UID, two contents",
        lambda n: [d.image(n), d.image(n, {0x7FE00010: other})],
        {"dicom.uid_conflict"},
    )
    yield _folder(
        "B13",
        "one UID, two patients",
        lambda n: [d.image(n), d.image(n, {0x00100010: d.text(b"PN", "OTHER^MARKER")})],
        {"dicom.uid_conflict"},
    )


def _inconsistent() -> Iterator[Hostile]:
    def stack(
        number: int, changes: Callable[[int], d.Changes | None], slices: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    ) -> list[bytes]:
        return [d.image(number, changes(k), instance=k) for k in slices]

    def odd(number: int, change: d.Changes) -> list[bytes]:
        return stack(number, lambda k: change if k == 4 else None)

    small: d.Changes = {0x00280010: d.us(4), 0x7FE00010: (b"OW", bytes(80))}
    cases: dict[str, tuple[Callable[[int], list[bytes]], set[str]]] = {
        "a slice of another size": (
            lambda n: odd(n, small),
            {"series.split", "geometry.missing_slices", "geometry.irregular"},
        ),
        "a slice of another orientation": (
            lambda n: odd(n, {0x00200037: d.text(b"DS", "0\\1\\0\\0\\0\\-1")}),
            {"series.split", "geometry.missing_slices", "geometry.irregular"},
        ),
        "a slice of another spacing": (
            lambda n: odd(n, {0x00280030: d.text(b"DS", "2\\2")}),
            {"series.split", "geometry.missing_slices", "geometry.irregular"},
        ),
        "another frame of reference": (
            lambda n: stack(n, lambda k: {0x00200052: d.uid(f"1.2.3.{k % 2}")}),
            {"geometry.mixed_frame_of_reference", "geometry.frame_of_reference_varies"},
        ),
        "another patient's slice": (
            lambda n: odd(
                n, {0x00100020: d.text(b"LO", "SOMEBODY ELSE"), 0x00100010: d.text(b"PN", "OTHER^MARKER")}
            ),
            {"dicom.mixed_patients"},
        ),
        "every slice another patient's": (
            lambda n: stack(n, lambda k: {0x00100020: d.text(b"LO", f"P{k}")}),
            {"dicom.mixed_patients"},
        ),
        "a slice lacking": (
            lambda n: stack(n, lambda k: None, (1, 2, 4, 5, 6)),
            {"geometry.missing_slices", "geometry.irregular"},
        ),
        "two places for one slice": (
            lambda n: [
                *stack(n, lambda k: None),
                d.image(
                    n, {0x00200032: d.text(b"DS", "0\\0\\6"), 0x7FE00010: (b"OW", bytes(160))}, instance=99
                ),
            ],
            {"geometry.duplicate_position", "series.split"},
        ),
        "irregular distances": (
            lambda n: stack(n, lambda k: {0x00200032: d.text(b"DS", f"0\\0\\{k * k}")}),
            {"geometry.irregular", "geometry.missing_slices", "geometry.irregular_spacing"},
        ),
        "gantry tilt": (
            lambda n: stack(n, lambda k: {0x00200032: d.text(b"DS", f"0\\{k * 0.5}\\{2 * k}")}),
            {"geometry.tilt", "geometry.shear_corrected"},
        ),
        "all at one place": (
            lambda n: stack(
                n, lambda k: {0x00200032: d.text(b"DS", "0\\0\\0"), 0x7FE00010: (b"OW", bytes([k]) * 160)}
            ),
            {SHOWN},
        ),
        "a slice without a place": (
            lambda n: odd(n, {0x00200032: None}),
            {"geometry.no_position", "geometry.unknown", "series.split", "geometry.missing_slices"},
        ),
        "slopes that vary": (
            lambda n: stack(n, lambda k: {0x00281053: d.text(b"DS", str(k))}),
            {SHOWN},
        ),
        "slope of zero in one slice": (
            lambda n: odd(n, {0x00281053: d.text(b"DS", "0")}),
            {"dicom.rescale_invalid"},
        ),
        "a truncated slice": (
            lambda n: [*stack(n, lambda k: None, (1, 2, 3, 5, 6)), d.image(n, instance=4)[:-40]],
            {"dicom.incomplete_series"},
        ),
        "signed and unsigned mixed": (
            lambda n: odd(n, {0x00280103: d.us(0)}),
            {SHOWN},
        ),
        "two studies claim one series": (
            lambda n: odd(n, {0x0020000D: d.uid(f"{d.ROOT}.{n}.77")}),
            {"dicom.mixed_studies"},
        ),
        "two modalities in one series": (
            lambda n: odd(n, {0x00080060: d.text(b"CS", "MR")}),
            {"dicom.mixed_modality"},
        ),
    }
    for name, (contents, said) in cases.items():
        yield _folder("B14", name, contents, said)


# B17 -----------------------------------------------------------------------------------------------------------------


def _file_system() -> Iterator[Hostile]:
    def links(folder: Path, number: int) -> Path:
        (folder / "a").mkdir()
        (folder / "a" / "loop").symlink_to(folder)
        (folder / "self").symlink_to("self")
        return folder

    def pipe(folder: Path, number: int) -> Path:
        os.mkfifo(folder / "pipe.dcm")
        return folder

    def named_pipe(folder: Path, number: int) -> Path:
        return pipe(folder, number) / "pipe.dcm"

    def device(folder: Path, number: int) -> Path:
        (folder / "zero.dcm").symlink_to("/dev/zero")
        return folder

    def outside(folder: Path, number: int) -> Path:
        (folder / "passwords.dcm").symlink_to("/etc/passwd")
        return folder

    def names(folder: Path, number: int) -> Path:
        for name in ("a\nb.dcm", "\x1b[31m.dcm", "CON", "x" * 250, "\udcff\udcfe.dcm"):
            (folder / name).write_bytes(b"no image")
        return folder

    def deep(folder: Path, number: int) -> Path:
        below = folder.joinpath(*["d"] * 120)
        below.mkdir(parents=True)
        (below / "a.dcm").write_bytes(b"no image")
        return folder

    if os.name != "nt":
        yield Hostile("B17", "links in a circle", links, frozenset({"file.link"}))
        yield Hostile("B17", "a pipe in a folder", pipe, frozenset({"file.not_regular"}))
        yield Hostile("B17", "a pipe by name", named_pipe, frozenset({"file.not_regular"}))
        yield Hostile("B17", "a link to a device", device, frozenset({"file.link"}))
        yield Hostile("B17", "a link out of the folder", outside, frozenset({"file.link"}))
        yield Hostile("B17", "names that disturb", names, NOT_DICOM)
        yield Hostile("B17", "120 folders deep", deep, NOT_DICOM)


# B18 -----------------------------------------------------------------------------------------------------------------


def dicomdir(*file_ids: bytes) -> bytes:
    """Return a DICOMDIR that lists the File IDs."""
    items = []
    for file_id in file_ids:
        body = d.data_set({0x00041430: d.text(b"CS", "IMAGE"), 0x00041500: d.text(b"CS", file_id)})
        items.append(struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body)
    body = d.element(0x00041220, b"SQ", b"".join(items))
    return d.part10(body, head=d.meta(d.EXPLICIT, b"1.2.840.10008.1.3.10"))


def _dicomdirs() -> Iterator[Hostile]:
    def medium(*file_ids: bytes, change: Callable[[Path], None] | None = None) -> Build:
        def build(folder: Path, number: int) -> Path:
            root = folder / "medium"
            root.mkdir()
            (folder / "SECRET").write_bytes(d.image(number))
            if change is not None:
                change(root)
            (root / "DICOMDIR").write_bytes(dicomdir(*file_ids))
            return root / "DICOMDIR"

        return build

    outside, missing = frozenset({"dicomdir.outside"}), frozenset({"dicomdir.missing_file"})
    yield Hostile("B18", "a parent folder", medium(b"..\\SECRET"), outside)
    yield Hostile("B18", "parents inside", medium(b"A\\..\\..\\SECRET"), outside)
    yield Hostile("B18", "an absolute path", medium(b"/etc/passwd"), outside)
    yield Hostile("B18", "a drive", medium(b"C:\\SECRET"), outside)
    yield Hostile("B18", "slashes in a component", medium(b"../SECRET"), outside)
    yield Hostile("B18", "a path of 40 folders", medium(b"\\".join([b"A"] * 40)), outside)
    yield Hostile("B18", "a file that isn't there", medium(b"IMAGES\\I1"), missing)
    yield Hostile("B18", "itself", medium(b"DICOMDIR"), frozenset({"dicomdir.empty"}))
    yield Hostile("B18", "nothing", medium(), frozenset({"dicomdir.empty"}))
    yield Hostile(
        "B18", "ten thousand files that aren't there", medium(*[b"X\\%d" % k for k in range(10_000)]), missing
    )
    if os.name != "nt":
        yield Hostile(
            "B18",
            "a link out of the medium",
            medium(b"LINK", change=lambda root: (root / "LINK").symlink_to(root.parent / "SECRET")),
            outside | {"file.link"},
        )
    yield _file("B18", "a damaged DICOMDIR", lambda n: dicomdir(b"A\\B")[:-9], CUT)


# C1, C2 --------------------------------------------------------------------------------------------------------------


def _archive(
    row: str, name: str, members: Callable[[zipfile.ZipFile, int], None], said: frozenset[str] | set[str]
) -> Hostile:
    def build(folder: Path, number: int) -> Path:
        path = folder / "hostile.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            members(archive, number)
        return path

    return Hostile(row, name, build, frozenset(said))


def _zip_names() -> Iterator[Hostile]:
    for name in (
        "../escaped.dcm",
        "../../../../tmp/escaped.dcm",
        "a/../../escaped.dcm",
        "/tmp/escaped.dcm",
        "..\\..\\escaped.dcm",
        "a\\b.dcm",
        "C:\\escaped.dcm",
        "C:/escaped.dcm",
        "\\\\server\\share\\escaped.dcm",
        "a/./../../escaped.dcm",
    ):
        yield _archive(
            "C1", f"entry {name}", lambda z, n, name=name: z.writestr(name, d.image(n)), {"zip.unsafe_name"}
        )

    def link(archive: zipfile.ZipFile, number: int) -> None:
        info = zipfile.ZipInfo("link.dcm")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")

    def pipe(archive: zipfile.ZipFile, number: int) -> None:
        info = zipfile.ZipInfo("pipe.dcm")
        info.external_attr = 0o010666 << 16
        archive.writestr(info, b"")

    yield _archive("C1", "a link", link, {"zip.not_regular"})
    yield _archive("C1", "a pipe", pipe, {"zip.not_regular"})
    for name in ("CON", "a\nb.dcm", "x" * 4000, "d/" * 500 + "a.dcm"):
        yield _archive(
            "C1",
            f"no image named {name[:8]!r}",
            lambda z, n, name=name: z.writestr(name, b"no image"),
            NOT_DICOM,
        )


def _zip_bombs() -> Iterator[Hostile]:
    def zeros(archive: zipfile.ZipFile, number: int) -> None:
        with archive.open("zeros.dcm", "w", force_zip64=True) as member:
            for _ in range(200):
                member.write(bytes(1 << 20))

    def nested(archive: zipfile.ZipFile, number: int) -> None:
        inner = BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as deeper:
            deeper.writestr("a.dcm", d.image(number))
        archive.writestr("inner.zip", inner.getvalue())

    def twice(archive: zipfile.ZipFile, number: int) -> None:
        archive.writestr("a.dcm", d.image(number))
        archive.writestr("b.dcm", d.image(number))

    def many(archive: zipfile.ZipFile, number: int) -> None:
        for place in range(100_001):
            archive.writestr(zipfile.ZipInfo(str(place)), b"")

    yield _archive("C2", "200 MB of zeros", zeros, {"zip.ratio"})
    yield _archive("C2", "an archive in an archive", nested, {"zip.nested", *NOT_DICOM})
    yield _archive("C2", "one image under two names", twice, {"dicom.duplicate"})
    yield _archive("C2", "100,001 entries", many, {"zip.too_many_members"})

    def changed(change: Callable[[bytearray], bytes | bytearray]) -> Build:
        def build(folder: Path, number: int) -> Path:
            packed = BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("a.dcm", d.image(number))
            path = folder / "hostile.zip"
            path.write_bytes(change(bytearray(packed.getvalue())))
            return path

        return build

    def directory(data: bytearray) -> int:
        return data.rindex(b"PK\1\2")

    def lying_size(data: bytearray) -> bytearray:
        struct.pack_into("<I", data, directory(data) + 24, 10)
        return data

    def lying_larger(data: bytearray) -> bytearray:
        struct.pack_into("<I", data, directory(data) + 24, 5000)
        return data

    def wrong_sum(data: bytearray) -> bytearray:
        struct.pack_into("<I", data, directory(data) + 16, 1)
        return data

    def flagged(data: bytearray) -> bytearray:
        for place in (6, directory(data) + 8):
            data[place] |= 1
        return data

    def method(number: int) -> Callable[[bytearray], bytearray]:
        def change(data: bytearray) -> bytearray:
            struct.pack_into("<H", data, 8, number)
            struct.pack_into("<H", data, directory(data) + 10, number)
            return data

        return change

    def aes(data: bytearray) -> bytearray:
        return flagged(method(99)(data))

    def overlapping(data: bytearray) -> bytes:
        place = directory(data)
        end = data.rindex(b"PK\5\6")
        entry = bytes(data[place:end])
        tail = bytearray(data[end:])
        struct.pack_into("<HHI", tail, 8, 100, 100, len(entry) * 100)
        return bytes(data[:place]) + entry * 100 + bytes(tail)

    def noise(data: bytearray) -> bytearray:
        data[45:80] = _noise(35, 12)
        return data

    cases: dict[str, tuple[Callable[[bytearray], bytes | bytearray], frozenset[str] | set[str]]] = {
        "a size that lies": (lying_size, ZIP),
        "a size that promises more": (lying_larger, ZIP),
        "a wrong checksum": (wrong_sum, ZIP),
        "an encrypted entry": (flagged, {"zip.encrypted"}),
        "an entry encrypted with AES": (aes, {"zip.encrypted"}),
        "an unknown method": (method(97), ZIP),
        "noise in the entry": (noise, ZIP),
        "entries that overlap": (overlapping, ZIP | {"dicom.duplicate"}),
        "the first half": (lambda data: data[: len(data) // 2], ZIP),
        "no directory": (lambda data: data[: directory(data)], ZIP),
        "the signature only": (lambda data: b"PK\3\4", ZIP | NOT_DICOM),
        "a directory in the void": (
            lambda data: data[-22:-6] + b"\xff\xff\xff\x7f" + data[-2:],
            ZIP | NOT_DICOM,
        ),
    }
    for name, (change, said) in cases.items():
        yield Hostile("C2", name, changed(change), frozenset(said))


# other formats -------------------------------------------------------------------------------------------------------


def nifti(
    *,
    dims: tuple[int, ...] = (3, 10, 8, 5),
    datatype: int = 4,
    bits: int = 16,
    offset: float = 352.0,
    sform: tuple[float, ...] | None = None,
) -> bytes:
    """Return a NIfTI-1 file whose header says what is given."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, *(dims + (1,) * 8)[:8])
    struct.pack_into("<hh", header, 70, datatype, bits)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<3f", header, 108, offset, 1.0, 0.0)
    if sform is not None:
        struct.pack_into("<h", header, 254, 1)
        struct.pack_into("<12f", header, 280, *sform)
    header[344:348] = b"n+1\0"
    return bytes(header) + bytes(800)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a grey PNG whose header says what is given."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _other_formats() -> Iterator[Hostile]:
    bad = frozenset({"nifti.damaged", "nifti.dimensions", "nifti.other_format", *NOT_DICOM})
    nan = float("nan")
    files: dict[str, tuple[bytes, frozenset[str] | set[str]]] = {
        "huge dimensions": (nifti(dims=(3, 32767, 32767, 32767)), bad),
        "more voxels than bytes": (nifti(dims=(3, 200, 200, 200)), bad),
        "negative dimensions": (nifti(dims=(3, -5, 8, 5)), bad),
        "no dimensions": (nifti(dims=(0, 0, 0, 0)), bad),
        "nine dimensions": (nifti(dims=(9, 10, 8, 5)), bad),
        "a million time points": (nifti(dims=(4, 10, 8, 5, 32767)), bad),
        "an unknown type": (nifti(datatype=9999), bad),
        "an affine of NaN": (nifti(sform=(nan,) * 12), {"geometry.singular"}),
        "an affine of zeros": (nifti(sform=(0.0,) * 12), {"geometry.singular"}),
        "voxels beyond the file": (nifti(offset=1e9), bad),
        "voxels before the file": (nifti(offset=-1e9), bad),
        "voxels at NaN": (nifti(offset=nan), bad),
        "cut": (nifti()[:500], bad),
        "zeros, gzipped 1000 to one": (
            gzip.compress(nifti(dims=(3, 600, 600, 600)) + bytes(432 << 20), 1),
            {"memory.exhausted", "nifti.modality_unknown"},
        ),
        "half of a gzip": (gzip.compress(nifti())[:60], bad),
    }
    for name, (content, said) in files.items():
        suffix = ".nii.gz" if content.startswith(b"\x1f\x8b") else ".nii"

        def build(folder: Path, number: int, content: bytes = content, suffix: str = suffix) -> Path:
            path = folder / f"hostile{suffix}"
            path.write_bytes(content)
            return path

        yield Hostile("NIfTI", name, build, frozenset(said))
    damaged = frozenset({"image.damaged", "image.too_large", *NOT_DICOM})
    tiff = (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 10) + struct.pack("<I", 8)
    )
    pictures = {
        "PNG of 2 million by 2 million": png(2_000_000, 2_000_000, zlib.compress(bytes(100))),
        "PNG of 30,000 by 30,000": png(30_000, 30_000, zlib.compress(bytes(900_000))),
        "PNG without pixels": png(10, 10),
        "PNG that ends early": png(10, 10, zlib.compress(bytes(110)))[:-30],
        "PNG of noise": png(10, 10, _noise(60, 13)),
        "PNG bomb": png(14_000, 14_000, zlib.compress(bytes(14_001 * 1000), 9)),
        "TIFF whose pages are a circle": tiff,
        "TIFF of noise": b"MM\0*" + _noise(300, 14),
        "JPEG of noise": b"\xff\xd8\xff\xe0" + _noise(300, 15),
        "BMP that lies": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
    }
    for name, content in pictures.items():
        yield _file("picture", name, content, damaged)
