"""Where the objects of an archive lie on the pictures of a series: contours, graphics, values.

Everything here is geometry; drawing is left to whoever has a painter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.domain.derived import Annotation, ReportPlace, SourceImage, StructureContours
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.render.planes import PlaneGrid

#: A contour whose points leave its plane by more than this share of a slice isn't drawn as a line.
PLANAR_SHARE = 0.5
_CIRCLE_POINTS = 72


@dataclass(frozen=True, eq=False)
class PlanarContour:
    """A contour on one slice: ``points_ij`` is ``(N, 2)`` float64 (column i, row j); ``value`` its region."""

    value: int
    points_ij: NDArray[np.float64]
    closed: bool = True


@dataclass(frozen=True, eq=False)
class Mark:
    """A graphic on one slice: ``lines_ij`` are ``(N, 2)`` polylines, ``text`` stands at ``anchor_ij``."""

    lines_ij: tuple[NDArray[np.float64], ...]
    text: str = ""
    anchor_ij: tuple[float, float] = (0.0, 0.0)
    points_ij: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class ValueMap:
    """Real-world values over a series.

    ``values`` is ``(K, J, I)`` float32 on the series' grid, NaN where nothing is known. ``low`` and ``high`` are the
    ends of the colour scale, in ``unit``.
    """

    values: NDArray[np.float32]
    low: float
    high: float
    title: str
    unit: str = ""
    interpolated: bool = False


def planar_contours(
    contours: StructureContours, geometry: VolumeGeometry
) -> dict[int, tuple[PlanarContour, ...]]:
    """Return the contours by slice k; regions count from 1 in their order.

    A contour belongs to the slice nearest to it. One that isn't parallel to the slices or lies beyond the first or
    last of them is left out.
    """
    found: dict[int, list[PlanarContour]] = {}
    for value, region in enumerate(contours.regions, 1):
        for contour in region.contours:
            if not len(contour.points_lps_mm):
                continue
            ijk = geometry.ijk_of(contour.points_lps_mm)
            k = int(np.round(np.mean(ijk[:, 2])))
            flat = np.ptp(ijk[:, 2]) <= PLANAR_SHARE and np.abs(ijk[:, 2] - k).max() <= 0.5 + 1e-6
            if flat and 0 <= k < geometry.shape_kji[0]:
                points = np.ascontiguousarray(ijk[:, :2])
                found.setdefault(k, []).append(PlanarContour(value, points, contour.closed))
    return {k: tuple(here) for k, here in found.items()}


def screen_points(grid: PlaneGrid, points_ij: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Map ``(N, 2)`` points (i, j) of slice k to ``(N, 2)`` screen positions (column, row) of a plane."""
    kji = (np.full(len(points_ij), float(k)), points_ij[:, 1], points_ij[:, 0])
    out = [np.asarray(axis.to_index(kji[axis.array_axis])) for axis in (grid.across, grid.down)]  # type: ignore[arg-type]
    return np.stack(out, axis=1)


def slices_of(volume: Volume, image: SourceImage) -> tuple[int, ...]:
    """Return the slices k that show an image, or the frames of it that are meant; empty when there is none."""
    frames = volume.frame_numbers or (1,) * len(volume.sop_instance_uids)
    return tuple(
        k
        for k, (uid, frame) in enumerate(zip(volume.sop_instance_uids, frames, strict=False))
        if uid == image.sop_instance_uid and (not image.frames or frame in image.frames)
    )


def marks_of_annotations(volume: Volume, annotations: Iterable[Annotation]) -> dict[int, tuple[Mark, ...]]:
    """Return the graphics of a presentation state by slice k."""
    found: dict[int, list[Mark]] = {}
    for annotation in annotations:
        for k in slices_of(volume, annotation.image):
            found.setdefault(k, []).append(_mark(annotation.shape, annotation.points_ij, annotation.text))
    return {k: tuple(here) for k, here in found.items()}


def marks_of_places(
    volume: Volume, places: Sequence[ReportPlace], text: str = ""
) -> dict[int, tuple[Mark, ...]]:
    """Return the places of a report's item by slice k; places in the patient lie on the slices they touch."""
    found: dict[int, list[Mark]] = {}
    for place in places:
        for k, points in _spots(volume, place):
            found.setdefault(k, []).append(_mark(place.shape, points, text))
    return {k: tuple(here) for k, here in found.items()}


def _spots(volume: Volume, place: ReportPlace) -> list[tuple[int, tuple[tuple[float, float], ...]]]:
    if place.image is not None:
        return [(k, place.points_ij) for k in slices_of(volume, place.image)]
    if not place.points_lps_mm:
        return []
    ijk = volume.geometry.ijk_of(np.asarray(place.points_lps_mm))
    count = volume.geometry.shape_kji[0]
    if np.ptp(ijk[:, 2]) <= PLANAR_SHARE:
        k = int(np.round(np.mean(ijk[:, 2])))
        return [(k, _pairs(ijk))] if 0 <= k < count else []
    near = {int(np.round(n)) for n in ijk[:, 2]}
    return [(k, _pairs(ijk[np.abs(ijk[:, 2] - k) <= 0.5])) for k in sorted(near) if 0 <= k < count]


