"""Domain objects as they travel in messages, and back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import BugError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.domain.window import Window
from core.jobs.messages import GridSpec, SharedArraySpec, VolumeSpec


def grid_of(geometry: VolumeGeometry) -> GridSpec:
    """Return a geometry as a message part; the 16 numbers are exact (JSON keeps a double's shortest form)."""
    numbers = tuple(float(value) for value in geometry.lps_from_ijk.ravel())
    return GridSpec(geometry.shape_kji, numbers, geometry.frame_of_reference_uid)


def geometry_of(grid: GridSpec) -> VolumeGeometry:
    """Return the geometry of a message part.

    Raises
    ------
    BugError
        If there are not 16 numbers (``jobs.bad_grid``).
    SafetyError
        If they are no usable affine.
    """
    if len(grid.lps_from_ijk) != 16:
        raise BugError("jobs.bad_grid", f"A grid came with {len(grid.lps_from_ijk)} numbers instead of 16.")
    matrix = np.asarray(grid.lps_from_ijk, dtype=np.float64).reshape(4, 4)
    return VolumeGeometry(grid.shape_kji, matrix, grid.frame_of_reference_uid)


def volume_spec_of(volume: Volume, voxels: SharedArraySpec) -> VolumeSpec:
    """Describe a volume whose voxels lie in ``voxels``. Description and identifiers of the study stay here."""
    padding = volume.padding_value
    return VolumeSpec(
        voxels=voxels,
        grid=grid_of(volume.geometry),
        modality=volume.modality,
        units=volume.units,
        series_uid=volume.series_uid,
        body_part=volume.body_part,
        padding_value=None if padding is None or not math.isfinite(padding) else float(padding),
        inverted=volume.inverted,
        windows=tuple((float(w.center), float(w.width)) for w in volume.windows),
    )


def volume_of(spec: VolumeSpec, voxels: NDArray) -> Volume:
    """Return the volume of a message, on a view of the shared voxels (not copied)."""
    return Volume(
        geometry=geometry_of(spec.grid),
        voxels=voxels,
        modality=spec.modality,
        series_uid=spec.series_uid,
        units=spec.units,
        body_part=spec.body_part,
        padding_value=spec.padding_value,
        inverted=spec.inverted,
        windows=tuple(Window(center, width) for center, width in spec.windows),
    )
