"""Objects of an archive, made ready to be drawn over the open series. Free of Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.presenters.reading_state import (
    VALUE_STYLE,
    HeatLayer,
    LabelLayer,
    Legend,
    Line,
    LineLayer,
    MarkLayer,
    ReadingIntent,
)
from core.domain.segmentation import Segmentation
from core.render.heat import draw_values
from core.render.objects import Mark, PlanarContour, ValueMap, screen_points, value_in_words
from core.render.overlay import OverlayStyle
from core.render.palette import Rgb
from core.render.planes import PlaneGrid

MARK_COLOR = "accent_strong"


@dataclass(frozen=True, eq=False)
class ShownObject:
    """One object over the pictures. Everything lies on the grid of the open series.

    ``contours`` and ``marks`` are by slice k. ``outlines_native`` is False where exact contours take the place of the
    label maps on the acquired plane. ``revision`` grows whenever something of the object changes.
    """

    uid: str
    title: str
    revision: int = 0
    segmentations: tuple[Segmentation, ...] = ()
    outlines_native: bool = True
    contours: Mapping[int, tuple[PlanarContour, ...]] = field(default_factory=dict)
    values: ValueMap | None = None
    marks: Mapping[int, tuple[Mark, ...]] = field(default_factory=dict)
    colors: Mapping[int, Rgb] = field(default_factory=dict)
    hidden: frozenset[int] = frozenset()


def is_native(grid: PlaneGrid) -> bool:
    """Whether a plane shows the slices as they were acquired."""
    return grid.through.array_axis == 0


def overlays_of(
    objects: tuple[ShownObject, ...], grid: PlaneGrid, number: int, intent: ReadingIntent
) -> tuple[LabelLayer, ...]:
    """Return the label maps to draw on a picture, dashed: they aren't results of our models."""
    style = OverlayStyle(intent.overlay.fill, intent.overlay.opacity, intent.overlay.outline_px, dashed=True)
    found = []
    for shown in objects:
        if is_native(grid) and not shown.outlines_native:
            continue
        for place, segmentation in enumerate(shown.segmentations):
            key = ("object", shown.uid, shown.revision, place, grid.plane, number)
            found.append(
                LabelLayer(key, style, shown.hidden, shown.colors, _extract(grid, segmentation, number))
            )
    return tuple(found)


def _extract(grid: PlaneGrid, segmentation: Segmentation, number: int) -> Callable[[], NDArray[np.integer]]:
    return lambda: grid.extract(segmentation.labels, number)


def lines_of(objects: tuple[ShownObject, ...], grid: PlaneGrid, number: int) -> tuple[LineLayer, ...]:
    """Return the contours that lie on a picture of the acquired plane."""
    if not is_native(grid):
        return ()
    k, found = grid.array_index(number), []
    for shown in objects:
        here = tuple(c for c in shown.contours.get(k, ()) if c.value not in shown.hidden)
        if here:
            key = ("contours", shown.uid, shown.revision, shown.hidden, k)
            found.append(LineLayer(key, _draw_lines(shown, here, grid, k)))
    return tuple(found)


def _draw_lines(
    shown: ShownObject, here: tuple[PlanarContour, ...], grid: PlaneGrid, k: int
) -> Callable[[], tuple[Line, ...]]:
    def load() -> tuple[Line, ...]:
        return tuple(
            Line(shown.colors.get(c.value, (230, 159, 0)), screen_points(grid, c.points_ij, k), c.closed)
            for c in here
        )

    return load


def marks_of(objects: tuple[ShownObject, ...], grid: PlaneGrid, number: int) -> tuple[MarkLayer, ...]:
    """Return graphics and words that lie on a picture of the acquired plane."""
    if not is_native(grid):
        return ()
    k = grid.array_index(number)

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return screen_points(grid, points, k)

    return tuple(
        MarkLayer((shown.uid, shown.revision, k), MARK_COLOR, shown.marks[k], place)
        for shown in objects
        if shown.marks.get(k)
    )


def values_of(objects: tuple[ShownObject, ...], grid: PlaneGrid, number: int) -> HeatLayer | None:
    """Return the map of real-world values to draw: that of the object that was shown last."""
    for shown in reversed(objects):
        if shown.values is not None:
            return _value_layer(shown, shown.values, grid, number)
    return None


def _value_layer(shown: ShownObject, values: ValueMap, grid: PlaneGrid, number: int) -> HeatLayer:
    style = VALUE_STYLE
    legend = Legend(
        value_in_words(values.high, values.unit), "", value_in_words(values.low, values.unit), values.title
    )
    note = f"{values.title}{', interpolated' if values.interpolated else ''} · from the archive"

    def load() -> NDArray[np.uint32]:
        picture = np.ascontiguousarray(grid.extract(values.values, number))
        return draw_values(picture, values.low, values.high, style)

    return HeatLayer(("values", shown.uid, shown.revision, grid.plane, number), style, note, legend, load)
