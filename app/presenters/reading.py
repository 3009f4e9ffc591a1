"""The reading area: what the hands ask for, and what the viewports then show.

Free of Qt; lives on the GUI thread. Each intention changes the frozen ``ReadingIntent``; ``_refresh``
resolves it against what is loaded and hands the view only the states that differ from the last ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.presenters.reading_frame import EMPTY, LOADING
from app.presenters.reading_objects import ReadingObjects
from app.presenters.reading_state import (
    Notice,
    Slot,
)
from app.presenters.viewport import Arrival, Loaded, room_for
from core.domain.errors import SafetyError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation
from core.domain.study import SeriesSummary
from core.domain.volume import Volume
from core.render.grey import automatic_window, is_colour
from core.render.heat import HeatColors, HeatStyle
from core.render.palette import safe_colors
from core.render.presets import INVERTED_AT_FIRST, initial_window, presets_of_volume
from core.render.series import DisplaySeries, require_same_grid

ARRIVALS_PER_PICTURE = 8


class ReadingPresenter(ReadingObjects):
    """View-model of the reading area.

    Every method belongs to the GUI thread. Answers that arrive late carry the generation of the series
    they were asked for and are dropped when another is displayed.
    """

    def begin_series(self, summary: SeriesSummary, generation: int) -> None:
        """Make room for a series: the old picture goes at once, so that nothing stale stays on screen."""
        self.blink(False)
        self._generation, self._summary = generation, summary
        self._loaded, self._buffer, self._preset_group = None, None, None
        self._window_chosen = False
        self._notice = Notice(LOADING, self._words(summary.description))
        self._intent = replace(
            self._intent,
            maximised=None,
            cameras=(),
            inverted=summary.modality in INVERTED_AT_FIRST,
            hidden_segments=frozenset(),
        )
        self._refresh()

    def show_slice(
        self,
        generation: int,
        k: int,
        geometry: VolumeGeometry,
        pixels: NDArray,
        room: NDArray | None = None,
    ) -> None:
        """Show one slice of a series that is still loading.

        Parameters
        ----------
        k : int
            Index along the first array axis.
        pixels : numpy.ndarray
            ``(J, I)`` or ``(J, I, 3)``; copied.
        room : numpy.ndarray, optional
            Stack from ``room_for``, ours from now on; made here when there is none, which takes its time.
        """
        if generation != self._generation or self._summary is None or self.volume is not None:
            return
        if self._buffer is None:
            self._start_buffer(geometry, pixels, room_for(geometry, pixels) if room is None else room)
        if self._buffer is None or self._loaded is None or self._loaded.arrival is None:
            return
        self._buffer[k] = pixels
        self._loaded.arrival.received[k] = True
        count = self._loaded.arrival.count
        if (
            k != self._intent.cursor_ijk[2]
            and count % ARRIVALS_PER_PICTURE
            and not self._loaded.arrival.complete
        ):
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
        self._loaded = replace(self._fresh(series), objects=partial.objects if partial is not None else ())
        self._buffer, self._notice = None, None
        if partial is None or partial.series.volume.geometry.shape_kji != volume.geometry.shape_kji:
            self._open(series)
        elif not is_colour(volume) and not self._window_chosen:
            self._intent = replace(self._intent, window=initial_window(volume))
        self._preset_group = presets_of_volume(volume)
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

    def toggle_ai(self) -> None:
        """Hide or show everything that models produced."""
        self._change(ai_hidden=not self._intent.ai_hidden)

    def show_ai(self) -> None:
        """Show what models produced, if it was hidden."""
        self._change(ai_hidden=False)

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

    def _fresh(self, series: DisplaySeries) -> Loaded:
        summary = self._summary
        if summary is None:
            return Loaded(series, self._generation)
        return Loaded(series, self._generation, view=summary.view, dimension=summary.dimension)

    def _grid_fault(self, geometry: VolumeGeometry, what: str) -> str:
        if self._loaded is None:
            return ""
        try:
            require_same_grid(self._loaded.series.volume.geometry, geometry, what)
        except SafetyError as error:
            return f"{error.user_message} {error.remedy}"
        return ""

    def _start_buffer(self, geometry: VolumeGeometry, pixels: NDArray, room: NDArray) -> None:
        summary = self._summary
        if summary is None:
            return
        self._buffer = room
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
        self._loaded = replace(self._fresh(series), revision=-1, arrival=arrival)
        self._notice = None
        self._open(series, sample=pixels)
        self._preset_group = presets_of_volume(volume)

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