def _pairs(ijk: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    return tuple((float(i), float(j)) for i, j in ijk[:, :2])


def place_lps(volume: Volume, place: ReportPlace) -> tuple[float, float, float] | None:
    """Return the middle of a place in the patient, or None when it lies on no slice of the volume."""
    if place.points_lps_mm:
        x, y, z = np.mean(np.asarray(place.points_lps_mm), axis=0)
        return float(x), float(y), float(z)
    slices = slices_of(volume, place.image) if place.image is not None else ()
    if not slices:
        return None
    middle = np.mean(np.asarray(place.points_ij), axis=0) if place.points_ij else _image_middle(volume)
    x, y, z = volume.geometry.lps_of([(middle[0], middle[1], slices[0])])[0]
    return float(x), float(y), float(z)


def _image_middle(volume: Volume) -> NDArray[np.float64]:
    _, rows, columns = volume.geometry.shape_kji
    return np.array([(columns - 1) / 2, (rows - 1) / 2])


def _mark(shape: str, points: Sequence[tuple[float, float]], text: str) -> Mark:
    """Turn a graphic into lines.

    Source: DICOM PS3.3 C.10.5.1.2 (presentation states) and C.18.6.1.2 (reports): a circle is its centre and a point
    on it, an ellipse the ends of its long axis and of its short one.
    """
    at = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if not len(at):
        return Mark((), text)
    if shape == "circle" and len(at) >= 2:
        radius = float(np.hypot(*(at[1] - at[0])))
        line = at[0] + radius * _unit_circle()
    elif shape in ("ellipse", "ellipsoid") and len(at) >= 4:
        middle = at[:4].mean(axis=0)
        turn = _unit_circle()
        line = middle + turn[:, :1] * (at[1] - at[0]) / 2 + turn[:, 1:] * (at[3] - at[2]) / 2
    elif shape == "polygon" and len(at) > 1:
        line = np.vstack([at, at[:1]])
    elif shape in ("polyline", "interpolated") and len(at) > 1:
        line = at
    else:
        anchor = at[-1]
        dots = () if shape == "text" else tuple((float(x), float(y)) for x, y in at)
        return Mark((), text, (float(anchor[0]), float(anchor[1])), dots)
    anchor = line[int(np.argmax(line[:, 0] - line[:, 1]))]
    return Mark((line,), text, (float(anchor[0]), float(anchor[1])))


def _unit_circle() -> NDArray[np.float64]:
    angle = np.linspace(0.0, 2 * np.pi, _CIRCLE_POINTS + 1)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def value_map(
    values: NDArray[np.float32],
    source: VolumeGeometry,
    target: VolumeGeometry,
    title: str,
    unit: str = "",
) -> ValueMap:
    """Bring real-world values onto the grid of the series on display.

    On the same grid they stay as they are, else they are interpolated linearly; NaN beyond the map. The scale runs from
    the smallest to the 99.9th percentile. Takes tenths of a second for a large series: not for the GUI thread.
    """
    same = target.same_grid_as(source, tolerance_mm=0.01 * min(target.spacing_ijk_mm))
    out = np.asarray(values, dtype=np.float32) if same else _resampled(values, source, target)
    known = out[np.isfinite(out)]
    if known.size > 400_000:
        known = known[:: known.size // 200_000]
    low, high = (float(known.min()), float(np.percentile(known, 99.9))) if known.size else (0.0, 1.0)
    if high <= low:
        high = low + (abs(low) or 1.0)
    out.flags.writeable = False
    return ValueMap(out, low, high, title, unit, not same)


def _resampled(
    values: NDArray[np.float32], source: VolumeGeometry, target: VolumeGeometry
) -> NDArray[np.float32]:
    # loaded on first use: a start needs none of it, and it takes a tenth of a second
    from scipy.ndimage import affine_transform

    matrix = source.ijk_from_lps @ target.lps_from_ijk
    flip = [2, 1, 0]
    out: NDArray[np.float32] = affine_transform(
        np.asarray(values, dtype=np.float32),
        matrix[:3, :3][np.ix_(flip, flip)],
        matrix[:3, 3][flip],
        output_shape=target.shape_kji,
        output=np.float32,
        order=1,
        mode="constant",
        cval=np.nan,
    )
    return out


def value_in_words(value: float, unit: str = "") -> str:
    """Return a value of a scale, short and with its unit."""
    number = f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{number} {unit}".strip().replace("-", "−")


def volumes_ml(
    labels: NDArray[np.integer], voxel_volume_ml: float, values: Iterable[int]
) -> Mapping[int, float]:
    """Return the volume of each label value in millilitres."""
    counts = np.bincount(labels.reshape(-1)) if labels.size else np.zeros(1, dtype=np.int64)
    return {v: float(counts[v]) * voxel_volume_ml if v < counts.size else 0.0 for v in values}
