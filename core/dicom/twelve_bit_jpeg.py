"""JPEG Extended with 12 bits, which only the GDCM inside SimpleITK decodes, bad scan headers included.

GDCM reads files only. It gets one that holds the frame's pixels and nothing else of the original: no identity, no
rescaling. The file lies in memory (Linux), elsewhere in the folder for temporary files for the time of the decoding.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from core.dicom.codec import CodedFrame, wrong_size

_SECONDARY_CAPTURE = b"1.2.840.10008.5.1.4.1.1.7\0"
_UID = b"2.25.1\0\0"
_UNDEFINED = 0xFFFFFFFF


def decode(coded: CodedFrame, data: bytes) -> NDArray:
    """Return the stored values ``(rows, columns)`` of a grey frame.

    Parameters
    ----------
    data : bytes
        The frame as encapsulated pixel data of its own.

    Raises
    ------
    InputError
        If the size isn't that of the header; RuntimeError from SimpleITK for damaged data.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with _in_file(_bare_file(coded, data)) as path:
        reader.SetFileName(path)
        values = SimpleITK.GetArrayFromImage(reader.Execute())
    if values.size != coded.rows * coded.columns or values.shape[-2:] != (coded.rows, coded.columns):
        raise wrong_size()
    dtype = f"{'i' if coded.signed else 'u'}{max(2, coded.bits_allocated // 8)}"
    return np.rint(values.reshape(coded.rows, coded.columns)).astype(dtype)


def _bare_file(coded: CodedFrame, data: bytes) -> bytes:
    """Return a DICOM file with what a decoder needs. Source: DICOM PS3.10 7.1, PS3.5 7.1.2 and A.4."""
    syntax = coded.syntax_uid.encode("ascii")
    meta = b"".join(
        (
            _element(0x00020001, b"OB", b"\0\1"),
            _element(0x00020002, b"UI", _SECONDARY_CAPTURE),
            _element(0x00020003, b"UI", _UID),
            _element(0x00020010, b"UI", syntax + b"\0" * (len(syntax) % 2)),
        )
    )
    numbers = (
        (0x00280010, coded.rows),
        (0x00280011, coded.columns),
        (0x00280100, coded.bits_allocated),
        (0x00280101, coded.bits_stored),
        (0x00280102, coded.bits_stored - 1),
        (0x00280103, int(coded.signed)),
    )
    return b"".join(
        (
            b"\0" * 128 + b"DICM",
            _element(0x00020000, b"UL", struct.pack("<I", len(meta))),
            meta,
            _element(0x00080016, b"UI", _SECONDARY_CAPTURE),
            _element(0x00080018, b"UI", _UID),
            _element(0x00280002, b"US", struct.pack("<H", 1)),
            _element(0x00280004, b"CS", b"MONOCHROME2 "),
            *(_element(tag, b"US", struct.pack("<H", value)) for tag, value in numbers),
            struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, _UNDEFINED),
            data,
        )
    )


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an element in explicit little endian."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return (
        head
        + struct.pack("<HI" if vr == b"OB" else "<H", *((0, len(value)) if vr == b"OB" else (len(value),)))
        + value
    )


@contextmanager
def _in_file(content: bytes) -> Iterator[str]:
    """Yield a path under which ``content`` can be read."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("frame")
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            view = memoryview(content)
            while view:
                view = view[stream.write(view) :]
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        path.write_bytes(content)
        yield str(path)
