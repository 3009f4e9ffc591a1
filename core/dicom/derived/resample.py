"""Values on planes of their own, brought onto another grid without interpolation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.planes import PlaneStack
from core.domain.geometry import VolumeGeometry


class NearestPixel:
    """For each voxel of a grid, the nearest pixel of a stack of planes.

    A voxel takes the pixel whose centre is nearest, if it lies within half the distance between planes and within
    half a pixel of the plane's edge; else it stays empty. Planes need not be regular: what has no frame is empty.
    """

    def __init__(self, stack: PlaneStack, target: VolumeGeometry) -> None:
        self._target = target
        self._shape = stack.planes.shape
        normal = stack.planes.normal
        basis = np.column_stack([stack.planes.column_steps[0], stack.planes.row_steps[0], normal])
        inverse = np.linalg.inv(basis)
        self._from_lps = inverse
        self._origins = stack.positions @ inverse.T  # (P, 3): column, row, height of each plane's first pixel
        heights = self._origins[:, 2]
        self._middles = (heights[1:] + heights[:-1]) / 2
        self._reach = stack.spacing_mm / 2 * 1.001

    def slices(self) -> Iterator[tuple[int, NDArray[np.bool_], tuple[NDArray, NDArray, NDArray]]]:
        """Yield, for each slice k that is met, which of its voxels are, and their (plane, row, column)."""
        matrix = self._from_lps @ self._target.lps_from_ijk[:3, :3]
        origin = self._from_lps @ self._target.lps_from_ijk[:3, 3]
        slices, rows, columns = self._target.shape_kji
        along_i = np.arange(columns)[None, :]
        along_j = np.arange(rows)[:, None]
        for k in range(slices):
            column, row, height = (
                (origin[n] + matrix[n, 2] * k) + matrix[n, 0] * along_i + matrix[n, 1] * along_j
                for n in range(3)
            )
            plane = np.searchsorted(self._middles, height)
            column = np.rint(column - self._origins[plane, 0])
            row = np.rint(row - self._origins[plane, 1])
            met = np.abs(height - self._origins[plane, 2]) <= self._reach
            met &= (column >= 0) & (column < self._shape[1]) & (row >= 0) & (row < self._shape[0])
            if met.any():
                yield (
                    k,
                    met,
                    (plane[met], row[met].astype(np.intp), column[met].astype(np.intp)),
                )

    def bring(self, values: NDArray, out: NDArray) -> None:
        """Fill ``out`` ``(K, J, I)`` from ``values`` ``(P, rows, columns)``; what isn't met stays as it is."""
        for k, met, index in self.slices():
            out[k][met] = values[index]

    def count_outside(self, occupied: NDArray[np.bool_], plane: int) -> int:
        """Count pixels of a plane ``(rows, columns)`` whose centre lies beyond the grid."""
        rows, columns = np.nonzero(occupied)
        if not len(rows):
            return 0
        own = np.column_stack([columns, rows, np.zeros(len(rows))]) + self._origins[plane]
        ijk = self._target.ijk_of(own @ np.linalg.inv(self._from_lps).T)
        limits = np.asarray(self._target.shape_ijk) - 0.5
        return int(np.any((ijk < -0.5) | (ijk >= limits), axis=1).sum())
