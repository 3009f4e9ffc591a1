"""Correction of gantry tilt: a sheared stack resampled onto perpendicular axes."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue, Volume


def rectified(volume: Volume) -> Volume:
    """Return the volume on a grid with perpendicular axes.

    Each slice keeps its plane and is shifted within it (linear interpolation along rows and columns), so k
    still counts the slices that were acquired. The grid grows so that no voxel is lost; what lies outside
    takes the smallest value of the volume. Colour volumes are returned unchanged.
    """
    old = volume.geometry
    if volume.voxels.ndim != 3:
        return volume
    geometry = perpendicular(old)
    fill = volume.voxels.min()
    out = np.full(geometry.shape_kji, fill, dtype=volume.voxels.dtype)
    for k in range(old.shape_kji[0]):
        corner = geometry.ijk_of(old.lps_of([(0, 0, k)]))[0]
        _place(volume.voxels[k], corner[0], corner[1], out[k], fill)
    issue = SeriesIssue(
        "geometry.shear_corrected",
        "The gantry tilt was corrected: pixels within each slice are interpolated.",
    )
    return dataclasses.replace(volume, geometry=geometry, voxels=out, issues=(*volume.issues, issue))


def perpendicular(old: VolumeGeometry) -> VolumeGeometry:
    """Return the grid of equal in-plane spacing along the slice normal that covers all of ``old``."""
    axes = old.direction_ijk
    normal = np.cross(axes[:, 0], axes[:, 1])
    normal /= np.linalg.norm(normal)
    step = float(old.lps_from_ijk[:3, 2] @ normal)
    matrix = old.lps_from_ijk.copy()
    matrix[:3, 2] = normal * step
    upright = VolumeGeometry(old.shape_kji, matrix, old.frame_of_reference_uid)
    shifts = upright.ijk_of(old.lps_of([(0, 0, k) for k in range(old.shape_kji[0])]))[:, :2]
    low = np.floor(shifts.min(axis=0)).astype(int)
    high = np.ceil(shifts.max(axis=0)).astype(int)
    matrix[:3, 3] = upright.lps_of([(low[0], low[1], 0)])[0]
    shape = (
        old.shape_kji[0],
        old.shape_kji[1] + int(high[1] - low[1]),
        old.shape_kji[2] + int(high[0] - low[0]),
    )
    return VolumeGeometry(shape, matrix, old.frame_of_reference_uid)


def _place(plane: NDArray, offset_i: float, offset_j: float, out: NDArray, fill: np.generic) -> None:
    """Put a plane ``(J, I)`` at a fractional offset into ``out`` by linear interpolation."""
    whole_i, whole_j = round(offset_i), round(offset_j)
    part_i, part_j = offset_i - whole_i, offset_j - whole_j
    if abs(part_i) < 1e-3 and abs(part_j) < 1e-3:
        out[whole_j : whole_j + plane.shape[0], whole_i : whole_i + plane.shape[1]] = plane
        return
    whole_i, whole_j = int(np.floor(offset_i)), int(np.floor(offset_j))
    part_i, part_j = offset_i - whole_i, offset_j - whole_j
    framed = np.full((plane.shape[0] + 2, plane.shape[1] + 2), float(fill), dtype=np.float32)
    framed[1:-1, 1:-1] = plane
    mixed = framed[1:] * (1 - part_j) + framed[:-1] * part_j
    mixed = mixed[:, 1:] * (1 - part_i) + mixed[:, :-1] * part_i
    if out.dtype.kind in "iu":
        mixed = np.rint(mixed)
    rows, columns = out.shape[0] - whole_j, out.shape[1] - whole_i
    height, width = min(mixed.shape[0], rows), min(mixed.shape[1], columns)
    out[whole_j : whole_j + height, whole_i : whole_i + width] = mixed[:height, :width]
