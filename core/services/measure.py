"""Measure the segments of a label map and find what a reader can jump to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.bundles.manifest import Manifest
from core.domain.geometry import VolumeGeometry
from core.domain.result import ClassProbability, Finding, SegmentMeasure
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.volume import Volume

_DIRECTIONS = 512
_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)
Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Extent:
    """Where a mask lies: number of voxels and LPS centroid of the voxels' centres in millimetres."""

    voxels: int
    centroid_lps_mm: Point


def measure_segments(volume: Volume, segmentation: Segmentation) -> tuple[SegmentMeasure, ...]:
    """Measure every segment, also those of which no voxel was found (volume 0, no centroid, no mean).

    Parameters
    ----------
    volume : Volume
        Source of the mean values; its voxels have the shape of the label map. Colour has no mean.
    segmentation : Segmentation
        The label map.

    Returns
    -------
    tuple of SegmentMeasure
        In the order of the segments. ``mean_hu`` is in the units of the volume (Hounsfield units for CT).
    """
    boxes = boxes_of(segmentation.labels)
    return tuple(
        _measure(segment, volume, segmentation, boxes.get(segment.value)) for segment in segmentation.segments
    )


def _measure(
    segment: SegmentDefinition, volume: Volume, segmentation: Segmentation, box: Box | None
) -> SegmentMeasure:
    if box is None:
        return SegmentMeasure(segment.value, segment.label, segment.code, 0, 0.0, None, None)
    mask = segmentation.labels[box] == segment.value
    extent = extent_of(mask, box, segmentation.geometry)
    mean = None
    if volume.voxels.ndim == 3:
        mean = float(np.mean(volume.voxels[box], where=mask, dtype=np.float64))
    return SegmentMeasure(
        segment.value,
        segment.label,
        segment.code,
        extent.voxels,
        extent.voxels * segmentation.geometry.voxel_volume_ml,
        extent.centroid_lps_mm,
        mean,
    )


def boxes_of(labels: NDArray) -> dict[int, Box]:
    """Return the smallest box of each value that occurs in a ``(K, J, I)`` label map (not of 0)."""
    found = ndimage.find_objects(labels, max_label=int(labels.max(initial=0)))
    return {value: box for value, box in enumerate(found, start=1) if box is not None}


