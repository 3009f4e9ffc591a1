"""Voxel values in the smallest type that holds them exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def exact_voxels(values: NDArray, slope: float = 1.0, intercept: float = 0.0) -> NDArray:
    """Return ``values × slope + intercept``, contiguous, in the smallest type that is exact; what is no number is 0.

    The types are int16, uint16, int32, float32.
    """
    if values.dtype.kind in "iub" and slope == 1 and intercept == int(intercept) and abs(intercept) < 1 << 31:
        low, high = int(values.min()) + int(intercept), int(values.max()) + int(intercept)
        for dtype in (np.int16, np.uint16, np.int32):
            limits = np.iinfo(dtype)
            if limits.min <= low and high <= limits.max:
                if intercept:
                    return np.ascontiguousarray((values.astype(np.int64) + int(intercept)).astype(dtype))
                return np.array(values, dtype=dtype, order="C")
    scaled = (
        values if (slope, intercept) == (1.0, 0.0) else values * np.float64(slope) + np.float64(intercept)
    )
    out = np.array(scaled, dtype=np.float32, order="C")
    if not np.isfinite(out).all():
        np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return out
