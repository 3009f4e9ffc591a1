"""Display planes of a voxel grid: which array axes run across and down the screen, and towards where.

The radiological convention holds whatever the order in which the voxels are stored: on axial and coronal
pictures the patient's right lies on the left of the screen, on sagittal ones anterior does; superior is up
and, on axial pictures, anterior is up. Pictures are numbered head to feet, anterior to posterior and right
to left. The planes follow the grid's own axes: an oblique series is shown as acquired, with letters that
say so, and no voxel is invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry

#: Direction cosine from which a further patient axis is named at an edge (a tilt of about 15°).
SECONDARY_LETTER_COSINE = 0.26


class Plane(StrEnum):
    """How a picture cuts the patient; ``IMAGE`` is a projection or photograph, shown as stored."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    IMAGE = "image"


ORTHOGONAL = (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)

# For each plane: the signed patient axis (1 = x to the left, 2 = y to posterior, 3 = z to superior) that runs
# to the right of the screen, down the screen, and along which the pictures are numbered.
_CONVENTION = {
    Plane.AXIAL: (1, 2, -3),
    Plane.CORONAL: (1, -3, 2),
    Plane.SAGITTAL: (2, -3, 1),
}


@dataclass(frozen=True)
class EdgeLetters:
    """Patient directions at the four edges of a picture (``"R"``, ``"HL"`` …); empty when unknown."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True)
class _Axis:
    """An array axis (0 = k, 1 = j, 2 = i) and whether the screen runs against it."""

    array_axis: int
    reversed: bool
    length: int

    def to_index(self, position: float) -> float:
        """Array index of a screen position along this axis."""
        return self.length - 1 - position if self.reversed else position


@dataclass(frozen=True, eq=False)
class PlaneGrid:
    """One display plane of a grid.

    ``across`` runs to the right of the screen, ``down`` down the screen, ``through`` from the first picture
    to the last. Positions are given as ``(column, row, number)``, counted from 0 at voxel centres.
    """

    plane: Plane
    geometry: VolumeGeometry
    across: _Axis
    down: _Axis
    through: _Axis
    letters: EdgeLetters

    @property
    def columns(self) -> int:
        """Number of voxels across."""
        return self.across.length

    @property
    def rows(self) -> int:
        """Number of voxels down."""
        return self.down.length

    @property
    def count(self) -> int:
        """Number of pictures."""
        return self.through.length

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Distance between voxel centres (down the screen, across it) in millimetres."""
        spacing = self.geometry.spacing_kji_mm
        return spacing[self.down.array_axis], spacing[self.across.array_axis]

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between pictures in millimetres."""
        return self.geometry.spacing_kji_mm[self.through.array_axis]

    def extract(self, array: NDArray, number: int) -> NDArray:
        """Return picture ``number`` of a ``(K, J, I[, C])`` array as a ``(rows, columns[, C])`` view.

        Raises
        ------
        IndexError
            If there is no such picture.
        """
        if not 0 <= number < self.count:
            raise IndexError(f"picture {number} of {self.count}")
        index: list[int | slice] = [slice(None)] * 3
        index[self.through.array_axis] = self.array_index(number)
        for axis in (self.across, self.down):
            index[axis.array_axis] = slice(None, None, -1 if axis.reversed else 1)
        picture = array[tuple(index)]
        return picture if self.down.array_axis < self.across.array_axis else picture.swapaxes(0, 1)

    def array_index(self, number: int) -> int:
        """Index along the array axis that is cut, of picture ``number``."""
        return int(self.through.to_index(number))

    def number_of_array_index(self, index: int) -> int:
        """Picture that shows array index ``index`` of the axis that is cut."""
        return int(self.through.to_index(index))

    def ijk_of(self, column: float, row: float, number: float) -> tuple[float, float, float]:
        """Fractional voxel index (i, j, k) of a screen position."""
        kji = [0.0, 0.0, 0.0]
        for axis, position in ((self.across, column), (self.down, row), (self.through, number)):
            kji[axis.array_axis] = axis.to_index(position)
        return kji[2], kji[1], kji[0]

    def position_of(self, ijk: tuple[float, float, float]) -> tuple[float, float, float]:
        """Screen position (column, row, number) of a fractional voxel index (i, j, k)."""
        kji = ijk[::-1]
        column, row, number = (a.to_index(kji[a.array_axis]) for a in (self.across, self.down, self.through))
        return column, row, number


def direction_letters(direction_lps: NDArray[np.floating]) -> str:
    """Name a direction in the patient by the letters of DICOM's Patient Orientation.

    The nearest patient axis comes first; further ones follow when the direction leans to them by more than
    about 15°. Letters: R, L, A, P, and H (head), F (feet) for superior and inferior are written S and I, as
    readers of cross-sections are used to.

    Source: DICOM PS3.3 C.7.6.1.1.1 (order by magnitude).
    """
    unit = np.asarray(direction_lps, dtype=np.float64)
    unit = unit / np.linalg.norm(unit)
    order = np.argsort(-np.abs(unit), kind="stable")
    named = [a for n, a in enumerate(order) if n == 0 or abs(unit[a]) > SECONDARY_LETTER_COSINE]
    return "".join("LPS"[a] if unit[a] > 0 else "RAI"[a] for a in named)


def opposite_letters(letters: str) -> str:
    """Return the letters of the opposite direction."""
    return letters.translate(str.maketrans("LRAPSIHF", "RLPAISFH"))


def plane_grid(
    geometry: VolumeGeometry, plane: Plane, orientation: tuple[str, str] | None = None
) -> PlaneGrid:
    """Work out how ``plane`` cuts the grid.

    Parameters
    ----------
    orientation : tuple of str, optional
        For ``Plane.IMAGE``: the patient directions of a row and of a column, as in Patient Orientation
        (0020,0020); without it an image gets no letters.
    """
    if plane is Plane.IMAGE:
        return _image_grid(geometry, orientation)
    axes = geometry.patient_axes()
    across, down, through = (_axis_for(geometry, axes, signed) for signed in _CONVENTION[plane])
    right = _screen_direction(geometry, across)
    bottom = _screen_direction(geometry, down)
    letters = EdgeLetters(
        left=direction_letters(-right),
        right=direction_letters(right),
        top=direction_letters(-bottom),
        bottom=direction_letters(bottom),
    )
    return PlaneGrid(plane, geometry, across, down, through, letters)


def native_plane(geometry: VolumeGeometry) -> Plane:
    """Return the plane in which the slices were stored (rows and columns of the array)."""
    return (Plane.SAGITTAL, Plane.CORONAL, Plane.AXIAL)[geometry.patient_axes()[2]]


def _axis_for(geometry: VolumeGeometry, axes: tuple[int, int, int], signed: int) -> _Axis:
    patient_axis = abs(signed) - 1
    index_axis = axes.index(patient_axis)
    increases = geometry.direction_ijk[patient_axis, index_axis] >= 0
    array_axis = 2 - index_axis
    return _Axis(array_axis, bool(increases != (signed > 0)), geometry.shape_kji[array_axis])


def _screen_direction(geometry: VolumeGeometry, axis: _Axis) -> NDArray[np.float64]:
    direction = geometry.direction_ijk[:, 2 - axis.array_axis]
    return -direction if axis.reversed else direction


def _image_grid(geometry: VolumeGeometry, orientation: tuple[str, str] | None) -> PlaneGrid:
    k, j, i = geometry.shape_kji
    letters = EdgeLetters()
    if orientation is not None and all(orientation):
        right, bottom = orientation
        letters = EdgeLetters(opposite_letters(right), right, opposite_letters(bottom), bottom)
    return PlaneGrid(
        Plane.IMAGE, geometry, _Axis(2, False, i), _Axis(1, False, j), _Axis(0, False, k), letters
    )
