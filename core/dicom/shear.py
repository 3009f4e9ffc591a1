"""Straightening: a tilted or irregularly spaced stack resampled onto a regular grid with perpendicular axes.

What was acquired is moved, never invented: each slice is shifted within its plane (linear interpolation), slices
between two neighbours are mixed from them, and where slices are missing the grid stays blank and says so.
"""

from __future__ import annotations

import dataclasses
from math import prod

import numpy as np
from numpy.typing import NDArray

from core.config.memory import require_memory
from core.dicom.series_rules import series_rules
from core.dicom.stack import missing_between, place_tolerance
from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue, Volume

_HOLE_OF_STEPS = 2.5
"""A step this many times the large steps of a stack is a hole, not a wide spacing."""

_ON_PLANE_MM = 0.05
_NO_SHIFT_VOXELS = 1e-3
_UPRIGHT = 1e-9


def needs_straightening(geometry: VolumeGeometry, positions_mm: NDArray[np.float64] | None) -> bool:
    """Whether the slices lie elsewhere than on an upright regular grid."""
    if positions_mm is None or len(positions_mm) < 2:
        return False
    return (
        geometry.is_sheared
        or not _is_even(_along(geometry, positions_mm))
        or _wanders(geometry, positions_mm)
    )


def straightened(volume: Volume, positions_mm: NDArray[np.float64]) -> Volume:
    """Return the volume on a regular grid with perpendicular axes.

    Parameters
    ----------
    volume : Volume
        As acquired; colour is returned unchanged.
    positions_mm : numpy.ndarray
        ``(K, 3)`` float64: where the first voxel of each slice lies, LPS, ascending along the normal.

    Returns
    -------
    Volume
        The grid covers every acquired voxel. ``missing_slices`` lists slices of the grid where none was acquired; they
        and what lies outside hold the padding (or the smallest value). SOP Instance UIDs stand where a slice of the
        grid lies on an acquired plane.
    """
    if volume.voxels.ndim != 3:
        return volume
    heights = _along(volume.geometry, positions_mm)
    if _is_upright(volume.geometry) and not _wanders(volume.geometry, positions_mm):
        # What is beside the grid is rounding: pixels are not interpolated for it.
        rise = (heights - heights[0])[:, None] * _normal(volume.geometry)
        positions_mm = np.asarray(volume.geometry.origin_lps_mm) + rise
    plan = _plan(heights)
    grid, shifts = _grid(volume.geometry, positions_mm, plan)
    require_memory(prod(grid.shape_kji) * volume.voxels.itemsize, "The straightened series")
    fill = _fill(volume)
    out = np.full(grid.shape_kji, fill, dtype=volume.voxels.dtype)
    placed = _Shifted(volume.voxels, shifts, grid.shape_kji[1:], fill)
    uids, frames = [], []
    for k, (below, above, part) in enumerate(plan.sources):
        if below < 0:
            uids.append("")
            frames.append(0)
            continue
        if above == below or part == 0.0:
            placed.into(below, out[k])
        else:
            mixed = placed.of(below) * np.float32(1.0 - part) + placed.of(above) * np.float32(part)
            out[k] = np.rint(mixed) if out.dtype.kind in "iu" else mixed
        on_plane = above == below or min(part, 1.0 - part) * (heights[above] - heights[below]) <= _ON_PLANE_MM
        nearest = above if part > 0.5 else below
        uids.append(volume.sop_instance_uids[nearest] if on_plane and volume.sop_instance_uids else "")
        frames.append(volume.frame_numbers[nearest] if on_plane and volume.frame_numbers else 0)
    missing = tuple(k for k, (below, _, _) in enumerate(plan.sources) if below < 0)
    return dataclasses.replace(
        volume,
        geometry=grid,
        voxels=out,
        issues=(*volume.issues, *_told(volume, plan, missing)),
        sop_instance_uids=tuple(uids) if volume.sop_instance_uids else (),
        frame_numbers=tuple(frames) if volume.frame_numbers else (),
        slice_times_ms=volume.slice_times_ms if plan.as_acquired else (),
        missing_slices=missing,
    )


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Heights of the grid's slices; for each the acquired slices (below, above, share of above), -1 if missing."""

    first_mm: float
    step_mm: float
    sources: tuple[tuple[int, int, float], ...]
    as_acquired: bool


