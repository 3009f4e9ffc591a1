"""The model's grid beside the series' grid.

Both grids have parallel axes: the model grid is the reoriented series with another spacing, or a fixed cube
around its middle. Resampling between them is therefore separable, axis by axis, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.bundles.manifest import Preprocessing
from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry


@dataclass(frozen=True, eq=False)
class ModelGrid:
    """How the network sees a series.

    Attributes
    ----------
    series : VolumeGeometry
        The series' grid, axes reordered and flipped to the model's orientation.
    model : VolumeGeometry
        The network's grid.
    permutation, flips : tuple
        As ``VolumeGeometry.reoriented`` returns them.
    constant_outside : bool
        Whether model voxels outside the series get a fill value (else the nearest edge continues).
    """

    series: VolumeGeometry
    model: VolumeGeometry
    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    constant_outside: bool

    def series_index(self, axis: int) -> NDArray[np.float64]:
        """For each model index along array axis (0 = k): the fractional index in the reoriented series."""
        return _axis_index(self.model, self.series, axis)

    def model_index(self, axis: int) -> NDArray[np.float64]:
        """For each index of the reoriented series along array axis (0 = k): the fractional model index."""
        return _axis_index(self.series, self.model, axis)


def model_grid(geometry: VolumeGeometry, preprocessing: Preprocessing) -> ModelGrid:
    """Lay the network's grid over a series.

    Raises
    ------
    SafetyError
        ``run.sheared``: the slices are stacked obliquely (gantry tilt), so that no grid with parallel axes
        and square corners exists.
    """
    if geometry.is_sheared:
        raise SafetyError(
            "run.sheared",
            "The slices of this series are stacked obliquely (gantry tilt); the model would see a slanted patient.",
            "Correct the tilt before the run, or choose a series without tilt.",
        )
    series, permutation, flips = geometry.reoriented(preprocessing.orientation)
    if preprocessing.conform is not None:
        spacing = preprocessing.spacing_ijk_mm or (1.0, 1.0, 1.0)
        return ModelGrid(
            series, _conformed(series, preprocessing.conform.size, spacing), permutation, flips, True
        )
    spacing_mm = preprocessing.spacing_ijk_mm
    model = series if spacing_mm is None else series.resampled_to(spacing_mm)
    return ModelGrid(series, model, permutation, flips, False)


def _conformed(series: VolumeGeometry, size: int, spacing: tuple[float, float, float]) -> VolumeGeometry:
    """A cube whose voxel ``(size - 1) // 2`` lies on the series' voxel ``(n - 1) // 2`` along each axis."""
    middle = series.lps_of([[(n - 1) // 2 for n in series.shape_ijk]])[0]
    step = series.direction_ijk * np.asarray(spacing)
    matrix = np.eye(4)
    matrix[:3, :3] = step
    matrix[:3, 3] = middle - step @ np.full(3, (size - 1) // 2)
    return VolumeGeometry((size, size, size), matrix, series.frame_of_reference_uid)


def _axis_index(of: VolumeGeometry, on: VolumeGeometry, axis: int) -> NDArray[np.float64]:
    """Fractional index on grid ``on`` of each voxel of grid ``of`` along one array axis (axes are
    parallel).
    """
    column = 2 - axis
    count = of.shape_kji[axis]
    ijk = np.zeros((count, 3))
    ijk[:, column] = np.arange(count)
    return np.asarray(on.ijk_of(of.lps_of(ijk))[:, column], dtype=np.float64)
