"""Where a finding is looked at: a point that lies in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.domain.result import Finding
from core.domain.segmentation import Segmentation

Point = tuple[float, float, float]


def places_of(findings: Sequence[Finding], segmentation: Segmentation | None) -> dict[str, Point]:
    """Return a point of the patient for each finding that has one, in LPS millimetres.

    It is the centroid, unless that lies outside the finding's segment (a ring, both of a pair, bones around the
    lungs): then the segment's voxel nearest to it in the same slice, or in the nearest slice that has any. Takes
    some tens of milliseconds for such a segment; not for the GUI thread.
    """
    places: dict[str, Point] = {}
    for finding in findings:
        if finding.centroid_lps_mm is None:
            continue
        place = finding.centroid_lps_mm
        if segmentation is not None and finding.segment_value is not None:
            place = _inside(place, segmentation, finding.segment_value)
        places[finding.id] = place
    return places


def _inside(centroid: Point, segmentation: Segmentation, value: int) -> Point:
    geometry, labels = segmentation.geometry, segmentation.labels
    i, j, k = geometry.ijk_of([centroid])[0]
    last = np.asarray(labels.shape) - 1
    at = np.clip(np.rint([k, j, i]).astype(int), 0, last)
    if labels[tuple(at)] == value:
        return centroid
    slices = np.flatnonzero([bool(np.any(plane == value)) for plane in labels])
    if slices.size == 0:
        return centroid
    nearest = int(slices[np.argmin(np.abs(slices - at[0]))])
    rows, columns = np.nonzero(labels[nearest] == value)
    step_i, step_j, _ = geometry.spacing_ijk_mm
    chosen = int(np.argmin(((rows - j) * step_j) ** 2 + ((columns - i) * step_i) ** 2))
    x, y, z = geometry.lps_of([[float(columns[chosen]), float(rows[chosen]), float(nearest)]])[0]
    return (float(x), float(y), float(z))