def _along(geometry: VolumeGeometry, positions_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(positions_mm @ _normal(geometry), dtype=np.float64)


def _normal(geometry: VolumeGeometry) -> NDArray[np.float64]:
    axes = geometry.direction_ijk
    normal = np.cross(axes[:, 0], axes[:, 1])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _is_upright(geometry: VolumeGeometry) -> bool:
    return bool(np.abs(np.cross(geometry.direction_ijk[:, 2], _normal(geometry))).max() < _UPRIGHT)


def _is_even(heights: NDArray[np.float64]) -> bool:
    ideal = np.linspace(heights[0], heights[-1], len(heights))
    mean = float((heights[-1] - heights[0]) / (len(heights) - 1))
    return bool(np.abs(heights - ideal).max() <= place_tolerance(mean))


def _wanders(geometry: VolumeGeometry, positions_mm: NDArray[np.float64]) -> bool:
    """Whether a slice lies beside the line through the ends of the stack; a slanting line is tilt or rounding."""
    off = positions_mm - np.linspace(positions_mm[0], positions_mm[-1], len(positions_mm))
    normal = _normal(geometry)
    across = np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1)
    return bool(across.max() > place_tolerance(abs(float(geometry.lps_from_ijk[:3, 2] @ normal))))


def _plan(heights: NDArray[np.float64]) -> _Plan:
    count = len(heights)
    steps = np.diff(heights)
    if _is_even(heights):
        mean = float((heights[-1] - heights[0]) / (count - 1))
        return _Plan(float(heights[0]), mean, tuple((k, k, 0.0) for k in range(count)), True)
    lacking = missing_between(steps)
    if lacking is not None:
        places = np.concatenate(([0], np.cumsum(lacking + 1)))
        total = int(places[-1]) + 1
        step = float((heights[-1] - heights[0]) / (total - 1))
        sources = [(-1, -1, 0.0)] * total
        for n, place in enumerate(places):
            sources[int(place)] = (n, n, 0.0)
        return _Plan(float(heights[0]), step, tuple(sources), False)
    return _resampling(heights, steps)


def _resampling(heights: NDArray[np.float64], steps: NDArray[np.float64]) -> _Plan:
    """Lay slices at the usual small step; those in a hole of the stack are missing."""
    most = len(heights) + series_rules().irregular.most_inserted
    span = float(heights[-1] - heights[0])
    wanted = max(float(np.quantile(steps, 0.25, method="lower")), span / max(1, most - 1))
    total = round(span / wanted) + 1
    step = span / max(1, total - 1)
    hole = _HOLE_OF_STEPS * float(np.quantile(steps, 0.75))
    sources: list[tuple[int, int, float]] = []
    for k in range(total):
        height = heights[0] + k * step
        above = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
        below = above - 1
        gap = heights[above] - heights[below]
        part = float(np.clip((height - heights[below]) / gap, 0.0, 1.0))
        near = min(part, 1.0 - part) * gap
        if gap > hole and near > step / 2:
            sources.append((-1, -1, 0.0))
        elif near <= _ON_PLANE_MM or gap > hole:
            nearest = above if part > 0.5 else below
            sources.append((nearest, nearest, 0.0))
        else:
            sources.append((below, above, part))
    return _Plan(float(heights[0]), step, tuple(sources), False)


def _grid(
    old: VolumeGeometry, positions_mm: NDArray[np.float64], plan: _Plan
) -> tuple[VolumeGeometry, NDArray[np.float64]]:
    """Return the upright grid that covers every slice, and where slices begin on it: ``(K, 2)`` as (i, j)."""
    normal = _normal(old)
    matrix = old.lps_from_ijk.copy()
    matrix[:3, 2] = normal * plan.step_mm
    matrix[:3, 3] = positions_mm[0]
    shape = (len(plan.sources), *old.shape_kji[1:])
    upright = VolumeGeometry(shape, matrix, old.frame_of_reference_uid)
    shifts = upright.ijk_of(positions_mm)[:, :2]
    low = np.floor(shifts.min(axis=0) + _NO_SHIFT_VOXELS).astype(int)
    high = np.ceil(shifts.max(axis=0) - _NO_SHIFT_VOXELS).astype(int)
    matrix[:3, 3] = upright.lps_of([(low[0], low[1], 0)])[0]
    shape = (shape[0], shape[1] + int(high[1] - low[1]), shape[2] + int(high[0] - low[0]))
    return VolumeGeometry(shape, matrix, old.frame_of_reference_uid), shifts - low


