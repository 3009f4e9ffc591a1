"""The frame of the reading area's view-model: intent in, differences out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from numpy.typing import NDArray

from app.presenters.mpr import cells_for, number_of
from app.presenters.reading_state import (
    LayoutState,
    Notice,
    ReadingIntent,
    ReadingView,
    SceneState,
    Slot,
    ViewportState,
)
from app.presenters.viewport import Loaded, resolve_scene, resolve_viewport
from core.domain.study import SeriesSummary
from core.domain.volume import Volume
from core.render.palette import Rgb
from core.render.presets import Preset, PresetGroup
from core.render.series import DisplaySeries

LOADING = "Loading…"
EMPTY = Notice("No study open", "Drop a study here or press Ctrl+O.")


class ReadingFrame:
    """Holds intent and content, resolves them and hands the view what differs."""

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
        self._words: Callable[[str], str] = str

    def attach(self, view: ReadingView) -> None:
        """Connect the view and show everything."""
        self._view = view
        self._shown_layout, self._shown_scene = None, None
        self._shown.clear()
        self._refresh()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the GUI thread after each change of intent or content."""
        self._listeners.append(listener)

    def show_words(self, words: Callable[[str], str]) -> None:
        """Show texts of the file as ``words`` makes them: names are masked while identity is hidden."""
        self._words = words
        if self._notice is not None and self._summary is not None and self._notice.title == LOADING:
            self._notice = Notice(LOADING, words(self._summary.description))
        self._refresh()

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

    @property
    def summary(self) -> SeriesSummary | None:
        """The series on display or on its way."""
        return self._summary

    @property
    def display(self) -> DisplaySeries | None:
        """Planes and pictures of what is displayed."""
        return self._loaded.series if self._loaded is not None else None

    @property
    def number(self) -> tuple[int, int]:
        """Picture of the active plane, from 0, and how many there are."""
        if self._loaded is None:
            return 0, 0
        grids = self._loaded.series.grids
        plane = self._intent.active.plane
        grid = grids[plane if plane in grids else self._loaded.series.native]
        return number_of(grid, self._intent.cursor_ijk), grid.count

    def _change(self, **wishes: object) -> None:
        changed = replace(self._intent, **wishes)  # type: ignore[arg-type]
        if changed != self._intent:
            self._intent = changed
            self._refresh()

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
                viewport = resolve_viewport(slot, self._loaded, self._intent, self._words)
                if viewport != self._shown.get(slot):
                    self._shown[slot] = viewport
                    view.show_viewport(slot, viewport)

    def _show_scene(self, view: ReadingView) -> None:
        scene = resolve_scene(self._loaded, self._intent)
        if scene != self._shown_scene:
            self._shown_scene = scene
            view.show_scene(scene)
