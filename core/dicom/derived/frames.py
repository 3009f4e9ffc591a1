"""Stored values of the frames of a derived object, one at a time.

One-bit frames are unpacked here: without compression they follow each other bit by bit with no padding between
them (PS3.5 8.1.1 and 8.1.2), compressed frames begin at a byte each.
"""

from __future__ import annotations

import zlib
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from core.dicom.decode import PixelReader
from core.dicom.faults import malformed
from core.dicom.fragments import Fragment, frames_of, read_fragments
from core.dicom.header import Header
from core.dicom.source import ByteSource

RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_RLE_HEADER = 64


class StoredFrames:
    """Reads the frames of one file, which stays open between them. Used by one thread.

    Parameters
    ----------
    header : Header
        Of an object with one sample per pixel, checked against the file.

    Raises
    ------
    InputError
        When the object is in colour.
    """

    def __init__(self, header: Header) -> None:
        if header.samples != 1:
            raise malformed("The object is in colour; one sample per pixel is needed.", "derived.colour")
        # Whatever the values are shown as (palette, inverted): here they are numbers.
        header.photometric = "MONOCHROME2"
        self._header = header
        pixels = header.parsed.pixels
        assert pixels is not None
        self._pixels = pixels
        self._reader = PixelReader(header)
        self._inflated = header.parsed.inflated() if header.parsed.deflated_from is not None else None
        self._source = (
            ByteSource.of_bytes(self._inflated)
            if self._inflated is not None
            else ByteSource.open(header.file)
        )
        self._fragments: tuple[tuple[Fragment, ...], ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._header.rows, self._header.columns

    @property
    def count(self) -> int:
        """Number of frames."""
        return self._header.frames

    def __enter__(self) -> StoredFrames:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._source.close()

    def read(self, frame: int) -> NDArray:
        """Return frame ``frame`` (from 0) as ``(rows, columns)``; a one-bit frame as uint8 of 0 and 1.

        Raises
        ------
        InputError
            When the frame can't be decoded.
        """
        syntax = self._header.parsed.syntax
        one_bit = self._header.bits_allocated == 1
        if syntax.uid == DEFLATED_FRAMES:
            return self._values(_inflated(self._compressed(frame), self._frame_bytes))
        if one_bit and syntax.uid == RLE:
            return self._values(_unpacked_rle(self._compressed(frame), self._frame_bytes))
        if one_bit and not syntax.encapsulated:
            return self._packed(frame)
        return self._reader.decode(frame)

    @property
    def _frame_bytes(self) -> int:
        h = self._header
        return (h.rows * h.columns * h.bits_allocated + 7) // 8

    def _packed(self, frame: int) -> NDArray:
        """Return an uncompressed one-bit frame."""
        rows, columns = self.shape
        size = rows * columns
        first = frame * size
        begin, end = first // 8, (first + size + 7) // 8
        swapped = not self._header.parsed.syntax.little_endian and self._pixels.vr != "OB"
        if swapped:  # 16-bit words: whole ones must be read
            begin, end = begin // 2 * 2, (end + 1) // 2 * 2
        data = self._source.read(self._pixels.offset + begin, min(end, self._packed_length) - begin)
        if swapped:
            data = np.frombuffer(data[: len(data) // 2 * 2], dtype=">u2").astype("<u2").tobytes()
        skip = first - 8 * begin
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=skip + size, bitorder="little")
        return bits[skip:].reshape(rows, columns)

    @property
    def _packed_length(self) -> int:
        return self._pixels.length or 0

    def _values(self, data: bytes) -> NDArray:
        """Return the values of one frame that begins at a byte of its own."""
        rows, columns = self.shape
        bits = self._header.bits_allocated
        if bits == 1:
            packed = np.frombuffer(data, dtype=np.uint8)
            return np.unpackbits(packed, count=rows * columns, bitorder="little").reshape(rows, columns)
        dtype = self._reader.stored_dtype.newbyteorder("<")
        return np.frombuffer(data, dtype=dtype).reshape(rows, columns)

    def _compressed(self, frame: int) -> bytes:
        if self._fragments is None:
            self._fragments = frames_of(
                read_fragments(self._source, self._pixels.offset), self._header.frames
            )
        return b"".join(self._source.read(f.offset, f.length) for f in self._fragments[frame])


def _inflated(data: bytes, size: int) -> bytes:
    """Inflate one frame. Source: DICOM PS3.5 A.4.13 (Deflated Image Frame Compression)."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = stream.decompress(data, size)
    except zlib.error as error:
        raise malformed("A deflated frame is damaged.", "dicom.undecodable") from error
    if len(out) < size:
        raise malformed("A deflated frame is cut short.", "dicom.truncated")
    return out


def _unpacked_rle(data: bytes, size: int) -> bytes:
    """Decode one RLE frame of packed bits. Source: DICOM PS3.5 annex G."""
    if len(data) < _RLE_HEADER or int.from_bytes(data[:4], "little") != 1:
        raise malformed("An RLE frame of one bit must have one segment.", "dicom.undecodable")
    position = int.from_bytes(data[4:8], "little")
    out = bytearray()
    while len(out) < size and position < len(data):
        control = data[position]
        position += 1
        if control < 128:
            out += data[position : position + control + 1]
            position += control + 1
        elif control > 128:
            out += data[position : position + 1] * (257 - control)
            position += 1
    if len(out) < size:
        raise malformed("An RLE frame is cut short.", "dicom.truncated")
    return bytes(out[:size])
