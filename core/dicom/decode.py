"""Stored values of single frames.

Uncompressed grey frames are read straight from the file into the target array; uncompressed colour goes
through pydicom; compressed frames are decoded in child processes (``decoder_pool``).
"""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.config.sealed_file import open_raw
from core.dicom.codec import CodedFrame, decode_frame, undecodable
from core.dicom.decoder_pool import decoders
from core.dicom.faults import malformed
from core.dicom.fragments import Fragment, frames_of, read_fragments
from core.dicom.header import Header
from core.dicom.source import ByteSource

_KEYWORDS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_EMPTY_OFFSET_TABLE = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


class PixelReader:
    """Reads the frames of one file. Opens the file for each frame; safe in several threads.

    Parameters
    ----------
    header : Header
        Of an object with pixels.
    """

    def __init__(self, header: Header) -> None:
        if header.parsed.pixels is None:
            raise malformed("The object has no Pixel Data.", "dicom.no_pixels")
        self._header = header
        self._pixels = header.parsed.pixels
        self._frames: tuple[tuple[Fragment, ...], ...] | None = None
        self._inflated: bytes | None = None

    @property
    def is_plain(self) -> bool:
        """Whether frames are uncompressed grey integers of 8, 16 or 32 bits, or floats."""
        h = self._header
        return (
            not h.parsed.syntax.encapsulated
            and h.samples == 1
            and h.photometric in ("MONOCHROME1", "MONOCHROME2", "")
            and h.bits_allocated in (8, 16, 32, 64)
            and not self._has_swapped_bytes
        )

    @property
    def stored_dtype(self) -> np.dtype[np.generic]:
        """Dtype of the stored values in the machine's byte order."""
        h = self._header
        if self._pixels.tag == 0x7FE00008:
            return np.dtype(np.float32)
        if self._pixels.tag == 0x7FE00009:
            return np.dtype(np.float64)
        return np.dtype(f"{'i' if h.signed else 'u'}{max(1, h.bits_allocated // 8)}")

    def read_plain_into(self, frame: int, out: NDArray) -> None:
        """Read frame ``frame`` (from 0) of a plain file into ``out``, C-contiguous ``(rows, columns)``.

        Raises
        ------
        InputError
            If the file has become shorter.
        """
        h = self._header
        count = h.bytes_per_frame
        offset = self._pixels.offset + frame * count
        target = out.data.cast("B")
        if h.parsed.deflated_from is not None:
            target[:] = self._inflated_data()[offset : offset + count]
        else:
            with open_raw(h.file) as file:
                file.seek(offset)
                done = 0
                while done < count:
                    got = file.readinto(target[done:])
                    if not got:
                        raise malformed(
                            f"Pixel Data is incomplete: {done} of {count} bytes.", "dicom.truncated"
                        )
                    done += got
        if not h.parsed.syntax.little_endian and out.itemsize > 1:
            out.byteswap(inplace=True)
        clean_unused_bits(out, h.bits_allocated, h.bits_stored)

    def decode(self, frame: int) -> NDArray:
        """Return frame ``frame`` (from 0): stored values ``(rows, columns)``, or RGB ``(rows, columns, 3)``.

        Raises
        ------
        InputError
            When no codec reads the frame; names the transfer syntax (``dicom.undecodable``).
        """
        h = self._header
        if self.is_plain:
            out = np.empty((h.rows, h.columns), dtype=self.stored_dtype)
            self.read_plain_into(frame, out)
            return out
        coded = CodedFrame.of(h, _KEYWORDS[self._pixels.tag], self._pixels.vr)
        if not h.parsed.syntax.encapsulated:
            if self._has_swapped_bytes:
                return decode_frame(replace(coded, vr="OB"), self._native(frame))
            return decode_frame(coded, self._native(frame))
        if not h.parsed.syntax.plugins:
            raise undecodable(coded, "")
        return decoders.decode(coded, self._compressed(frame))

    def _native(self, frame: int) -> bytes:
        h = self._header
        count = h.bytes_per_frame
        if h.photometric == "YBR_FULL_422":
            count = count // 3 * 2
        offset = self._pixels.offset + frame * count
        if h.parsed.deflated_from is not None:
            return self._inflated_data()[offset : offset + count]
        with ByteSource.open(h.file) as source:
            if not self._has_swapped_bytes:
                return source.read(offset, count)
            # Frames of an odd number of bytes begin and end within a word.
            before, behind = frame * count % 2, (frame + 1) * count % 2
            words = source.read(offset - before, before + count + behind)
        return np.frombuffer(words, dtype=np.uint16).byteswap().tobytes()[before : before + count]

    @property
    def _has_swapped_bytes(self) -> bool:
        """Whether samples of 8 bits are written as big-endian words (PS3.5 8.1.2 and annex A.3)."""
        h = self._header
        return h.bits_allocated == 8 and self._pixels.vr == "OW" and not h.parsed.syntax.little_endian

    def _inflated_data(self) -> bytes:
        """Return the inflated data set; kept for the next frame when there are several."""
        if self._inflated is not None:
            return self._inflated
        data = self._header.parsed.inflated()
        if self._header.frames > 1:
            self._inflated = data
        return data

    def _compressed(self, frame: int) -> bytes:
        """Return one frame as encapsulated pixel data of its own."""
        h = self._header
        with ByteSource.open(h.file) as source:
            if self._frames is None:
                self._frames = frames_of(read_fragments(source, self._pixels.offset), h.frames)
            parts = [_EMPTY_OFFSET_TABLE]
            for fragment in self._frames[frame]:
                parts.append(b"\xfe\xff\x00\xe0" + struct.pack("<I", fragment.length))
                parts.append(source.read(fragment.offset, fragment.length))
        parts.append(_SEQUENCE_END)
        return b"".join(parts)


def clean_unused_bits(values: NDArray, bits_allocated: int, bits_stored: int) -> None:
    """Drop what older objects keep above the stored bits (overlays), extending the sign; in place.

    Source: DICOM PS3.5 8.1.1.
    """
    spare = bits_allocated - bits_stored
    if spare <= 0 or bits_stored <= 0 or values.dtype.kind not in "iu":
        return
    if values.dtype.kind == "u":
        if values.max(initial=0) >> bits_stored:
            values &= values.dtype.type((1 << bits_stored) - 1)
        return
    limit = 1 << (bits_stored - 1)
    if values.max(initial=0) >= limit or values.min(initial=0) < -limit:
        np.left_shift(values, spare, out=values)
        np.right_shift(values, spare, out=values)
