"""Palette colour. Source: DICOM PS3.3 C.7.6.3.1.5."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.dicom.faults import malformed, translated
from core.dicom.header import Header

_DESCRIPTORS = (0x00281101, 0x00281102, 0x00281103)
_DATA = (0x00281201, 0x00281202, 0x00281203, 0x00281221, 0x00281222, 0x00281223)


def to_rgb(header: Header, stored: NDArray) -> NDArray[np.uint8]:
    """Map stored indices ``(rows, columns)`` to RGB ``(rows, columns, 3)`` uint8.

    Raises
    ------
    InputError
        If the palette is missing or damaged (``dicom.palette``).
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.uid import ExplicitVRLittleEndian

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.PixelRepresentation = int(header.signed)
    for tag in _DESCRIPTORS:
        values = header.elements.numbers(tag)
        if len(values) != 3:
            raise malformed("The colour palette (0028,1101…1103) is missing.", "dicom.palette")
        data.add_new(tag, "US", [int(v) & 0xFFFF for v in values])
    for tag in _DATA:
        element = header.elements.raw.get(tag)
        if element is not None:
            data.add_new(tag, "OW", _little_endian(element.value, header))
    with translated("Applying the colour palette", "dicom.palette"):
        rgb = np.asarray(apply_color_lut(stored, data))
    if rgb.dtype == np.uint16:
        rgb = (rgb >> 8) if rgb.max(initial=0) > 255 else rgb
    return np.ascontiguousarray(rgb[..., :3].astype(np.uint8))


def _little_endian(value: bytes, header: Header) -> bytes:
    if header.parsed.syntax.little_endian:
        return value
    return np.frombuffer(value[: len(value) // 2 * 2], dtype=">u2").astype("<u2").tobytes()
