"""From slice positions to a voxel grid: sorting, spacing, gaps, tilt.

Positions are LPS millimetres. Slices ascend along the normal ``row × column`` of Image Orientation
(Patient), so that the grid is right-handed. Source: DICOM PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue

SAME_POSITION_MM = 0.01
"""Positions closer than this along the normal are one position."""

PLACE_TOLERANCE_MM = 0.05
PLACE_TOLERANCE_OF_STEP = 0.02
"""A slice may lie this far from its place on the regular grid. The first covers positions that were rounded
to 0.1 mm, the second scanners whose steps differ by about one per cent (6.958 to 7.071 mm were seen)."""

NOTED_JITTER_MM = 0.005
DRIFT_MM = 0.05
"""In-plane drift of the origin over the whole stack that counts as tilt."""

_LISTED = 5


@dataclass(frozen=True)
class Stack:
    """The outcome: ``order`` sorts the input ascending; ``regular`` says whether the grid is exact."""

    order: tuple[int, ...]
    geometry: VolumeGeometry
    regular: bool
    issues: tuple[SeriesIssue, ...]
    tilt_deg: float


def normal_of(orientation: Sequence[float]) -> NDArray[np.float64]:
    """Return the unit normal (3,) of six direction cosines."""
    normal = np.cross(
        np.asarray(orientation[:3], dtype=np.float64), np.asarray(orientation[3:], dtype=np.float64)
    )
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def sort_order(positions_mm: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the permutation that sorts positions (N, 3) ascending along the normal; stable."""
    return np.argsort(positions_mm @ normal, kind="stable")


def build_stack(
    positions_mm: NDArray[np.float64],
    orientation: Sequence[float],
    spacing_rows_columns_mm: Sequence[float],
    shape_rows_columns: tuple[int, int],
    thickness_mm: float | None = None,
    frame_of_reference_uid: str | None = None,
) -> Stack:
    """Build the grid of slices at distinct positions.

    Parameters
    ----------
    positions_mm : numpy.ndarray
        ``(N, 3)`` Image Position (Patient), any order, distinct along the normal.
    orientation : sequence of float
        Image Orientation (Patient): direction of a row (i), then of a column (j).
    spacing_rows_columns_mm : sequence of float
        Pixel Spacing: distance between rows (along j), between columns (along i).
    thickness_mm : float or None
        Size along k of a single slice.
    """
    normal = normal_of(orientation)
    order = sort_order(positions_mm, normal)
    placed = positions_mm[order]
    count = len(placed)
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    step = normal * (thickness_mm or 1.0)
    issues: list[SeriesIssue] = []
    regular, tilt = True, 0.0
    if count > 1:
        step, tilt = _step(placed, normal, issues)
        regular = _check_places(placed, step, normal, issues)
    matrix = np.eye(4)
    matrix[:3, 0] = row / np.linalg.norm(row) * spacing_rows_columns_mm[1]
    matrix[:3, 1] = column / np.linalg.norm(column) * spacing_rows_columns_mm[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = placed[0]
    geometry = VolumeGeometry((count, *shape_rows_columns), matrix, frame_of_reference_uid)
    return Stack(tuple(int(n) for n in order), geometry, regular, tuple(issues), tilt)


def _step(
    placed: NDArray[np.float64], normal: NDArray[np.float64], issues: list[SeriesIssue]
) -> tuple[NDArray[np.float64], float]:
    """Return the mean step (3,) between slices and the tilt in degrees; a small drift is rounding."""
    whole = placed[-1] - placed[0]
    along = float(whole @ normal)
    drift = float(np.linalg.norm(whole - along * normal))
    if drift <= DRIFT_MM:
        return normal * (along / (len(placed) - 1)), 0.0
    tilt = float(np.degrees(np.arctan2(drift, along)))
    issues.append(
        SeriesIssue(
            "geometry.tilt",
            f"The slices are shifted against each other by {drift:.1f} mm over the stack (gantry tilt "
            f"{tilt:.1f} degrees); the grid is sheared accordingly.",
        )
    )
    return whole / (len(placed) - 1), tilt


def _check_places(
    placed: NDArray[np.float64],
    step: NDArray[np.float64],
    normal: NDArray[np.float64],
    issues: list[SeriesIssue],
) -> bool:
    """Compare each slice with its place on the grid; append what is wrong; return whether it is regular."""
    count = len(placed)
    ideal = placed[0] + np.arange(count)[:, None] * step
    off = placed - ideal
    steps = np.diff(placed @ normal)
    mean = float(step @ normal)
    tolerance = max(PLACE_TOLERANCE_MM, PLACE_TOLERANCE_OF_STEP * mean)
    along = np.abs(off @ normal)
    across = np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1)
    regular = True
    if along.max() > tolerance:
        issues.append(_irregular(steps))
        regular = False
    elif np.ptp(steps) > NOTED_JITTER_MM:
        issues.append(
            SeriesIssue(
                "geometry.spacing_jitter",
                f"Slice steps vary from {steps.min():.3f} to {steps.max():.3f} mm; {mean:.3f} mm is used.",
            )
        )
    if across.max() > tolerance and regular:
        worst = int(across.argmax()) + 1
        issues.append(
            SeriesIssue(
                "geometry.misaligned",
                f"Slice {worst} is shifted sideways by {across.max():.2f} mm against the stack.",
                blocks_volumetry=True,
            )
        )
        regular = False
    return regular


def _irregular(steps: NDArray[np.float64]) -> SeriesIssue:
    """Tell missing slices (steps that are multiples of the usual one) from other irregular spacing."""
    usual = float(np.median(steps))
    multiples = np.round(steps / usual)
    gaps = np.flatnonzero(multiples >= 2)
    fits = np.abs(steps / usual - multiples).max() < 0.1 and multiples.min() >= 1
    if fits and 0 < len(gaps) <= max(1, len(steps) // 4):
        missing = int((multiples[gaps] - 1).sum())
        return SeriesIssue(
            "geometry.gap",
            f"{missing} {'slice is' if missing == 1 else 'slices are'} missing: after slice {listed(gaps + 1)} of "
            f"{len(steps) + 1} (usual step {usual:.3f} mm).",
            blocks_volumetry=True,
        )
    changes = np.flatnonzero(np.abs(steps - usual) > max(PLACE_TOLERANCE_MM, PLACE_TOLERANCE_OF_STEP * usual))
    return SeriesIssue(
        "geometry.irregular_spacing",
        f"Slice steps vary from {steps.min():.3f} to {steps.max():.3f} mm (unusual after slice "
        f"{listed(changes + 1)}); distances along the stack and volumes would be wrong.",
        blocks_volumetry=True,
    )


def listed(numbers: Sequence[int] | NDArray[np.intp]) -> str:
    """Return the first few numbers for a message, with a count of the rest."""
    shown = ", ".join(str(int(n)) for n in numbers[:_LISTED])
    rest = len(numbers) - _LISTED
    return shown if rest <= 0 else f"{shown} and {rest} more"
