"""From the reader's intent and what is loaded to what one viewport shows. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from app.presenters.mpr import crosshair_in, number_of
from app.presenters.reading_state import (
    Gap,
    HeatLayer,
    LabelLayer,
    Legend,
    MarkLayer,
    Notice,
    PictureLayer,
    ReadingIntent,
    SceneState,
    Slot,
    ViewportState,
)
from app.presenters.shown_objects import (
    ShownObject,
    is_native,
    lines_of,
    marks_of,
    overlays_of,
    values_of,
)
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation
from core.render.annotations import Badge, badges, corner_texts, heat_note, is_uncalibrated, slice_kind
from core.render.grey import is_colour, window_picture
from core.render.heat import draw_heat
from core.render.overlay import OverlayStyle
from core.render.palette import Rgb
from core.render.planes import Plane, PlaneGrid
from core.render.scene_presets import SEGMENTS_ONLY, default_preset, presets_of
from core.render.series import DisplaySeries


def room_for(geometry: VolumeGeometry, pixels: NDArray) -> NDArray:
    """Return a stack for a series that is still loading, black wherever no slice has arrived.

    Touching that much memory for the first time takes 50 ms and more: not on the GUI thread.
    """
    lowest = np.iinfo(pixels.dtype).min if pixels.dtype.kind in "iu" else 0
    return np.full(geometry.shape_kji + pixels.shape[2:], lowest, dtype=pixels.dtype)


@dataclass(frozen=True, eq=False)
class Arrival:
    """Which slices of a series that is still loading have come; the array is shared with the loader's side."""

    received: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of slices that have come."""
        return int(self.received.sum())

    @property
    def complete(self) -> bool:
        """Whether all have come."""
        return bool(self.received.all())


@dataclass(frozen=True, eq=False)
class Loaded:
    """Everything that can be shown at the moment.

    ``revision`` grows whenever pixels change under the same series. ``result_fault`` is the reason why a
    result must not be trusted (drawn hatched); ``result_refused`` why it is not drawn at all.
    """

    series: DisplaySeries
    generation: int
    revision: int = 0
    arrival: Arrival | None = None
    segmentation: Segmentation | None = None
    colors: Mapping[int, Rgb] = field(default_factory=dict)
    layer_revision: int = 0
    result_fault: str = ""
    result_refused: str = ""
    explanation: Explanation | None = None
    objects: tuple[ShownObject, ...] = ()
    view: str = ""
    dimension: str = ""


def resolve_viewport(
    slot: Slot, loaded: Loaded, intent: ReadingIntent, words: Callable[[str], str] = str
) -> ViewportState:
    """Work out what a plane's viewport shows; ``words`` makes of texts of the file what may be shown."""
    series, plane = loaded.series, slot.plane
    if plane is None or plane not in series.grids:
        return ViewportState(slot, notice=Notice("This series can't be cut in this plane."))
    grid = series.grids[plane]
    number = number_of(grid, intent.cursor_ijk)
    missing = _missing(loaded, grid, number)
    inverted = intent.inverted != series.volume.inverted
    window = None if is_colour(series.volume) else intent.window
    layers_shown = missing is None and not (intent.ai_hidden or intent.held)
    objects = () if missing or intent.objects_hidden or intent.held else loaded.objects
    return ViewportState(
        slot=slot,
        grid=grid,
        number=number,
        picture=None if missing else _picture(loaded, plane, number, intent, inverted),
        labels=_labels(loaded, plane, number, intent) if layers_shown else None,
        heat=_heat(loaded, plane, number, intent) if layers_shown and not intent.blink_dark else None,
        crosshair=crosshair_in(series, plane, intent.cursor_ijk)
        if intent.crosshair and not missing and _linked(intent)
        else None,
        camera=intent.camera(slot),
        corners=corner_texts(
            series.volume,
            grid,
            number,
            window,
            intent.inverted,
            loaded.view,
            loaded.dimension,
            words(series.volume.description),
        ),
        badges=_badges(loaded, intent, grid, number, words),
        notice=missing,
        active=intent.active is slot,
        annotated=intent.texts,
        calibrated=not is_uncalibrated(series.volume),
        tool=intent.tool,
        values=_values_worded(values_of(objects, grid, number), words),
        overlays=overlays_of(objects, grid, number, intent),
        lines=lines_of(objects, grid, number),
        marks=tuple(_marks_worded(layer, words) for layer in marks_of(objects, grid, number)),
        gaps=_gaps(loaded, grid, number),
    )


