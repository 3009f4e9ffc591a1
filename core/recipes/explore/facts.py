"""What is looked at in each case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import apply_reorientation
from core.domain.volume import Volume
from core.recipes.cases import Case, CaseData
from core.recipes.thumbnails import resized

PICTURE = 112
_SAMPLES = 8192


@dataclass(frozen=True)
class Layout:
    """Size and place of an image, as the table of geometries counts them."""

    shape_kji: tuple[int, int, int]
    spacing_ijk_mm: tuple[float, float, float] | None
    orientation: str
    modality: str


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """One case.

    ``samples`` are some of its values by channel; ``picture`` is ``(112, 112)`` uint8 of its middle slice (of its most
    labelled one where it has a mask), ``marks`` ``(112, 112)`` uint8 label values on it.
    """

    id: str
    layout: Layout
    value_range: tuple[float, float]
    samples: Mapping[str, NDArray[np.float32]]
    picture: NDArray[np.uint8]
    marks: NDArray[np.uint8] | None = None
    voxels_by_label: Mapping[int, int] = field(default_factory=dict)
    volume_ml_by_label: Mapping[int, float] = field(default_factory=dict)
    issues: tuple[str, ...] = ()


def facts_of(case: Case, data: CaseData) -> CaseFacts:
    """Return what the report shows of a case."""
    first = next(iter(data.volumes.values()))
    voxels: Counter[int] = Counter()
    if data.labels is not None:
        counts = np.bincount(data.labels.ravel())
        voxels = Counter({value: int(n) for value, n in enumerate(counts) if value and n})
    picture, marks = _picture(first, data.labels)
    ml = first.geometry.voxel_volume_ml
    issues = {issue.code for volume in data.volumes.values() for issue in volume.issues}
    issues |= {issue.code for issue in data.issues}
    return CaseFacts(
        id=case.id,
        layout=layout_of(first),
        value_range=first.value_range(),
        samples={name: _samples(volume.voxels) for name, volume in data.volumes.items()},
        picture=picture,
        marks=marks,
        voxels_by_label=dict(voxels),
        volume_ml_by_label={value: n * ml for value, n in voxels.items()} if _measured(first) else {},
        issues=tuple(sorted(issues - {"geometry.uncalibrated"})),
    )


def layout_of(volume: Volume) -> Layout:
    """Return size, spacing (None for pictures) and orientation of an image."""
    spacing = tuple(round(mm, 3) for mm in volume.geometry.spacing_ijk_mm)
    known = _measured(volume)
    return Layout(
        volume.geometry.shape_kji,
        (spacing[0], spacing[1], spacing[2]) if known else None,
        volume.geometry.axis_codes() if known and volume.positioned else "",
        volume.modality,
    )


def _measured(volume: Volume) -> bool:
    return not any(issue.code == "geometry.uncalibrated" for issue in volume.issues)


def _samples(voxels: NDArray) -> NDArray[np.float32]:
    flat = voxels.reshape(-1)
    return flat[:: max(1, len(flat) // _SAMPLES)].astype(np.float32)


def _picture(
    volume: Volume, labels: NDArray[np.uint8] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    geometry, voxels = volume.geometry, volume.voxels
    if _measured(volume) and volume.positioned and geometry.shape_kji[0] > 1:
        # Axial, as one reads it: the patient's right at the left, the front at the top.
        geometry, permutation, flips = geometry.reoriented("LPS")
        voxels = apply_reorientation(voxels, permutation, flips)
        labels = None if labels is None else apply_reorientation(labels, permutation, flips)
    plane = geometry.shape_kji[0] // 2
    if labels is not None and labels.any():
        plane = int(np.count_nonzero(labels, axis=(1, 2)).argmax())
    image = voxels[plane].astype(np.float32)
    if image.ndim == 3:
        image = image[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    low, high = np.percentile(image, [0.5, 99.5])
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    grey = 1 - grey if volume.inverted else grey
    dx, dy, _ = geometry.spacing_ijk_mm
    shape = _within(image.shape[0] * dy, image.shape[1] * dx)
    small = _centred(np.rint(255 * resized(grey.astype(np.float32), shape)).astype(np.uint8))
    if labels is None:
        return small, None
    rows = (np.arange(shape[0]) * image.shape[0] / shape[0]).astype(int)
    columns = (np.arange(shape[1]) * image.shape[1] / shape[1]).astype(int)
    return small, _centred(labels[plane][np.ix_(rows, columns)])


def _within(height_mm: float, width_mm: float) -> tuple[int, int]:
    longest = max(height_mm, width_mm)
    return max(1, round(PICTURE * height_mm / longest)), max(1, round(PICTURE * width_mm / longest))


def _centred(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out = np.zeros((PICTURE, PICTURE), dtype=np.uint8)
    top, left = (PICTURE - small.shape[0]) // 2, (PICTURE - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out
