"""What a file without a modality most likely holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AIR_HU = -850.0
_DENSE_HU = 150.0


def looks_like_hounsfield(voxels: NDArray) -> bool:
    """Whether values look like CT in Hounsfield units: air below -850 and something denser than 150."""
    if voxels.ndim != 3 or voxels.dtype.kind == "u":
        return False
    low, high = float(voxels.min()), float(voxels.max())
    return -4096.0 <= low <= _AIR_HU and _DENSE_HU <= high <= 32767.0 and bool(np.isfinite((low, high)).all())
