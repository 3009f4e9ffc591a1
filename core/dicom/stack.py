"""From slice positions to a voxel grid: sorting, spacing, gaps, tilt.

Positions are LPS millimetres. Slices ascend along the normal ``row × column`` of Image Orientation
(Patient), so that the grid is right-handed. Source: DICOM PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.dicom.series_rules import series_rules
from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue

_LISTED = 5
_UNTOLD_TILT = 1e-3
"""A drift of less than this share of the height is below what straightening undoes: the grid follows it."""


@dataclass(frozen=True)
class Stack:
    """The outcome: ``order`` sorts the input ascending; ``regular`` says whether the grid is exact.

    ``positions_mm`` is ``(N, 3)`` float64: where each slice of the order lies, LPS.
    """

    order: tuple[int, ...]
    geometry: VolumeGeometry
    regular: bool
    issues: tuple[SeriesIssue, ...]
    tilt_deg: float
    positions_mm: NDArray[np.float64]


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
    step, first = normal * (thickness_mm or 1.0), placed[0]
    issues: list[SeriesIssue] = []
    regular, tilt = True, 0.0
    if count > 1:
        step, tilt = _step(placed, normal, issues, min(spacing_rows_columns_mm))
        regular = _check_places(placed, normal, issues)
        # Along the normal the end slices stay in their place; within the planes the mean does.
        off = (placed - first - np.arange(count)[:, None] * step).mean(axis=0)
        first = first + off - (off @ normal) * normal if tilt == 0.0 else first
    matrix = np.eye(4)
    matrix[:3, 0] = row / np.linalg.norm(row) * spacing_rows_columns_mm[1]
    matrix[:3, 1] = column / np.linalg.norm(column) * spacing_rows_columns_mm[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = first
    geometry = VolumeGeometry((count, *shape_rows_columns), matrix, frame_of_reference_uid)
    return Stack(tuple(int(n) for n in order), geometry, regular, tuple(issues), tilt, placed)


def _step(
    placed: NDArray[np.float64], normal: NDArray[np.float64], issues: list[SeriesIssue], pixel_mm: float
) -> tuple[NDArray[np.float64], float]:
    """Return the mean step (3,) between slices and the tilt in degrees; none where a drift is but rounding."""
    whole = placed[-1] - placed[0]
    along = float(whole @ normal)
    drift = float(np.linalg.norm(whole - along * normal))
    tilt = float(np.degrees(np.arctan2(drift, along)))
    upright = normal * (along / (len(placed) - 1))
    tolerances = series_rules().tolerances
    most = tolerances.drift_of_pixel * pixel_mm
    slight = drift <= tolerances.drift_mm or tilt < tolerances.drift_deg
    if slight and drift < most and _strays(placed, upright, normal) < most:
        return upright, 0.0
    if drift <= _UNTOLD_TILT * along:
        return whole / (len(placed) - 1), tilt
    issues.append(
        SeriesIssue(
            "geometry.tilt",
            f"The slices are shifted against each other by {drift:.1f} mm over the stack (gantry tilt "
            f"{tilt:.1f} degrees).",
        )
    )
    return whole / (len(placed) - 1), tilt


def _strays(placed: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """Return how far a slice lies at most beside an upright grid that is right in the mean, in mm."""
    off = placed - np.arange(len(placed))[:, None] * step
    off = off - off.mean(axis=0)
    return float(np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1).max())


def _check_places(
    placed: NDArray[np.float64], normal: NDArray[np.float64], issues: list[SeriesIssue]
) -> bool:
    """Compare each slice with its place on a line through the ends; return whether it is regular.

    What is wrong is appended. Whether the line itself is upright is another matter (``_step``).
    """
    count = len(placed)
    step = (placed[-1] - placed[0]) / (count - 1)
    ideal = placed[0] + np.arange(count)[:, None] * step
    off = placed - ideal
    steps = np.diff(placed @ normal)
    mean = float(step @ normal)
    tolerance = place_tolerance(mean)
    along = np.abs(off @ normal)
    across = np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1)
    regular = True
    if along.max() > tolerance:
        issues.append(_irregular(steps))
        regular = False
    elif np.ptp(steps) > series_rules().tolerances.noted_jitter_mm:
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


def place_tolerance(step_mm: float) -> float:
    """Return how far a slice may lie from its place on a grid of a step."""
    tolerances = series_rules().tolerances
    return max(tolerances.place_mm, tolerances.place_of_step * step_mm)


def missing_between(steps: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return how many slices are missing in each step; None when the steps aren't multiples of a usual one."""
    rules = series_rules().irregular
    usual = float(np.median(steps))
    multiples = np.round(steps / usual)
    gaps = int((multiples >= 2).sum())
    fits = np.abs(steps / usual - multiples).max() < rules.missing_step_tolerance and multiples.min() >= 1
    if not fits or not 0 < gaps <= max(1, int(len(steps) * rules.missing_share)):
        return None
    return np.asarray(multiples - 1, dtype=np.intp)


def _irregular(steps: NDArray[np.float64]) -> SeriesIssue:
    """Tell missing slices (steps that are multiples of the usual one) from other irregular spacing."""
    usual = float(np.median(steps))
    lacking = missing_between(steps)
    if lacking is not None:
        missing = int(lacking.sum())
        return SeriesIssue(
            "geometry.gap",
            f"{missing} {'slice is' if missing == 1 else 'slices are'} missing: after slice "
            f"{listed(np.flatnonzero(lacking) + 1)} of {len(steps) + 1} (usual step {usual:.3f} mm).",
            blocks_volumetry=True,
        )
    changes = np.flatnonzero(np.abs(steps - usual) > place_tolerance(usual))
    return SeriesIssue(
        "geometry.irregular_spacing",
        f"Slice steps vary from {steps.min():.3f} to {steps.max():.3f} mm (unusual after slice "
        f"{listed(changes + 1)}); volumes would be wrong.",
        blocks_volumetry=True,
    )


def listed(numbers: Sequence[int] | NDArray[np.intp]) -> str:
    """Return the first few numbers for a message, with a count of the rest."""
    shown = ", ".join(str(int(n)) for n in numbers[:_LISTED])
    rest = len(numbers) - _LISTED
    return shown if rest <= 0 else f"{shown} and {rest} more"
