"""The reading area: what the hands ask for, and what the viewports then show.

Free of Qt; lives on the GUI thread. Each intention changes the frozen ``ReadingIntent``; ``_refresh``
resolves it against what is loaded and hands the view only the states that differ from the last ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.presenters.mpr import cells_for, clipped, moved_through, moved_within, number_of
from app.presenters.reading_state import (
    Layout,
    LayoutState,
    Notice,
    ReadingIntent,
    ReadingView,
    SceneState,
    Slot,
    Tool,
    ViewportState,
)
from app.presenters.viewport import Arrival, Loaded, resolve_scene, resolve_viewport
from core.domain.errors import SafetyError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation
from core.domain.study import SeriesSummary
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.annotations import value_text
from core.render.grey import automatic_window, is_colour
from core.render.heat import HeatColors, HeatStyle
from core.render.palette import Rgb, safe_colors
from core.render.placement import Camera, zoom_about
from core.render.presets import Preset, PresetGroup, initial_window, presets_for
from core.render.scene_presets import SEGMENTS_ONLY, presets_of
from core.render.series import DisplaySeries, require_same_grid

EMPTY = Notice("No study open", "Drop a study here or press Ctrl+O.")

#: A vertical drag of this many pixels moves the level by one window width; a horizontal one by e doubles it.
WINDOW_DRAG_PX = 300.0
ZOOM_DRAG_PX = 200.0
ARRIVALS_PER_PICTURE = 8


class ReadingPresenter:
    """View-model of the reading area.

    Every method belongs to the GUI thread. Answers that arrive late carry the generation of the series
    they were asked for and are dropped when another is displayed.
    """

    def __init__(self) -> None:
        self._view: ReadingView | None = None
        self._intent = ReadingIntent()
        self._loaded: Loaded | None = None
        self._summary: SeriesSummary | None = None
        self._generation = 0
        self._buffer: NDArray | None = None
        self._notice: Notice | None = EMPTY
        self._shown_layout: LayoutState | None = None
        self._shown: dict[Slot, ViewportState] = {}
        self._shown_scene: SceneState | None = None
        self._listeners: list[Callable[[], None]] = []
        self._preset_group: PresetGroup | None = None
        self._window_chosen = False

    # -- wiring ------------------------------------------------------------------------------------

    def attach(self, view: ReadingView) -> None:
        """Connect the view and show everything."""
        self._view = view
        self._shown_layout, self._shown_scene = None, None
        self._shown.clear()
        self._refresh()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the GUI thread after each change of intent or content."""
        self._listeners.append(listener)

    @property
    def intent(self) -> ReadingIntent:
        """The reader's present wishes."""
        return self._intent

    @property
    def volume(self) -> Volume | None:
        """The displayed volume, once it is complete."""
        if self._loaded is None or (self._loaded.arrival is not None and not self._loaded.arrival.complete):
            return None
        return self._loaded.series.volume

    @property
    def generation(self) -> int:
        """Generation of the series on display."""
        return self._generation

    @property
    def segment_colors(self) -> dict[int, Rgb]:
        """Colours in which the segments are drawn, for lists that must match."""
        return dict(self._loaded.colors) if self._loaded else {}

    @property
    def presets(self) -> tuple[Preset, ...]:
        """Window presets on the number keys for the displayed series."""
        return self._preset_group.presets if self._preset_group else ()

    @property
    def cursor_lps_mm(self) -> tuple[float, float, float] | None:
        """Where the planes meet, in the patient."""
        if self._loaded is None:
            return None
        x, y, z = self._loaded.series.volume.geometry.lps_of([self._intent.cursor_ijk])[0]
        return float(x), float(y), float(z)

    # -- content -----------------------------------------------------------------------------------

    def begin_series(self, summary: SeriesSummary, generation: int) -> None:
        """Make room for a series: the old picture goes at once, so that nothing stale stays on screen."""
        self._generation, self._summary = generation, summary
        self._loaded, self._buffer, self._preset_group = None, None, None
        self._window_chosen = False
        self._notice = Notice("Loading…", summary.description)
        self._intent = replace(
            self._intent, maximised=None, cameras=(), inverted=False, hidden_segments=frozenset(), blink=False
        )
        self._refresh()

    def show_slice(self, generation: int, k: int, geometry: VolumeGeometry, pixels: NDArray) -> None:
        """Show one slice of a series that is still loading.

        Parameters
        ----------
        k : int
            Index along the first array axis.
        pixels : numpy.ndarray
            ``(J, I)`` or ``(J, I, 3)``; copied.
        """
        if generation != self._generation or self._summary is None or self.volume is not None:
            return
        if self._buffer is None:
            self._start_buffer(geometry, pixels)
        if self._buffer is None or self._loaded is None or self._loaded.arrival is None:
            return
        self._buffer[k] = pixels
        self._loaded.arrival.received[k] = True
        count = self._loaded.arrival.count
        if k != self._intent.cursor_ijk[2] and count % ARRIVALS_PER_PICTURE and not self._loaded.arrival.complete:
            return
        # Cuts across the stack change with every slice: a picture for every eighth is smooth enough, and
        # leaves the decoding threads their time.
        self._loaded = replace(self._loaded, revision=-1 - count)
        self._refresh()

    def show_volume(self, volume: Volume, generation: int | None = None) -> None:
        """Show a complete volume; dropped when another series has been chosen meanwhile."""
        if generation is not None and generation != self._generation:
            return
        if self._summary is not None and volume.series_uid != self._summary.series_uid:
            return
        partial = self._loaded
        series = DisplaySeries(volume)
        self._loaded = Loaded(series, self._generation)
        self._buffer, self._notice = None, None
        if partial is None or partial.series.volume.geometry.shape_kji != volume.geometry.shape_kji:
            self._open(series)
        elif not is_colour(volume) and not self._window_chosen:
            self._intent = replace(self._intent, window=initial_window(volume))
        self._preset_group = presets_for(volume.modality, volume.body_part, volume.units)
        self._refresh()

    def fail(self, title: str, detail: str = "", remedy: str = "", generation: int | None = None) -> None:
        """Show nothing but the reason why the series can't be shown."""
        if generation is not None and generation != self._generation:
            return
        self._loaded, self._buffer = None, None
        self._notice = Notice(title, detail, remedy, "danger")
        self._refresh()

    def clear(self, reason: str = "") -> None:
        """Show no series; ``reason`` says why, else the empty state says what to do next."""
        self._loaded, self._summary, self._buffer = None, None, None
        self._notice = Notice(reason, "Choose a series in the worklist.", tone="caution") if reason else EMPTY
        self._refresh()

    def set_segmentation(self, segmentation: Segmentation | None, fault: str = "") -> None:
        """Lay segments over the series, or take them away.

        ``fault`` is the reason why the result is drawn hatched (still arriving, failed a check). A result
        on another grid is never drawn; a badge says why.
        """
        if self._loaded is None:
            return
        refused = ""
        if segmentation is not None:
            refused = self._grid_fault(segmentation.geometry, "segmentation")
        self._loaded = replace(
            self._loaded,
            segmentation=segmentation,
            colors=safe_colors(segmentation.segments) if segmentation else {},
            layer_revision=self._loaded.layer_revision + 1,
            result_fault=fault,
            result_refused=refused,
        )
        self._refresh()

    def set_heatmap(self, explanation: Explanation | None) -> None:
        """Lay a heat map over the series, or take it away. One on another grid is refused with a badge."""
        if self._loaded is None:
            return
        refused = self._grid_fault(explanation.geometry, "heat map") if explanation is not None else ""
        self._loaded = replace(
            self._loaded,
            explanation=None if refused else explanation,
            layer_revision=self._loaded.layer_revision + 1,
            result_refused=refused
            or ("" if self._loaded.segmentation is None else self._loaded.result_refused),
        )
        if explanation is None:
            self.blink(False)
        self._refresh()

    # -- navigation --------------------------------------------------------------------------------

    def scroll(self, steps: int, slot: Slot | None = None) -> None:
        """Go ``steps`` pictures on (head to feet, front to back, right to left) in a slot or the active one."""
        where = self._grid_slot(slot)
        if where is None or self._loaded is None:
            return
        grid = self._loaded.series.grids[where.plane]  # type: ignore[index]
        number = number_of(grid, self._intent.cursor_ijk) + steps
        self._change(cursor_ijk=moved_through(grid, self._intent.cursor_ijk, number))

    def go_to_number(self, number: int, slot: Slot | None = None) -> None:
        """Go to a picture, counted from 0."""
        where = self._grid_slot(slot)
        if where is None or self._loaded is None:
            return
        grid = self._loaded.series.grids[where.plane]  # type: ignore[index]
        self._change(cursor_ijk=moved_through(grid, self._intent.cursor_ijk, number))

    def first(self) -> None:
        """Go to the first picture."""
        self.go_to_number(0)

    def last(self) -> None:
        """Go to the last picture."""
        self.go_to_number(1 << 30)

    def point_at(self, slot: Slot, column: float, row: float) -> None:
        """Let the planes meet at a position of a slot's picture."""
        if self._loaded is None or slot.plane not in self._loaded.series.grids:
            return
        grid = self._loaded.series.grids[slot.plane]
        self._change(cursor_ijk=moved_within(grid, self._intent.cursor_ijk, column, row), active=slot)

    def jump_to(self, lps_mm: tuple[float, float, float]) -> None:
        """Let the planes meet at a point of the patient; the nearest voxel when it lies outside."""
        if self._loaded is None:
            return
        i, j, k = self._loaded.series.volume.geometry.ijk_of([lps_mm])[0]
        cursor = clipped(self._loaded.series, (float(i), float(j), float(k)))
        self._change(cursor_ijk=cursor, cameras=self._with_cursor_visible())

    def hover(self, slot: Slot, column: float, row: float) -> None:
        """Show the value under the cursor; positions outside the picture clear it."""
        if self._view is None:
            return
        self._view.show_readout(slot, self._readout(slot, column, row))

    def leave(self, slot: Slot) -> None:
        """Clear the value under the cursor."""
        if self._view is not None:
            self._view.show_readout(slot, "")

    # -- window ------------------------------------------------------------------------------------

    def set_window(self, window: Window) -> None:
        """Show grey values through a window."""
        self._choose_window(window)

    def preset(self, key: int) -> None:
        """Apply the preset on a digit; 0 chooses a window from the displayed picture."""
        if key == 0:
            self.auto_window()
            return
        preset = self._preset_group.preset(key) if self._preset_group else None
        if preset is not None and self._loaded is not None:
            self._choose_window(preset.window_for(self._loaded.series.volume))

    def auto_window(self) -> None:
        """Choose a window that holds nearly all values of the active picture."""
        where = self._grid_slot(None)
        if (
            where is None
            or self._loaded is None
            or where.plane is None
            or is_colour(self._loaded.series.volume)
        ):
            return
        series = self._loaded.series
        number = number_of(series.grids[where.plane], self._intent.cursor_ijk)
        self._choose_window(automatic_window(series.values(where.plane, number), series.volume.units))

    def drag_window(self, dx: float, dy: float) -> None:
        """Widen with a drag to the right, raise the level (darken) with a drag down; pixels."""
        old = self._intent.window
        floor = 1e-6 if self._loaded and self._loaded.series.volume.voxels.dtype.kind == "f" else 1.0
        width = max(floor, old.width * math.exp(dx / WINDOW_DRAG_PX))
        self._choose_window(Window(old.center + dy * old.width / WINDOW_DRAG_PX, width))

    def invert(self) -> None:
        """Swap black and white."""
        self._change(inverted=not self._intent.inverted)

    # -- cameras and layout ------------------------------------------------------------------------

    def zoom(self, slot: Slot, factor: float, size: tuple[int, int], at: tuple[float, float]) -> None:
        """Zoom a slot of ``size`` (width, height) by a factor about a viewport position."""
        if self._loaded is None or slot.plane not in self._loaded.series.grids:
            return
        grid = self._loaded.series.grids[slot.plane]
        self._set_camera(slot, zoom_about(self._intent.camera(slot), grid, size, at, factor))

    def drag_zoom(self, slot: Slot, dy: float, size: tuple[int, int], at: tuple[float, float]) -> None:
        """Zoom by a drag of ``dy`` pixels about where it began; up enlarges."""
        self.zoom(slot, math.exp(-dy / ZOOM_DRAG_PX), size, at)

    def pan(self, slot: Slot, dx: float, dy: float, size: tuple[int, int]) -> None:
        """Shift a slot's picture by pixels."""
        old = self._intent.camera(slot)
        moved = Camera(old.zoom, old.pan_x + dx / max(size[0], 1), old.pan_y + dy / max(size[1], 1))
        self._set_camera(slot, moved)

    def fit(self) -> None:
        """Show the whole picture in every viewport."""
        self._change(cameras=())

    def reset(self) -> None:
        """Undo zoom, pan, inversion and window."""
        window = self._intent.window
        if self._loaded is not None and not is_colour(self._loaded.series.volume):
            window = initial_window(self._loaded.series.volume)
        self._change(cameras=(), inverted=False, window=window)

    def set_layout(self, layout: str) -> None:
        """Arrange the viewports: ``"mpr"``, ``"stack"``, ``"3d"`` or ``"2x2"``."""
        chosen = Layout(layout)
        wanted = self._intent.scene_wanted or chosen is Layout.SCENE
        self._change(layout=chosen, maximised=None, scene_wanted=wanted)

    def maximise(self, slot: Slot) -> None:
        """Let a slot fill the area, or restore the layout."""
        self._change(maximised=None if self._intent.maximised is slot else slot, active=slot)

    def activate(self, slot: Slot) -> None:
        """Make a slot the one that keys act on."""
        self._change(active=slot)

    def next_viewport(self, step: int = 1) -> None:
        """Make the next slot of the layout active."""
        if self._shown_layout is None or not self._shown_layout.cells:
            return
        slots = [cell.slot for cell in self._shown_layout.cells]
        at = slots.index(self._intent.active) if self._intent.active in slots else -1
        self._change(active=slots[(at + step) % len(slots)])

    def toggle_texts(self) -> None:
        """Hide or show the corner texts."""
        self._change(texts=not self._intent.texts)

    def toggle_crosshair(self) -> None:
        """Give the left button to the crosshair, or back to the window."""
        tool = Tool.WINDOW if self._intent.tool is Tool.CROSSHAIR else Tool.CROSSHAIR
        self._change(tool=tool)

    def show_crosshair(self, visible: bool) -> None:
        """Draw the crosshair lines, or don't."""
        self._change(crosshair=visible)

    def want_scene(self, preset: str | None = None) -> None:
        """Build the 3-D view, with a preset of ``core.render.scene``."""
        chosen = self._intent.scene_preset if preset is None else preset
        self._change(scene_wanted=True, scene_preset=chosen)

    def scene_presets(self) -> tuple[tuple[str, str], ...]:
        """Identifier and title of each way to show the series in 3-D."""
        if self._loaded is None:
            return ()
        found = [(p.id, p.title) for p in presets_of(self._loaded.series.volume)]
        if self._loaded.segmentation is not None and not self._loaded.result_refused:
            found.insert(0, (SEGMENTS_ONLY, "Segments"))
        return tuple(found)

    # -- overlays ----------------------------------------------------------------------------------

    def toggle_ai(self) -> None:
        """Hide or show everything that models produced."""
        self._change(ai_hidden=not self._intent.ai_hidden)

    def hold_overlays(self, hidden: bool) -> None:
        """Hide overlays while a key is held."""
        self._change(held=hidden)

    def set_overlay_style(self, fill: bool, opacity: float) -> None:
        """Draw segments as outlines, or filled with an opacity of 0…1 too."""
        style = replace(self._intent.overlay, fill=fill, opacity=min(max(opacity, 0.0), 1.0))
        self._change(overlay=style)

    def set_heat_style(self, opacity: float, threshold: float, colors: str = "inferno") -> None:
        """Set the heat map's opacity and the value (0…1) below which it is clear."""
        style = HeatStyle(min(max(opacity, 0.0), 1.0), min(max(threshold, 0.0), 1.0), HeatColors(colors))
        self._change(heat=style)

    def set_segment_visible(self, value: int, visible: bool) -> None:
        """Show or hide one segment."""
        hidden = self._intent.hidden_segments
        self._change(hidden_segments=hidden - {value} if visible else hidden | {value})

    def blink(self, active: bool) -> None:
        """Let the heat map blink, so that what lies under it is seen."""
        if active != self._intent.blink:
            self._change(blink=active, blink_dark=False)
            if self._view is not None:
                self._view.set_blinking(active)

    def blink_tick(self) -> None:
        """Half a period of the blinking is over."""
        if self._intent.blink:
            self._change(blink_dark=not self._intent.blink_dark)

    # -- inside ------------------------------------------------------------------------------------

    def _change(self, **wishes: object) -> None:
        changed = replace(self._intent, **wishes)  # type: ignore[arg-type]
        if changed != self._intent:
            self._intent = changed
            self._refresh()

    def _choose_window(self, window: Window) -> None:
        self._window_chosen = True
        self._change(window=window)

    def _set_camera(self, slot: Slot, camera: Camera) -> None:
        others = {s: c for s, c in self._intent.cameras if s is not slot}
        self._change(cameras=(*others.items(), (slot, camera)))

    def _with_cursor_visible(self) -> tuple[tuple[Slot, Camera], ...]:
        """Cameras after a jump: zoomed viewports go back to the whole picture, where the cursor is seen."""
        return tuple((s, c) for s, c in self._intent.cameras if c.zoom <= 1.0 and not (c.pan_x or c.pan_y))

    def _grid_slot(self, slot: Slot | None) -> Slot | None:
        """The slot that a navigation key means: the given, else the active, else the stack's plane."""
        if self._loaded is None:
            return None
        grids = self._loaded.series.grids
        wanted = slot or self._intent.active
        if wanted.plane in grids:
            return wanted
        return Slot(self._loaded.series.native.value)

    def _readout(self, slot: Slot, column: float, row: float) -> str:
        if self._loaded is None or slot.plane not in self._loaded.series.grids:
            return ""
        state = self._shown.get(slot)
        if state is None or state.picture is None or state.grid is None:
            return ""
        i, j, k = state.grid.ijk_of(round(column), round(row), state.number)
        value = self._loaded.series.value_at((round(i), round(j), round(k)))
        if value is None or not (
            0 <= round(column) < state.grid.columns and 0 <= round(row) < state.grid.rows
        ):
            return ""
        text = value_text(self._loaded.series.volume, value)
        segment = self._segment_at((round(i), round(j), round(k)))
        return f"{text}  {segment}" if segment else text

    def _segment_at(self, ijk: tuple[int, int, int]) -> str:
        loaded = self._loaded
        if loaded is None or loaded.segmentation is None or loaded.result_refused or self._intent.ai_hidden:
            return ""
        value = int(loaded.segmentation.labels[ijk[2], ijk[1], ijk[0]])
        names = {s.value: s.label for s in loaded.segmentation.segments}
        return names.get(value, "") if value and value not in self._intent.hidden_segments else ""

    def _grid_fault(self, geometry: VolumeGeometry, what: str) -> str:
        if self._loaded is None:
            return ""
        try:
            require_same_grid(self._loaded.series.volume.geometry, geometry, what)
        except SafetyError as error:
            return f"{error.user_message} {error.remedy}"
        return ""

    def _start_buffer(self, geometry: VolumeGeometry, pixels: NDArray) -> None:
        summary = self._summary
        if summary is None:
            return
        shape = geometry.shape_kji + pixels.shape[2:]
        lowest = np.iinfo(pixels.dtype).min if pixels.dtype.kind in "iu" else 0
        self._buffer = np.full(shape, lowest, dtype=pixels.dtype)
        volume = Volume(
            geometry,
            self._buffer.view(),
            modality=summary.modality,
            series_uid=summary.series_uid,
            study_uid=summary.study_uid,
            units="HU" if summary.modality == "CT" else "stored",
            body_part=summary.body_part,
            description=summary.description,
            issues=summary.issues,
            lossy=summary.lossy,
        )
        series = DisplaySeries(volume)
        arrival = Arrival(np.zeros(geometry.shape_kji[0], dtype=np.bool_))
        self._loaded = Loaded(series, self._generation, revision=-1, arrival=arrival)
        self._notice = None
        self._open(series, sample=pixels)
        self._preset_group = presets_for(volume.modality, volume.body_part, volume.units)

    def _open(self, series: DisplaySeries, sample: NDArray | None = None) -> None:
        """Intent for a newly opened series: the middle, its own window, a slot that exists."""
        window = self._intent.window
        volume = series.volume
        if sample is not None and volume.units != "HU":
            window = automatic_window(sample, volume.units)
        elif not is_colour(volume):
            window = initial_window(volume)
        active = self._intent.active
        if active.plane not in series.grids:
            active = Slot(series.native.value)
        self._intent = replace(self._intent, cursor_ijk=series.center_ijk(), window=window, active=active)

    def _refresh(self) -> None:
        """Hand the view every state that differs from what it shows."""
        if self._view is not None:
            self._show_layout(self._view)
            self._show_slots(self._view)
        for listener in self._listeners:
            listener()

    def _show_layout(self, view: ReadingView) -> None:
        if self._loaded is None:
            state = LayoutState(self._intent.layout, (), self._notice)
        else:
            cells = cells_for(self._intent.layout, self._loaded.series, self._intent.maximised)
            state = LayoutState(self._intent.layout, cells)
        if state != self._shown_layout:
            self._shown_layout = state
            view.show_layout(state)

    def _show_slots(self, view: ReadingView) -> None:
        slots = [cell.slot for cell in self._shown_layout.cells] if self._shown_layout else []
        for slot in [s for s in self._shown if s not in slots]:
            del self._shown[slot]
        for slot in slots:
            if slot is Slot.SCENE:
                self._show_scene(view)
            elif self._loaded is not None:
                viewport = resolve_viewport(slot, self._loaded, self._intent)
                if viewport != self._shown.get(slot):
                    self._shown[slot] = viewport
                    view.show_viewport(slot, viewport)

    def _show_scene(self, view: ReadingView) -> None:
        scene = resolve_scene(self._loaded, self._intent)
        if scene != self._shown_scene:
            self._shown_scene = scene
            view.show_scene(scene)