def extent_of(mask: NDArray[np.bool_], box: Box, geometry: VolumeGeometry) -> Extent:
    """Count the voxels of a mask inside ``box`` and find their centroid.

    An affine map takes the mean index to the mean position, so sums along the axes suffice.
    """
    counts = [np.count_nonzero(mask, axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
    voxels = int(counts[0].sum())
    mean_kji = [
        part.start + float(np.arange(count.size) @ count) / voxels
        for part, count in zip(box, counts, strict=True)
    ]
    x, y, z = geometry.lps_of([mean_kji[::-1]])[0]
    return Extent(voxels, (float(x), float(y), float(z)))


def largest_diameter_mm(mask: NDArray[np.bool_], box: Box, geometry: VolumeGeometry) -> float:
    """Return the largest extent of a mask (maximum Feret diameter), approximately.

    The distance between the outermost voxel centres along 512 directions that cover the half sphere evenly
    (the widest is met to within 4 degrees, 0.3 %), plus the side of a cube of one voxel's volume.

    Source: for the definition, PS3.16 CID 7470 "Length" of the long axis; for the directions, R. Swinbank and
    R. J. Purser, "Fibonacci grids", 2006.
    """
    points = geometry.lps_of(_ends_of_rows(mask, box))
    along = points @ _half_sphere(_DIRECTIONS).T
    return float((along.max(axis=0) - along.min(axis=0)).max()) + (geometry.voxel_volume_ml * 1000.0) ** (
        1.0 / 3.0
    )


def _ends_of_rows(mask: NDArray[np.bool_], box: Box) -> NDArray[np.float64]:
    """Return ``(N, 3)`` indices (i, j, k) of the first and last voxel of each row: they hold the convex hull."""
    k, j = np.nonzero(mask.any(axis=2))
    rows = mask[k, j]
    first = rows.argmax(axis=1)
    last = rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    starts = (box[2].start, box[1].start, box[0].start)
    ends = [np.stack([i, j, k], axis=1) for i in (first, last)]
    return np.concatenate(ends).astype(np.float64) + np.asarray(starts, dtype=np.float64)


def _half_sphere(count: int) -> NDArray[np.float64]:
    """Return ``(count, 3)`` unit vectors, evenly spread over a half sphere, the axes among them."""
    index = np.arange(count - 3)
    z = (index + 0.5) / (count - 3)
    angle = index * np.pi * (3.0 - np.sqrt(5.0))
    radius = np.sqrt(1.0 - z * z)
    spread = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    return np.concatenate([np.eye(3), spread])


def find_in_segments(
    manifest: Manifest, segmentation: Segmentation, measures: Sequence[SegmentMeasure]
) -> tuple[Finding, ...]:
    """Make findings of a segmentation, as ``manifest.findings`` says, with identifiers ``f1``, ``f2`` …

    The order is stable: that of the segments; components of one segment by falling volume, then by position.
    Whole segments carry no diameter (the diameter of an organ says nothing), components do, see
    ``largest_diameter_mm``.
    """
    wanted = manifest.findings
    if wanted.per == "segment":
        made = [_segment_finding(measure) for measure in measures if measure.voxels]
    elif wanted.per == "component":
        values = set(wanted.labels) or {measure.value for measure in measures}
        chosen = [measure for measure in measures if measure.voxels and measure.value in values]
        boxes = boxes_of(segmentation.labels)
        made = [
            finding
            for measure in chosen
            for finding in _lesions(measure, segmentation, boxes[measure.value], wanted.min_component_ml)
        ]
    else:
        made = []
    return numbered(made)


def find_in_classes(
    manifest: Manifest, classes: Sequence[ClassProbability], prediction_set: Sequence[str], volume: Volume
) -> tuple[Finding, ...]:
    """Make findings of a classification: the most probable class, then the others of the prediction set.

    The whole image was classified, so they lie at its middle.
    """
    if not classes or manifest.findings.per == "none":
        return ()
    ranked = sorted(classes, key=lambda item: -item.probability)
    chosen = [item for place, item in enumerate(ranked) if place == 0 or item.label in prediction_set]
    middle = volume.geometry.center_lps_mm
    return numbered([Finding("", item.label, "class", middle, score=item.probability) for item in chosen])


def find_all(
    manifest: Manifest,
    volume: Volume,
    segmentation: Segmentation | None,
    measures: Sequence[SegmentMeasure],
    classes: Sequence[ClassProbability],
    prediction_set: Sequence[str],
) -> tuple[Finding, ...]:
    """Make the findings of a result: of its label map first, then of its classes."""
    structures = () if segmentation is None else find_in_segments(manifest, segmentation, measures)
    return numbered([*structures, *find_in_classes(manifest, classes, prediction_set, volume)])


def numbered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings with identifiers ``f1``, ``f2`` … in their order."""
    return tuple(
        Finding(
            f"f{number}",
            finding.label,
            finding.kind,
            finding.centroid_lps_mm,
            finding.diameter_mm,
            finding.volume_ml,
            finding.score,
            finding.segment_value,
        )
        for number, finding in enumerate(findings, start=1)
    )


def _segment_finding(measure: SegmentMeasure) -> Finding:
    return Finding(
        "",
        measure.label,
        "segment",
        measure.centroid_lps_mm,
        volume_ml=measure.volume_ml,
        segment_value=measure.value,
    )


def _lesions(measure: SegmentMeasure, segmentation: Segmentation, box: Box, min_ml: float) -> list[Finding]:
    voxel_ml = segmentation.geometry.voxel_volume_ml
    found = [
        part for part in _components(segmentation, measure.value, box) if part.voxels * voxel_ml >= min_ml
    ]
    found.sort(key=lambda part: -part.voxels)
    return [
        Finding(
            "",
            measure.label if len(found) == 1 else f"{measure.label} {number}",
            "lesion",
            extent_of(part.mask, part.box, segmentation.geometry).centroid_lps_mm,
            largest_diameter_mm(part.mask, part.box, segmentation.geometry),
            part.voxels * voxel_ml,
            segment_value=measure.value,
        )
        for number, part in enumerate(found, start=1)
    ]


@dataclass(frozen=True, eq=False)
class _Component:
    """One connected component: its number in ``parts``, where it lies there, where in the whole label map.

    The mask is made when it is asked for: thousands of specks need not be held at once.
    """

    parts: NDArray
    inner: Box
    number: int
    voxels: int
    box: Box

    @property
    def mask(self) -> NDArray[np.bool_]:
        return np.asarray(self.parts[self.inner] == self.number)


def _components(segmentation: Segmentation, value: int, outer: Box) -> Iterator[_Component]:
    """Yield the connected components (26 neighbours) of a value, in the order of their first voxel."""
    parts, count = ndimage.label(segmentation.labels[outer] == value, structure=_NEIGHBOURS_26)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)
    for number, inner in boxes_of(parts).items():
        k, j, i = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))
        yield _Component(parts, inner, number, int(voxels[number]), (k, j, i))
