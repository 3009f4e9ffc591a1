"""Moving through a series: pictures, windows, cameras, layouts. Each method is one intention of the reader."""

from __future__ import annotations

import math

from app.presenters.mpr import clipped, moved_through, moved_within, number_of
from app.presenters.reading_frame import ReadingFrame
from app.presenters.reading_state import (
    Layout,
    Slot,
    Tool,
)
from core.domain.window import Window
from core.render.annotations import value_text
from core.render.grey import automatic_window, is_colour
from core.render.placement import Camera, zoom_about
from core.render.presets import INVERTED_AT_FIRST, initial_window
from core.render.scene_presets import SEGMENTS_ONLY, presets_of

#: A vertical drag of this many pixels moves the level by one window width; a horizontal one by e doubles it.
WINDOW_DRAG_PX = 300.0
ZOOM_DRAG_PX = 200.0


class ReadingNavigation(ReadingFrame):
    """What mouse and keys ask of the viewports."""

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

    def file_windows(self) -> tuple[Window, ...]:
        """Windows that the files of the series bring."""
        return self._loaded.series.volume.windows if self._loaded is not None else ()

    def next_file_window(self) -> None:
        """Apply the next window that the files bring, the first one again after the last."""
        windows = self.file_windows()
        if not windows:
            return
        now = self._intent.window
        place = windows.index(now) + 1 if now in windows else 0
        self._choose_window(windows[place % len(windows)])

    def drag_window(self, dx: float, dy: float) -> None:
        """Widen with a drag to the right, raise the level (darken) with a drag down; pixels."""
        old = self._intent.window
        floor = 1e-6 if self._loaded and self._loaded.series.volume.voxels.dtype.kind == "f" else 1.0
        width = max(floor, old.width * math.exp(dx / WINDOW_DRAG_PX))
        self._choose_window(Window(old.center + dy * old.width / WINDOW_DRAG_PX, width))

    def invert(self) -> None:
        """Swap black and white."""
        self._change(inverted=not self._intent.inverted)

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
        inverted = self._loaded is not None and self._loaded.series.volume.modality in INVERTED_AT_FIRST
        self._change(cameras=(), inverted=inverted, window=window)

    def single_plane_reason(self) -> str:
        """Why the open series can be shown in one plane only; empty when it can be cut."""
        return self._loaded.series.single_plane_reason if self._loaded is not None else ""

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
        self.set_texts(not self._intent.texts)

    def set_texts(self, shown: bool) -> None:
        """Show the corner texts or not."""
        self._change(texts=shown)

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
