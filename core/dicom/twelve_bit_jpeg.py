"""JPEG Extended with 12 bits, which only the GDCM inside SimpleITK decodes, bad scan headers included."""

from __future__ import annotations

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from core.dicom.codec import CodedFrame, wrong_size


def decode(coded: CodedFrame) -> NDArray:
    """Return the stored values ``(rows, columns)`` of a grey frame.

    SimpleITK applies slope and intercept; they are taken back, which is exact for integers after rounding.

    Raises
    ------
    InputError
        If the size isn't that of the header; RuntimeError from SimpleITK for damaged data.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(coded.file)
    values = np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()), dtype=np.float64)
    values = values.reshape(-1, *values.shape[-2:])
    if values.shape != (coded.frames, coded.rows, coded.columns):
        raise wrong_size()
    stored = np.rint((values[coded.frame] - coded.intercept) / coded.slope)
    return stored.astype(f"{'i' if coded.signed else 'u'}{max(2, coded.bits_allocated // 8)}")
