"""JPEG Extended with 12 bits, which only the GDCM inside SimpleITK decodes, bad scan headers included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.dicom.faults import malformed
from core.dicom.header import Header

SYNTAX_UID = "1.2.840.10008.1.2.4.51"


def decode(header: Header, frame: int) -> NDArray:
    """Return the stored values ``(rows, columns)`` of a grey frame (from 0).

    SimpleITK applies slope and intercept; they are taken back, which is exact for integers after rounding.

    Raises
    ------
    InputError
        If the size isn't that of the header; RuntimeError from SimpleITK for damaged data.
    """
    # loaded on first use: rare, and it takes a third of a second
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(header.file))
    values = np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()), dtype=np.float64)
    values = values.reshape(-1, *values.shape[-2:])
    if values.shape != (header.frames, header.rows, header.columns):
        raise malformed("The decoded image has another size than the header states.", "dicom.undecodable")
    stored = np.rint((values[frame] - header.intercept) / header.slope)
    return stored.astype(f"{'i' if header.signed else 'u'}{max(2, header.bits_allocated // 8)}")