def resolve_scene(loaded: Loaded | None, intent: ReadingIntent) -> SceneState:
    """Work out what the 3-D view shows."""
    if loaded is None:
        return SceneState()
    waiting = loaded.arrival is not None and not loaded.arrival.complete
    fault = loaded.result_fault or loaded.result_refused
    segmentation = None if loaded.result_refused else loaded.segmentation
    shown = segmentation is not None and not (intent.ai_hidden or intent.held)
    return SceneState(
        key=(
            loaded.generation,
            loaded.revision if not waiting else -1,
            loaded.layer_revision,
            loaded.series.volume.time_point,
        ),
        wanted=intent.scene_wanted and not waiting,
        active=intent.active is Slot.SCENE,
        preset=_scene_preset(loaded, intent, shown),
        hidden=intent.hidden_segments,
        show_segments=shown,
        notice=Notice(
            "3-D follows when the series is complete." if waiting else "",
            f"Segments failed a check: {fault}" if fault and shown else "",
        ),
        volume=loaded.series.volume,
        segmentation=segmentation,
        colors=loaded.colors,
    )


def _scene_preset(loaded: Loaded, intent: ReadingIntent, segments_shown: bool) -> str:
    """The chosen preset if it suits the series, else segments where there are any, else the usual one."""
    volume = loaded.series.volume
    if intent.scene_preset == SEGMENTS_ONLY and segments_shown:
        return SEGMENTS_ONLY
    if intent.scene_preset in {p.id for p in presets_of(volume)}:
        return intent.scene_preset
    return SEGMENTS_ONLY if segments_shown else default_preset(volume)


def _values_worded(layer: HeatLayer | None, words: Callable[[str], str]) -> HeatLayer | None:
    if layer is None:
        return None
    legend = replace(layer.legend, title=words(layer.legend.title))
    return replace(layer, note=words(layer.note), legend=legend)


def _marks_worded(layer: MarkLayer, words: Callable[[str], str]) -> MarkLayer:
    """Return a layer whose texts may be shown; the key holds them, so that it is drawn anew when they change."""
    marks = tuple(replace(mark, text=words(mark.text)) if mark.text else mark for mark in layer.marks)
    return replace(layer, key=(layer.key, tuple(mark.text for mark in marks)), marks=marks)


def _linked(intent: ReadingIntent) -> bool:
    return intent.layout.value != "stack"


def _missing(loaded: Loaded, grid: PlaneGrid, number: int) -> Notice | None:
    arrival = loaded.arrival
    if arrival is None or arrival.complete:
        return _never_acquired(loaded, grid, number)
    total = arrival.received.size
    if grid.through.array_axis == 0:
        if arrival.received[grid.array_index(number)]:
            return None
        return Notice("Loading this slice…", f"{arrival.count} of {total} slices have arrived.")
    # Cuts across the stack are drawn while they fill; the badge says that they are not complete.
    return None if arrival.count else Notice("Loading…", f"0 of {total} slices have arrived.")


def _never_acquired(loaded: Loaded, grid: PlaneGrid, number: int) -> Notice | None:
    missing = loaded.series.volume.missing_slices
    if not missing or not is_native(grid) or grid.array_index(number) not in missing:
        return None
    count = len(missing)
    return Notice(
        "Slice missing",
        f"It was never found. {count} of {grid.count} slices of this series {'is' if count == 1 else 'are'} missing.",
        "Import the complete series, or rely on the neighbouring slices.",
        "caution",
    )


