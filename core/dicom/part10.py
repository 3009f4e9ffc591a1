"""The outer shell of a DICOM file: preamble, file meta information, transfer syntax.

Source: DICOM PS3.10 section 7. Files without preamble or without meta information are read too.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from core.dicom.elements import KNOWN_VRS, ElementReader, Elements, PixelLocation, RawElement
from core.dicom.faults import malformed
from core.dicom.source import ByteSource, inflate
from core.dicom.syntaxes import DEFLATED_LE, EXPLICIT_LE, IMPLICIT_LE, TransferSyntax, syntax_of

# Programs of Windows, Linux, macOS and Java, scripts, archives, documents: what another program would run or open.
# A TIFF header is left alone: the standard allows it there.
EXECUTABLE_PREAMBLES = (
    *(b"MZ", b"\x7fELF", b"#!", b"PK\x03\x04", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"),
    *(
        b"\xfe\xed\xfa\xcf",
        b"\xfe\xed\xfa\xce",
        b"dex\n",
        b"%PDF",
        b"<",
        b"Rar!",
        b"7z\xbc\xaf",
        b"MSCF",
        b"\x1f\x8b",
    ),
)


_META_HEADER = struct.Struct("<xxH2sH").unpack_from
_META_LONG = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"UR", b"UC"))


class NotDicom(Exception):
    """The file is something else; nobody's fault."""


@dataclass(slots=True)
class ParsedFile:
    """The elements asked for, and where the pixels are.

    ``deflated_from`` is where the deflated data set begins, if it is one: then ``size`` and the offsets of the
    pixels refer to the inflated data set (see ``inflated``). ``vr_mismatch`` is set when the data set is written
    with explicit VR although the transfer syntax says implicit, or the other way round. ``begin`` is where the data set
    begins behind the meta information.
    """

    file: Path
    size: int
    meta: Elements
    elements: Elements
    syntax: TransferSyntax
    pixels: PixelLocation | None
    foreign_preamble: bool
    stamp: tuple[int, int, int]
    deflated_from: int | None = None
    vr_mismatch: bool = False
    begin: int = 0

    def inflated(self) -> bytes:
        """Return the data set of a deflated file, inflated anew; raises as ``parse_file``."""
        assert self.deflated_from is not None
        with ByteSource.open(self.file) as source:
            return inflate(source.read(self.deflated_from, source.size - self.deflated_from))


def parse_file(path: Path, wanted: Collection[int] | None) -> ParsedFile:
    """Read the elements ``wanted`` of a file (None: all but the pixels).

    Raises
    ------
    NotDicom
        If it isn't a DICOM file.
    InputError
        If it is damaged; OSError if it cannot be read.
    """
    with ByteSource.open(path) as source:
        start, meta, foreign = _shell(source)
        uid = meta.text(0x00020010)
        syntax = syntax_of(uid or _guess(source, start))
        if syntax.uid == DEFLATED_LE:
            data = inflate(source.read(start, source.size - start))
            inner = ByteSource.of_bytes(data)
            reader = ElementReader(inner, explicit=True, little_endian=True)
            elements = reader.read(0, inner.size, wanted)
            return ParsedFile(
                path, inner.size, meta, elements, syntax, reader.pixels, foreign, source.stamp, start
            )
        explicit = _actual_vr(source, start, syntax)
        reader = ElementReader(source, explicit, syntax.little_endian)
        elements = reader.read(start, source.size, wanted)
        return ParsedFile(
            path,
            source.size,
            meta,
            elements,
            syntax,
            reader.pixels,
            foreign,
            source.stamp,
            vr_mismatch=explicit != syntax.explicit,
            begin=start,
        )


def _shell(source: ByteSource) -> tuple[int, Elements, bool]:
    """Return where the data set begins, the meta elements, and whether the preamble belongs to a program."""
    window = source.window
    if len(window) >= 132 and window[128:132] == b"DICM":
        foreign = window[:128].startswith(EXECUTABLE_PREAMBLES)
        position, meta = _meta(source, 132)
        return position, meta, foreign
    if len(window) < 16 or not _looks_like_data_set(window):
        raise NotDicom
    if window[:2] == b"\x02\x00":
        position, meta = _meta(source, 0)
        return position, meta, False
    return 0, Elements(), False


def _looks_like_data_set(window: bytes) -> bool:
    """Whether bytes without preamble begin like a DICOM data set in little endian (group 2 or 8)."""
    group = int.from_bytes(window[:2], "little")
    element = int.from_bytes(window[2:4], "little")
    if group not in (2, 8) or element > 0x0100:
        return False
    if window[4:6].isalpha() and window[4:6].isupper():
        return True
    return int.from_bytes(window[4:8], "little") <= 256


def _meta(source: ByteSource, position: int) -> tuple[int, Elements]:
    """Read group 2, always explicit little endian, and stop before the first element of another group."""
    elements = Elements()
    while position + 8 <= source.size:
        offset = source.load(position, min(12, source.size - position))
        window = source.window
        if window[offset : offset + 2] != b"\x02\x00":
            break
        element, letters, length = _META_HEADER(window, offset)
        start = position + 8
        if letters in _META_LONG:
            length, start = int.from_bytes(window[offset + 8 : offset + 12], "little"), position + 12
        if start + length > source.size:
            raise malformed("The file ends within its meta information.", "dicom.truncated")
        elements.raw[0x00020000 | element] = RawElement(letters.decode("latin-1"), source.read(start, length))
        position = start + length
    return position, elements


def _actual_vr(source: ByteSource, start: int, syntax: TransferSyntax) -> bool:
    """Return whether the data set is written with explicit VR, whatever the transfer syntax says."""
    if source.size < start + 8 or not syntax.little_endian:
        return syntax.explicit
    first = source.read(start, 8)
    if syntax.explicit == (first[4:6] in KNOWN_VRS):
        return syntax.explicit
    if syntax.explicit:
        plausible = int.from_bytes(first[4:8], "little") <= source.size - start - 8
        return not (plausible and first[:2] in (b"\x08\x00", b"\x02\x00"))
    return True


def _guess(source: ByteSource, start: int) -> str:
    """Guess between explicit and implicit little endian where the meta information names no syntax."""
    if source.size < start + 8:
        raise malformed("The file holds no data set.", "dicom.empty")
    vr = source.read(start + 4, 2)
    return EXPLICIT_LE if vr.isalpha() and vr.isupper() else IMPLICIT_LE
