"""After a model ran: read the written label map again and see whether everything still lies where it was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.domain.errors import SafetyError
from core.domain.result import SegmentMeasure
from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.formats.nifti import read_nifti
from core.services.measure import boxes_of, extent_of

OK = "ok"
_SIDES = ("left", "right")
_LEAST_JUDGED_ML = 1.0
"""A few stray voxels have no side."""


def check_label_map(
    path: Path, segmentation: Segmentation, measures: Sequence[SegmentMeasure]
) -> dict[str, str]:
    """Compare a written label map with the one that was meant.

    Parameters
    ----------
    path : pathlib.Path
        The NIfTI file.
    segmentation : Segmentation
        What was to be written.
    measures : sequence of SegmentMeasure
        Its segments, measured on the array in memory.

    Returns
    -------
    dict
        ``"orientation"``, ``"centroids"``, ``"voxels"`` and ``"laterality"``: ``"ok"``, or for the last
        ``"not applicable"``.

    Raises
    ------
    SafetyError
        If the file has another shape or orientation, a centroid lies more than half a voxel from where it was
        measured, a segment has another number of voxels, or left lies to the right of right (``readback.…``).
        Nothing of such a result may be shown.
    """
    stored = read_nifti(path)
    return (
        _check_orientation(stored, segmentation)
        | _check_centroids(stored, segmentation, measures)
        | _check_voxels(stored, segmentation)
        | check_laterality(measures)
    )


def _check_orientation(stored: Volume, segmentation: Segmentation) -> dict[str, str]:
    meant, found = segmentation.geometry, stored.geometry
    if (meant.shape_kji, meant.axis_codes()) != (found.shape_kji, found.axis_codes()):
        raise _refusal(
            "readback.orientation",
            f"it was written as {found.shape_kji} {found.axis_codes()} instead of "
            f"{meant.shape_kji} {meant.axis_codes()}.",
        )
    return {"orientation": OK}


def _check_centroids(
    stored: Volume, segmentation: Segmentation, measures: Sequence[SegmentMeasure]
) -> dict[str, str]:
    """Each segment's centroid, from the file's voxels through the file's affine, against the one in memory."""
    allowed_mm = 0.5 * min(segmentation.geometry.spacing_ijk_mm)
    boxes = boxes_of(stored.voxels)
    if unknown := set(boxes) - {measure.value for measure in measures}:
        raise _refusal("readback.values", f"it holds the values {sorted(unknown)}, which stand for nothing.")
    for measure in measures:
        box = boxes.get(measure.value)
        if box is None or measure.centroid_lps_mm is None:
            if (box is None) != (measure.voxels == 0):
                raise _refusal("readback.voxels", f"the segment {measure.label} was lost or appeared.")
            continue
        found = extent_of(stored.voxels[box] == measure.value, box, stored.geometry)
        apart_mm = float(np.linalg.norm(np.subtract(found.centroid_lps_mm, measure.centroid_lps_mm)))
        if not apart_mm <= allowed_mm or found.voxels != measure.voxels:
            raise _refusal(
                "readback.centroid",
                f"the segment {measure.label} was found {apart_mm:.2f} mm from where it was measured "
                f"({allowed_mm:.2f} mm allowed), with {found.voxels} voxels instead of {measure.voxels}.",
            )
    return {"centroids": OK}


def _check_voxels(stored: Volume, segmentation: Segmentation) -> dict[str, str]:
    """Every voxel, and the corners of the grid: a mirrored organ may keep its centroid."""
    allowed_mm = 0.5 * min(segmentation.geometry.spacing_ijk_mm)
    if not stored.geometry.same_grid_as(segmentation.geometry, allowed_mm):
        raise _refusal("readback.grid", "a corner of its grid lies more than half a voxel from where it was.")
    if not np.array_equal(stored.voxels, segmentation.labels):
        raise _refusal("readback.voxels", "its voxels are not those that were written.")
    return {"voxels": OK}


def check_laterality(measures: Sequence[SegmentMeasure]) -> dict[str, str]:
    """For each pair of segments that differ by left and right: the left one lies more to the patient's left.

    In LPS, x grows to the patient's left. A pair of which one is absent or below 1 ml is not judged.

    Raises
    ------
    SafetyError
        If a pair is the wrong way round (``readback.laterality``).
    """
    large = [m for m in measures if m.volume_ml >= _LEAST_JUDGED_ML]
    centroids = {m.label.casefold(): m.centroid_lps_mm for m in large if m.centroid_lps_mm is not None}
    judged = False
    for label, left in centroids.items():
        right = centroids.get(label.replace(*_SIDES)) if _SIDES[0] in label else None
        if right is None:
            continue
        judged = True
        if left[0] <= right[0]:
            raise _refusal(
                "readback.laterality",
                f"the segment {label} lies {right[0] - left[0]:.0f} mm to the right of its counterpart.",
            )
    return {"laterality": OK if judged else "not applicable"}


def _refusal(code: str, why: str) -> SafetyError:
    return SafetyError(
        code,
        f"The result was discarded, because its label map could mislead: {why}",
        "Check the orientation of the series; report this if it is right.",
    )
