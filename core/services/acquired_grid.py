"""Back from the straightened grid that models and readers see to the slices as they were acquired.

DICOM objects refer to acquired images, so what was found on a stack whose gantry tilt was corrected is put back onto
the tilted slices before it is exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.dicom.assemble import of_time_point
from core.dicom.faults import translated
from core.dicom.layout import lay_out
from core.dicom.reading import recall_header
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation
from core.domain.study import InstanceRef, SeriesSummary

_TILT = "geometry.tilt"


def acquired_grid(
    geometry: VolumeGeometry, summary: SeriesSummary, instances: Sequence[InstanceRef]
) -> VolumeGeometry:
    """Return the grid on which the images of a result's series lie; ``geometry`` itself unless it was straightened.

    Raises
    ------
    AppError
        If a file of the series is gone or damaged.
    """
    if geometry.is_sheared or _TILT not in {issue.code for issue in summary.issues}:
        return geometry
    with translated("Reading the header"):
        headers = [recall_header(ref.file) for ref in of_time_point(instances, summary, 0)]
    return lay_out(headers).geometry


def segmentation_on(segmentation: Segmentation, grid: VolumeGeometry) -> Segmentation:
    """Return the label map on another grid, each voxel taking the label of the nearest one."""
    if segmentation.geometry is grid or segmentation.geometry.same_grid_as(grid):
        return segmentation
    return replace(
        segmentation, geometry=grid, labels=_nearest(segmentation.labels, segmentation.geometry, grid)
    )


def explanation_on(explanation: Explanation, grid: VolumeGeometry) -> Explanation:
    """Return the heat map on another grid, each voxel taking the value of the nearest one."""
    if explanation.geometry is grid or explanation.geometry.same_grid_as(grid):
        return explanation
    return replace(explanation, geometry=grid, heat=_nearest(explanation.heat, explanation.geometry, grid))


def _nearest(array: NDArray, own: VolumeGeometry, grid: VolumeGeometry) -> NDArray:
    """Sample ``(K, J, I)`` slice by slice; what lies outside becomes 0."""
    out = np.zeros(grid.shape_kji, dtype=array.dtype)
    across = own.ijk_from_lps[:3, :3] @ grid.lps_from_ijk[:3, :3]
    rows, columns = np.mgrid[0 : grid.shape_kji[1], 0 : grid.shape_kji[2]]
    in_plane = columns[..., None] * across[:, 0] + rows[..., None] * across[:, 1]
    limits = np.asarray(own.shape_ijk)
    for k in range(grid.shape_kji[0]):
        corner = own.ijk_of(grid.lps_of([(0, 0, k)]))[0]
        i, j, n = np.moveaxis(np.rint(in_plane + corner).astype(np.intp), -1, 0)
        inside = (i >= 0) & (j >= 0) & (n >= 0) & (i < limits[0]) & (j < limits[1]) & (n < limits[2])
        out[k][inside] = array[n[inside], j[inside], i[inside]]
    return out