def _fill(volume: Volume) -> np.generic:
    """Return what stands where nothing was acquired: the padding value if the dtype can hold it, else the minimum."""
    dtype = volume.voxels.dtype
    padding = volume.padding_value
    if padding is not None:
        fits = dtype.kind == "f" or (
            padding == int(padding) and np.iinfo(dtype).min <= padding <= np.iinfo(dtype).max
        )
        if fits:
            return dtype.type(padding)
    smallest: np.generic = volume.voxels.min()
    return smallest


class _Shifted:
    """Slices moved within their plane onto the raster of the grid; the last two are kept."""

    def __init__(
        self,
        voxels: NDArray,
        shifts: NDArray[np.float64],
        shape: tuple[int, int],
        fill: np.generic,
    ) -> None:
        self._voxels = voxels
        self._shifts = shifts
        self._shape = shape
        self._fill = fill
        self._kept: dict[int, NDArray[np.float32]] = {}

    def of(self, n: int) -> NDArray[np.float32]:
        """Return acquired slice n on the grid's raster, float32."""
        if n not in self._kept:
            while len(self._kept) > 1:
                self._kept.pop(next(iter(self._kept)))
            plane = np.full(self._shape, self._fill, dtype=np.float32)
            _place(self._voxels[n], self._shifts[n], plane, self._fill)
            self._kept[n] = plane
        return self._kept[n]

    def into(self, n: int, out: NDArray) -> None:
        """Write acquired slice n to ``out``."""
        _place(self._voxels[n], self._shifts[n], out, self._fill)


def _place(plane: NDArray, offset_ij: NDArray[np.float64], out: NDArray, fill: np.generic) -> None:
    """Put a plane ``(J, I)`` at a fractional offset into ``out`` by linear interpolation."""
    offset_i, offset_j = (float(v) for v in offset_ij)
    whole_i, whole_j = round(offset_i), round(offset_j)
    if abs(offset_i - whole_i) < _NO_SHIFT_VOXELS and abs(offset_j - whole_j) < _NO_SHIFT_VOXELS:
        out[whole_j : whole_j + plane.shape[0], whole_i : whole_i + plane.shape[1]] = plane
        return
    whole_i, whole_j = int(np.floor(offset_i)), int(np.floor(offset_j))
    part_i, part_j = np.float32(offset_i - whole_i), np.float32(offset_j - whole_j)
    framed = np.full((plane.shape[0] + 2, plane.shape[1] + 2), float(fill), dtype=np.float32)
    framed[1:-1, 1:-1] = plane
    mixed = framed[1:] * (1 - part_j) + framed[:-1] * part_j
    mixed = mixed[:, 1:] * (1 - part_i) + mixed[:, :-1] * part_i
    if out.dtype.kind in "iu":
        mixed = np.rint(mixed)
    rows, columns = out.shape[0] - whole_j, out.shape[1] - whole_i
    height, width = min(mixed.shape[0], rows), min(mixed.shape[1], columns)
    out[whole_j : whole_j + height, whole_i : whole_i + width] = mixed[:height, :width]


def _told(volume: Volume, plan: _Plan, missing: tuple[int, ...]) -> list[SeriesIssue]:
    """Return what was done, for the reader."""
    issues = []
    if volume.geometry.is_sheared:
        issues.append(
            SeriesIssue(
                "geometry.shear_corrected",
                "The gantry tilt was corrected: pixels within each slice are interpolated.",
            )
        )
    if any(below != above for below, above, _ in plan.sources):
        issues.append(
            SeriesIssue(
                "geometry.resampled",
                f"The slices were resampled to an even step of {plan.step_mm:.3f} mm: distances are right, pixels "
                "between acquired slices are interpolated.",
            )
        )
    if missing:
        one = len(missing) == 1
        issues.append(
            SeriesIssue(
                "geometry.missing_slices",
                f"{len(missing)} {'slice was' if one else 'slices were'} never found and left blank.",
                blocks_volumetry=True,
            )
        )
    return issues
