"""A voxel grid on which anatomy is painted with partial volume.

Shapes are signed distances in millimetres (negative inside) in *anatomical* coordinates: LPS axes of a
reference adult, x to the left, y to posterior, z to superior, whose right diaphragm dome lies at z = 0.
The canvas maps each voxel of the scanned grid to anatomical coordinates (pose, size and a smooth
deformation), so that shapes stay simple and are crisp at every resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Box = tuple[slice, slice, slice]

AIR_HU = -1000.0


@dataclass(frozen=True)
class Region:
    """The part of a canvas inside a box, with its anatomical coordinates (views, float32)."""

    box: Box
    x: Array
    y: Array
    z: Array


class Canvas:
    """Voxels in HU and labels with their anatomical coordinates.

    Parameters
    ----------
    shape_kji : tuple of int
        Number of slices, rows, columns.
    anatomy_from_kji : numpy.ndarray
        ``(3, 4)`` affine from voxel index (k, j, i) to anatomical (x, y, z) in millimetres.
    displacement : tuple of numpy.ndarray or None
        Three ``(K, J, I)`` float32 fields in millimetres added to (x, y, z).

    Attributes
    ----------
    hu : numpy.ndarray
        ``(K, J, I)`` float32, starts as air.
    labels : numpy.ndarray
        ``(K, J, I)`` uint8, starts as 0.
    """

    def __init__(
        self,
        shape_kji: tuple[int, int, int],
        anatomy_from_kji: NDArray[np.float64],
        displacement: tuple[Array, Array, Array] | None = None,
    ) -> None:
        self.shape = shape_kji
        self.matrix = np.asarray(anatomy_from_kji, dtype=np.float64)
        self.hu: Array = np.full(shape_kji, AIR_HU, dtype=np.float32)
        self.labels: NDArray[np.uint8] = np.zeros(shape_kji, dtype=np.uint8)
        axes = [np.arange(n, dtype=np.float32) for n in shape_kji]
        k, j, i = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
        fields = displacement or (np.float32(0.0),) * 3
        m = self.matrix.astype(np.float32)
        self.x, self.y, self.z = (
            (m[a, 0] * k + m[a, 1] * j + m[a, 2] * i + m[a, 3]) + fields[a] for a in range(3)
        )
        steps = np.linalg.norm(self.matrix[:, :3], axis=0)
        self.voxel_mm = float(np.cbrt(np.prod(steps)))
        self._margin_mm = 0.0 if displacement is None else max(float(np.abs(f).max()) for f in displacement)
        self._kji_from_anatomy = np.linalg.inv(np.vstack([self.matrix, [0.0, 0.0, 0.0, 1.0]]))

    def everything(self) -> Region:
        """Return the whole grid as a region."""
        full = (slice(None), slice(None), slice(None))
        return Region(full, self.x, self.y, self.z)

    def region(self, low: NDArray | tuple, high: NDArray | tuple) -> Region | None:
        """Return the voxels that may lie in the anatomical box, or None when it is outside the grid."""
        grow = self._margin_mm + self.voxel_mm
        low_, high_ = np.asarray(low, float) - grow, np.asarray(high, float) + grow
        corners = np.array([(a, b, c, 1.0) for a in (low_[0], high_[0]) for b in (low_[1], high_[1])
                            for c in (low_[2], high_[2])])  # fmt: skip
        kji = corners @ self._kji_from_anatomy[:3].T
        start = np.maximum(0, np.floor(kji.min(axis=0))).astype(int)
        stop = np.minimum(self.shape, np.ceil(kji.max(axis=0)) + 1).astype(int)
        if (stop <= start).any():
            return None
        box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return Region(box, self.x[box], self.y[box], self.z[box])  # type: ignore[arg-type]

    def coverage(self, sdf: Array, thin_mm: float | None = None, dims: int = 2) -> Array:
        """Return the fraction of each voxel inside the shape (0 … 1).

        ``thin_mm`` is the half-thickness of a structure that may be thinner than a voxel in ``dims``
        directions: its contribution then falls with the true occupied fraction instead of saturating.
        """
        width = self.voxel_mm
        if thin_mm is None or 2 * thin_mm >= width:
            return np.clip(0.5 - sdf / width, 0.0, 1.0)
        widened = sdf + np.float32(thin_mm - width / 2)
        return np.clip(0.5 - widened / width, 0.0, 1.0) * np.float32((2 * thin_mm / width) ** dims)

    def blend(self, region: Region, alpha: Array, hu: Array | float) -> None:
        """Mix ``hu`` into the voxels of the region with weight ``alpha``."""
        target = self.hu[region.box]
        target += alpha * (hu - target)

    def fill(
        self,
        region: Region | None,
        sdf: Array,
        hu: Array | float,
        label: int | None = None,
        within: Array | None = None,
    ) -> None:
        """Paint a shape: its HU with partial volume, its label where the voxel centre is inside.

        ``within`` (0 … 1) limits the paint, e.g. to the inside of the body.
        """
        if region is None:
            return
        alpha = self.coverage(sdf)
        inside = sdf < 0
        if within is not None:
            alpha = alpha * within
            inside &= within > 0.5
        self.blend(region, alpha, hu)
        if label is not None:
            self.labels[region.box][inside] = label