def _gaps(loaded: Loaded, grid: PlaneGrid, number: int) -> tuple[Gap, ...]:
    """What to hatch: a whole picture that is missing, or the lines of a cut that missing slices leave."""
    missing = loaded.series.volume.missing_slices
    if not missing:
        return ()
    if is_native(grid):
        whole = (Gap(0, 0, grid.columns, grid.rows),)
        return whole if grid.array_index(number) in missing else ()
    if grid.down.array_axis == 0:
        return tuple(Gap(0, round(grid.down.to_index(k)), grid.columns, 1) for k in missing)
    return tuple(Gap(round(grid.across.to_index(k)), 0, 1, grid.rows) for k in missing)


def _badges(
    loaded: Loaded, intent: ReadingIntent, grid: PlaneGrid, number: int, words: Callable[[str], str]
) -> tuple[Badge, ...]:
    volume = loaded.series.volume
    found = list(badges(volume))
    if is_native(grid) and slice_kind(volume, grid.array_index(number)) == "interpolated":
        found.append(Badge("interpolated", "This slice was calculated from its acquired neighbours."))
    if volume.missing_slices and not is_native(grid):
        found.append(Badge("slices missing", "The hatched lines were never acquired."))
    if not loaded.series.flat and grid.count > 1 and loaded.series.single_plane_reason:
        found.append(Badge("one plane only", loaded.series.single_plane_reason))
    if volume.time_point and loaded.segmentation is not None and not intent.ai_hidden:
        found.append(Badge("AI result of t 1", "Models ran on the first time point; this is another one."))
    if loaded.objects:
        hidden = intent.objects_hidden or intent.held
        names = ", ".join(words(shown.title) for shown in loaded.objects)
        title = "archive objects hidden" if hidden else "with archive objects"
        found.append(Badge(title, f"Made by others, not by a model of this program: {names}.", "quiet"))
    arrival = loaded.arrival
    if arrival is not None and not arrival.complete:
        found.append(
            Badge(
                f"loading {arrival.count}/{arrival.received.size}", "The series is still arriving.", "quiet"
            )
        )
    if loaded.result_refused:
        found.append(Badge("AI result not shown", loaded.result_refused))
    elif loaded.result_fault and loaded.segmentation is not None and not intent.ai_hidden:
        found.append(Badge("AI result unchecked", loaded.result_fault))
    if intent.ai_hidden and (loaded.segmentation is not None or loaded.explanation is not None):
        found.append(Badge("AI hidden", "Results of models are hidden.", "quiet"))
    return tuple(found)


def _picture(
    loaded: Loaded, plane: Plane, number: int, intent: ReadingIntent, inverted: bool
) -> PictureLayer:
    series, window = loaded.series, intent.window
    time = series.volume.time_point
    key = (loaded.generation, loaded.revision, time, plane, number, window, inverted)
    return PictureLayer(key, lambda: window_picture(series.values(plane, number), window, inverted))


def _labels(loaded: Loaded, plane: Plane, number: int, intent: ReadingIntent) -> LabelLayer | None:
    segmentation = loaded.segmentation
    if segmentation is None or loaded.result_refused:
        return None
    style = intent.overlay
    if loaded.result_fault:
        style = OverlayStyle(style.fill, style.opacity, style.outline_px, hatched=True)
    grid = loaded.series.grids[plane]
    key = (loaded.generation, loaded.layer_revision, plane, number)
    return LabelLayer(
        key, style, intent.hidden_segments, loaded.colors, lambda: grid.extract(segmentation.labels, number)
    )


def _heat(loaded: Loaded, plane: Plane, number: int, intent: ReadingIntent) -> HeatLayer | None:
    explanation = loaded.explanation
    if explanation is None:
        return None
    grid, style = loaded.series.grids[plane], intent.heat
    key = (loaded.generation, loaded.layer_revision, plane, number, style)
    return HeatLayer(
        key,
        style,
        heat_note(explanation),
        Legend("1", f"{style.threshold:.2g}", "0"),
        lambda: draw_heat(np.ascontiguousarray(grid.extract(explanation.heat, number)), style),
    )
