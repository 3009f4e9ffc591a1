"""A volume made ready to be looked at: its planes, its pictures, the layers on top."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.render.annotations import cut_fault, is_flat
from core.render.planes import ORTHOGONAL, Plane, PlaneGrid, native_plane, plane_grid


class DisplaySeries:
    """Planes and pictures of one volume. Holds no copy of the voxels."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.flat = is_flat(volume)

    @cached_property
    def planes(self) -> tuple[Plane, ...]:
        """Planes in which the series can be shown; a projection or a single slice has one."""
        if self.flat:
            return (Plane.IMAGE,)
        if self.single_plane_reason:
            return (self.native,)
        return ORTHOGONAL

    @cached_property
    def single_plane_reason(self) -> str:
        """Why the series is shown in one plane only; empty when all three planes are right."""
        volume = self.volume
        if self.flat:
            return "Projections and photographs have no cross-sections."
        if min(volume.geometry.shape_kji) == 1:
            return "A single slice has no other planes."
        return cut_fault(volume)

    @cached_property
    def native(self) -> Plane:
        """Plane in which the slices were acquired."""
        return Plane.IMAGE if self.flat else native_plane(self.volume.geometry)

    @cached_property
    def grids(self) -> dict[Plane, PlaneGrid]:
        """The grid of each plane that can be shown."""
        words = self.volume.extra.get("patient_orientation", "").replace("/", "\\").split("\\")
        orientation = (words[0], words[1]) if len(words) == 2 else None
        return {plane: plane_grid(self.volume.geometry, plane, orientation) for plane in self.planes}

    def values(self, plane: Plane, number: int) -> NDArray:
        """Return the voxels of a picture, ``(rows, columns[, 3])``; a view."""
        return self.grids[plane].extract(self.volume.voxels, number)

    def center_ijk(self) -> tuple[int, int, int]:
        """Index (i, j, k) of the middle voxel."""
        i, j, k = self.volume.geometry.shape_ijk
        return i // 2, j // 2, k // 2

    def value_at(self, ijk: tuple[int, int, int]) -> NDArray | None:
        """Return the voxel at (i, j, k) as a 0-d (or 3-element) array, or None outside the grid."""
        if any(not 0 <= n < size for n, size in zip(ijk, self.volume.geometry.shape_ijk, strict=True)):
            return None
        return np.asarray(self.volume.voxels[ijk[2], ijk[1], ijk[0]])


def require_same_grid(volume: VolumeGeometry, layer: VolumeGeometry, what: str) -> None:
    """Refuse a layer that lies on another grid than the displayed series.

    Raises
    ------
    SafetyError
        With code ``render.other-grid``.
    """
    if not volume.same_grid_as(layer, tolerance_mm=0.5 * min(volume.spacing_ijk_mm)):
        raise SafetyError(
            "render.other-grid",
            f"The {what} lies on another voxel grid ({_shape(layer)}) than the displayed series ({_shape(volume)}).",
            "Run the model again on this series.",
        )


def _shape(geometry: VolumeGeometry) -> str:
    return "×".join(str(n) for n in geometry.shape_ijk)
