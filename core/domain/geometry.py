"""Where voxels lie in the patient.

Coordinates are LPS (x to the patient's left, y to posterior, z to superior) in millimetres, as in
DICOM. Voxel arrays are indexed ``(k, j, i)`` = (slice, row, column); index tuples at interfaces are
``(i, j, k)``. An integer index denotes the centre of a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import SafetyError

Matrix = NDArray[np.float64]

_POSITIVE = "LPS"
_NEGATIVE = "RAI"


@dataclass(frozen=True, eq=False)
class VolumeGeometry:
    """A regular voxel grid in patient space.

    Parameters
    ----------
    shape_kji : tuple of int
        Number of (slices, rows, columns).
    lps_from_ijk : numpy.ndarray
        ``(4, 4)`` float64 affine; maps a homogeneous ``(i, j, k, 1)`` to LPS millimetres. Copied and
        made read-only. May be left-handed and may shear.
    frame_of_reference_uid : str or None
        Frame of Reference UID of the source, if any.

    Raises
    ------
    SafetyError
        If the affine is not finite or not invertible (code ``geometry.singular``).
    """

    shape_kji: tuple[int, int, int]
    lps_from_ijk: Matrix
    frame_of_reference_uid: str | None = None

    def __post_init__(self) -> None:
        matrix = np.array(self.lps_from_ijk, dtype=np.float64)
        if (
            matrix.shape != (4, 4)
            or not np.isfinite(matrix).all()
            or abs(np.linalg.det(matrix[:3, :3])) < 1e-12
        ):
            raise SafetyError(
                "geometry.singular",
                "The voxel grid has no usable position in the patient (zero or invalid spacing or orientation).",
                "Check Pixel Spacing (0028,0030) and Image Orientation (0020,0037) of the series.",
            )
        matrix.flags.writeable = False
        object.__setattr__(self, "lps_from_ijk", matrix)
        k, j, i = (int(n) for n in self.shape_kji)
        object.__setattr__(self, "shape_kji", (k, j, i))

    @classmethod
    def from_axes(
        cls,
        shape_kji: tuple[int, int, int],
        spacing_ijk_mm: tuple[float, float, float],
        direction_ijk: NDArray[np.floating],
        origin_lps_mm: tuple[float, float, float],
        frame_of_reference_uid: str | None = None,
    ) -> VolumeGeometry:
        """Build a grid from spacing, a ``(3, 3)`` matrix of unit columns (i, j, k) and the first voxel's centre."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(direction_ijk, dtype=np.float64) * np.asarray(
            spacing_ijk_mm, dtype=np.float64
        )
        matrix[:3, 3] = origin_lps_mm
        return cls(shape_kji, matrix, frame_of_reference_uid)

    @cached_property
    def ijk_from_lps(self) -> Matrix:
        """``(4, 4)`` float64 inverse affine, read-only."""
        inverse: Matrix = np.asarray(np.linalg.inv(self.lps_from_ijk), dtype=np.float64)
        inverse.flags.writeable = False
        return inverse

    @cached_property
    def spacing_ijk_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (i, j, k) in millimetres."""
        i, j, k = np.linalg.norm(self.lps_from_ijk[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def spacing_kji_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (k, j, i) in millimetres, in the order of the array's axes."""
        i, j, k = self.spacing_ijk_mm
        return k, j, i

    @cached_property
    def direction_ijk(self) -> Matrix:
        """``(3, 3)`` float64 unit direction cosines; columns are the i, j and k axes in LPS."""
        return self.lps_from_ijk[:3, :3] / np.asarray(self.spacing_ijk_mm)

    @property
    def origin_lps_mm(self) -> tuple[float, float, float]:
        """LPS position of the centre of voxel (0, 0, 0)."""
        x, y, z = self.lps_from_ijk[:3, 3]
        return float(x), float(y), float(z)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.lps_from_ijk[:3, :3]))) / 1000.0

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Number of (columns, rows, slices)."""
        k, j, i = self.shape_kji
        return i, j, k

    @cached_property
    def center_lps_mm(self) -> tuple[float, float, float]:
        """LPS position of the middle of the grid."""
        x, y, z = self.lps_of([(np.asarray(self.shape_ijk) - 1) / 2.0])[0]
        return float(x), float(y), float(z)

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not perpendicular (a gantry tilt that is not corrected)."""
        d = self.direction_ijk
        return bool(np.abs(d.T @ d - np.eye(3)).max() > 1e-3)

    def lps_of(self, ijk: NDArray[np.floating] | list) -> Matrix:
        """Map ``(N, 3)`` voxel indices (i, j, k) to ``(N, 3)`` LPS millimetres."""
        points = np.atleast_2d(np.asarray(ijk, dtype=np.float64))
        return points @ self.lps_from_ijk[:3, :3].T + self.lps_from_ijk[:3, 3]

    def ijk_of(self, lps_mm: NDArray[np.floating] | list) -> Matrix:
        """Map ``(N, 3)`` LPS millimetres to ``(N, 3)`` fractional voxel indices (i, j, k)."""
        points = np.atleast_2d(np.asarray(lps_mm, dtype=np.float64))
        return points @ self.ijk_from_lps[:3, :3].T + self.ijk_from_lps[:3, 3]

    def axis_codes(self) -> str:
        """Three letters: the patient direction towards which i, j and k increase (``"LPS"``, ``"PIL"`` …).

        The letter is that of the nearest patient axis, each patient axis being used once.
        """
        axes = self.patient_axes()
        signs = [np.sign(self.direction_ijk[axis, column]) for column, axis in enumerate(axes)]
        return "".join(_POSITIVE[a] if s >= 0 else _NEGATIVE[a] for a, s in zip(axes, signs, strict=True))

    def patient_axes(self) -> tuple[int, int, int]:
        """For i, j and k, the patient axis (0 = x, 1 = y, 2 = z) it runs along most, each used once."""
        best: tuple[float, tuple[int, int, int]] = (-1.0, (0, 1, 2))
        absolute = np.abs(self.direction_ijk)
        for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
            score = float(sum(absolute[axis, column] for column, axis in enumerate(order)))
            if score > best[0] + 1e-9:
                best = (score, order)
        return best[1]

    def same_grid_as(self, other: VolumeGeometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have the same shape and all corners within ``tolerance_mm``."""
        if self.shape_kji != other.shape_kji:
            return False
        corners = self.corners_ijk()
        return bool(np.abs(self.lps_of(corners) - other.lps_of(corners)).max() <= tolerance_mm)

    def corners_ijk(self) -> Matrix:
        """``(8, 3)`` indices (i, j, k) of the corner voxels' centres."""
        i, j, k = (n - 1 for n in self.shape_ijk)
        return np.array([(a, b, c) for a in (0, i) for b in (0, j) for c in (0, k)], dtype=np.float64)

    def bounds_lps_mm(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        """Smallest and largest LPS coordinate of the voxel centres along x, y and z."""
        points = self.lps_of(self.corners_ijk())
        low, high = points.min(axis=0), points.max(axis=0)
        return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))  # type: ignore[return-value]

    def cropped(self, start_kji: tuple[int, int, int], shape_kji: tuple[int, int, int]) -> VolumeGeometry:
        """Return the grid of the sub-array that begins at ``start_kji`` and has ``shape_kji`` voxels."""
        matrix = self.lps_from_ijk.copy()
        matrix[:3, 3] = self.lps_of([start_kji[::-1]])[0]
        return VolumeGeometry(shape_kji, matrix, self.frame_of_reference_uid)

    def resampled_to(self, spacing_ijk_mm: tuple[float, float, float]) -> VolumeGeometry:
        """Return a grid along the same axes with other spacing that covers the same voxel edges.

        The outer edge (half a voxel before the first centre) is kept in place, the number of voxels is
        rounded, at least one per axis, and the requested spacing is exact.
        """
        old = np.asarray(self.spacing_ijk_mm)
        new = np.asarray(spacing_ijk_mm, dtype=np.float64)
        shape = np.maximum(1, np.round(np.asarray(self.shape_ijk) * old / new)).astype(int)
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction_ijk * new
        first = (new / old - 1.0) / 2.0
        matrix[:3, 3] = self.lps_of([first])[0]
        i, j, k = (int(n) for n in shape)
        return VolumeGeometry((k, j, i), matrix, self.frame_of_reference_uid)

    def reoriented(
        self, codes: str = "LPS"
    ) -> tuple[VolumeGeometry, tuple[int, int, int], tuple[bool, bool, bool]]:
        """Permute and flip axes so that (i, j, k) run towards ``codes``.

        Returns
        -------
        geometry : VolumeGeometry
            The same voxels in the new order.
        permutation : tuple of int
            For the new (i, j, k): which old index axis (0 = i, 1 = j, 2 = k) it is.
        flips : tuple of bool
            For the new (i, j, k): whether the old axis is reversed.

        See ``apply_reorientation`` for the array.
        """
        wanted = [(_POSITIVE + _NEGATIVE).index(c) % 3 for c in codes]
        current = self.patient_axes()
        permutation = tuple(current.index(axis) for axis in wanted)
        own = self.axis_codes()
        flips = tuple(own[p] != c for p, c in zip(permutation, codes, strict=True))
        matrix = np.eye(4)
        origin_ijk = np.zeros(3)
        for new_axis, (old_axis, flip) in enumerate(zip(permutation, flips, strict=True)):
            column = self.lps_from_ijk[:3, old_axis]
            matrix[:3, new_axis] = -column if flip else column
            if flip:
                origin_ijk[old_axis] = self.shape_ijk[old_axis] - 1
        matrix[:3, 3] = self.lps_of([origin_ijk])[0]
        shape_ijk = tuple(self.shape_ijk[p] for p in permutation)
        geometry = VolumeGeometry(shape_ijk[::-1], matrix, self.frame_of_reference_uid)  # type: ignore[arg-type]
        return geometry, permutation, flips  # type: ignore[return-value]


def apply_reorientation(
    array: NDArray, permutation: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> NDArray:
    """Reorder a ``(K, J, I)`` array (extra trailing axes kept) as ``VolumeGeometry.reoriented`` says; a view."""
    order = tuple(2 - permutation[2 - axis] for axis in range(3)) + tuple(range(3, array.ndim))
    out = array.transpose(order)
    slices = tuple(slice(None, None, -1) if flips[2 - axis] else slice(None) for axis in range(3))
    return out[slices]


def undo_reorientation(
    array: NDArray, permutation: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> NDArray:
    """Inverse of ``apply_reorientation``; a view."""
    slices = tuple(slice(None, None, -1) if flips[2 - axis] else slice(None) for axis in range(3))
    order = tuple(2 - permutation[2 - axis] for axis in range(3))
    inverse = tuple(int(n) for n in np.argsort(order)) + tuple(range(3, array.ndim))
    return array[slices].transpose(inverse)
