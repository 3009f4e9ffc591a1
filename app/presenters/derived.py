"""Objects that others made from the open series: listed, laid over the pictures, read beside them. Free of Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.presenters.derived_rows import (
    WITH_PANE,
    ObjectRow,
    ObjectsState,
    Prepared,
    Target,
    fraction_map,
    prepare,
    row_of,
)
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.reading import ReadingPresenter
from app.presenters.shown_objects import ShownObject
from core.domain.derived import DerivedHeader, PresentationState, SourceImage
from core.domain.errors import AppError
from core.domain.study import SeriesSummary
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.objects import marks_of_annotations, marks_of_places, place_lps

PAGE_ZOOMS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
_POINTED = "pointed"


class DerivedPresenter(Presenter[ObjectsState]):
    """Follows the open series. Each series has a generation; what answers for an earlier one is dropped."""

    def __init__(
        self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter, reading: ReadingPresenter
    ) -> None:
        super().__init__(ObjectsState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._reading = reading
        self._generation = 0
        self._summary: SeriesSummary | None = None
        self._volume: Volume | None = None
        self._prepared: dict[str, Prepared] = {}
        self._objects: dict[str, ShownObject] = {}
        self._wanted: SeriesSummary | None = None
        self._jump: tuple[SourceImage, int] | None = None
        self._leads = False
        self._bring = ""
        self._before: dict[str, tuple[Window, bool]] = {}
        self.open_series: Callable[[SeriesSummary], None] = lambda _: None
        self.go_to_time: Callable[[int], None] = lambda _: None
        self.page_drawn: Callable[[str, int, NDArray[np.uint8]], None] = lambda _uid, _page, _pixels: None
        reading.subscribe(self._follow)

    # -- the series ----------------------------------------------------------------------------------

    def begin(self, summary: SeriesSummary, generation: int) -> None:
        """Another series is being opened; a pane that led there stays."""
        self._generation, self._summary, self._volume = generation, summary, None
        self._wanted = None
        pane, self._leads = (self.state.pane if self._leads else None), False
        if pane is None:
            self._jump = None
        kept = self._prepared.get(pane.uid) if pane is not None else None
        self._objects.clear()
        self._before.clear()
        self._prepared = {pane.uid: kept} if pane is not None and kept is not None else {}
        self._publish(ObjectsState(hidden=self.state.hidden, pane=pane, veiled=self.state.veiled))

    def take(self, volume: Volume) -> None:
        """The series is complete: look for objects that were made from it."""
        self._volume = volume
        self._go_on(volume)
        if self._summary is None:
            return
        generation, key, wanted = self._generation, self._summary.key, self._wanted
        self._wanted = None

        def work() -> list[DerivedHeader]:
            found = self._engine.derived_of(key)
            if wanted is not None and all(header.series_uid != wanted.series_uid for header in found):
                found = [*found, *self._engine.derived_of(wanted.key)]
            return found

        def done(found: list[DerivedHeader]) -> None:
            if generation == self._generation:
                self._list(found, wanted.series_uid if wanted is not None else "")

        self._tasks.io(work, done, lambda error: self._failed_to_list(generation, error))

    def _go_on(self, volume: Volume) -> None:
        """Finish a jump to an image of another series or time point."""
        if self._jump is None:
            return
        image, time_point = self._jump
        if volume.time_point != time_point:
            self.go_to_time(time_point)
            return
        self._jump = None
        self._reading.go_to_image(image)

    def _failed_to_list(self, generation: int, error: AppError) -> None:
        if generation == self._generation:
            self._publish(replace(self.state, message=error.user_message))
            self._notices.report(error)

    def _list(self, found: list[DerivedHeader], show_series: str) -> None:
        self._publish(replace(self.state, rows=tuple(row_of(header) for header in found)))
        chosen = [h.sop_instance_uid for h in found if show_series and h.series_uid == show_series]
        self._bring = chosen[0] if chosen else ""
        for uid in chosen:
            self.show(uid)

    def want(self, summary: SeriesSummary) -> None:
        """Show the objects of a derived series as soon as its source is displayed; at once if it is already."""
        self._wanted = summary
        if self._volume is not None:
            self.take(self._volume)

    def show_alone(self, summary: SeriesSummary, generation: int) -> None:
        """Read a report or document whose pictures the library doesn't have."""
        self.begin(summary, generation)

        def done(found: list[DerivedHeader]) -> None:
            if generation == self._generation:
                self._list(found, summary.series_uid)

        self._tasks.io(
            lambda: self._engine.derived_of(summary.key),
            done,
            lambda error: self._failed_to_list(generation, error),
        )

    # -- showing -------------------------------------------------------------------------------------

    def toggle(self, uid: str) -> None:
        """Show an object, or take it away."""
        row = self._row(uid)
        if row is None:
            return
        if row.shown:
            self.hide(uid)
        else:
            self.show(uid)

    def show(self, uid: str) -> None:
        """Read an object, if that was not done yet, and show it."""
        row = self._row(uid)
        if row is None or row.state == "loading":
            return
        if self.state.hidden and row.kind not in WITH_PANE:
            self._reading.show_objects()
        ready = self._prepared.get(uid)
        if ready is not None:
            self._show(uid, ready)
            return
        self._change_row(uid, state="loading", words="")
        generation, volume = self._generation, self._volume

        def work() -> Prepared:
            content = self._engine.open_derived(uid, volume)
            return prepare(content, volume, self._engine.contours_as_segmentation)

        def done(prepared: Prepared) -> None:
            if generation == self._generation:
                self._prepared[uid] = prepared
                self._show(uid, prepared)

        def failed(error: AppError) -> None:
            if generation == self._generation:
                words = f"{error.user_message} {error.remedy}".strip()
                self._change_row(uid, state="failed", words=words, shown=False)

        self._tasks.io(work, done, failed)

    def _show(self, uid: str, prepared: Prepared) -> None:
        if prepared.pane is not None:
            self._publish(replace(self.state, pane=prepared.pane, chosen=-1))
            self._draw_page()
        if prepared.shown is not None:
            self._objects[uid] = self._with_parts(uid, prepared, prepared.shown)
            self._hand_over()
        if prepared.window is not None or prepared.inverted is not None:
            self._before[uid] = (self._reading.intent.window, self._reading.intent.inverted)
            self._reading.use_window(prepared.window, prepared.inverted)
        row = self._row(uid)
        parts = row.parts if row is not None and row.parts else prepared.parts
        self._change_row(uid, shown=True, state="", words=prepared.words, parts=parts)
        if uid == self._bring:
            self._bring = ""
            self._bring_into_view(uid, prepared)

    def _bring_into_view(self, uid: str, prepared: Prepared) -> None:
        """Somebody chose the object itself: go to where it lies."""
        first = next((part for part in prepared.parts if part.place is not None), None)
        marks = prepared.shown.marks if prepared.shown is not None else {}
        if first is not None:
            self.jump_to_part(uid, first.value)
        elif marks:
            self._reading.go_to_slice(min(marks))

    def _with_parts(self, uid: str, prepared: Prepared, shown: ShownObject) -> ShownObject:
        """Show an object again as it was left: with the parts that were hidden."""
        row = self._row(uid)
        hidden = (
            frozenset(part.value for part in row.parts if not part.visible)
            if row is not None
            else frozenset()
        )
        if not hidden:
            return shown
        values = fraction_map(prepared.fractional, hidden) if prepared.fractional else shown.values
        return replace(shown, hidden=hidden, values=values, revision=shown.revision + 1)

    def hide(self, uid: str) -> None:
        """Take an object off the pictures, or close its pane."""
        self._objects.pop(uid, None)
        self._hand_over()
        if uid in self._before:
            self._reading.use_window(*self._before.pop(uid))
        if self.state.pane is not None and self.state.pane.uid == uid:
            self.close_pane()
        self._change_row(uid, shown=False)

    def toggle_part(self, uid: str, value: int) -> None:
        """Show or hide one segment or region of an object."""
        row, shown = self._row(uid), self._objects.get(uid)
        if row is None or shown is None:
            return
        hidden = shown.hidden ^ {value}
        prepared = self._prepared[uid]
        values = fraction_map(prepared.fractional, hidden) if prepared.fractional else shown.values
        self._objects[uid] = replace(shown, hidden=hidden, values=values, revision=shown.revision + 1)
        self._hand_over()
        parts = tuple(
            replace(part, visible=not part.visible) if part.value == value else part for part in row.parts
        )
        self._change_row(uid, parts=parts)

    def jump_to_part(self, uid: str, value: int) -> None:
        """Bring a segment or region into view."""
        row = self._row(uid)
        place = next((p.place for p in row.parts if p.value == value), None) if row is not None else None
        if place is not None:
            self._reading.jump_to(place)

    def hide_all(self) -> None:
        """Take everything off the pictures that others made, or put it back."""
        self._reading.toggle_objects()

    def _hand_over(self) -> None:
        self._reading.set_objects(tuple(self._objects.values()))

    # -- panes ---------------------------------------------------------------------------------------

    def close_pane(self) -> None:
        """Close the report, list or document; what it pointed at goes from the pictures."""
        pane = self.state.pane
        if pane is None:
            return
        self._objects.pop(_POINTED, None)
        self._hand_over()
        self._publish(replace(self.state, pane=None, chosen=-1))
        self._change_row(pane.uid, shown=False)

    def set_veiled(self, veiled: bool) -> None:
        """Show nothing of reports and documents while identity is hidden: they may name the patient."""
        self._publish(replace(self.state, veiled=veiled))

    def choose(self, target: int) -> None:
        """Go to what a line of the pane speaks of, and mark it on the picture."""
        pane = self.state.pane
        prepared = self._prepared.get(pane.uid) if pane is not None else None
        if prepared is None or not 0 <= target < len(prepared.targets):
            return
        self._publish(replace(self.state, chosen=target))
        found = prepared.targets[target]
        if self._volume is None or not self._point_at(found, self._volume):
            self._look_elsewhere(found)

    def step(self, by: int) -> None:
        """Go to the next or previous place of the pane."""
        pane = self.state.pane
        prepared = self._prepared.get(pane.uid) if pane is not None else None
        if prepared is not None and prepared.targets:
            self.choose((max(self.state.chosen, -1 if by > 0 else 0) + by) % len(prepared.targets))

    def _point_at(self, target: Target, volume: Volume) -> bool:
        present = self._reading.volume or volume
        for place in target.places:
            point = place_lps(present, place)
            if point is not None:
                marks = marks_of_places(present, target.places, target.words)
                shown = self._objects.get(_POINTED)
                revision = shown.revision + 1 if shown is not None else 0
                self._objects[_POINTED] = ShownObject(_POINTED, target.words, revision, marks=marks)
                self._reading.show_objects()
                self._hand_over()
                self._reading.jump_to(point)
                return True
        return any(self._reading.go_to_image(image) for image in target.images)

    def _look_elsewhere(self, target: Target) -> None:
        """The image isn't in the open series: open the one that has it."""
        images = (*target.images, *(p.image for p in target.places if p.image is not None))
        if not images:
            self._notices.say("info", "This place lies outside of the open series.")
            return
        image = images[0]

        def done(found: tuple[SeriesSummary, int] | None) -> None:
            if found is None:
                self._notices.say(
                    "caution", "The image isn't in the library.", "Import the study that it belongs to."
                )
                return
            series, time_point = found
            self._jump = (image, time_point)
            if self._summary is not None and series.key == self._summary.key and self._volume is not None:
                self._go_on(self._reading.volume or self._volume)
            else:
                self._leads = True
                self.open_series(series)

        self._tasks.io(lambda: self._engine.find_image(image), done, self._notices.report)

    def turn_page(self, by: int) -> None:
        """Go to another page of the document."""
        pane = self.state.pane
        if pane is not None and pane.pages:
            page = min(max(pane.page + by, 0), pane.pages - 1)
            if page != pane.page:
                self._publish(replace(self.state, pane=replace(pane, page=page)))
                self._draw_page()

    def zoom_page(self, by: int) -> None:
        """Draw pages larger or smaller."""
        pane = self.state.pane
        if pane is None or not pane.pages:
            return
        nearest = min(range(len(PAGE_ZOOMS)), key=lambda n: abs(PAGE_ZOOMS[n] - pane.zoom))
        zoom = PAGE_ZOOMS[min(max(nearest + by, 0), len(PAGE_ZOOMS) - 1)]
        if zoom != pane.zoom:
            self._publish(replace(self.state, pane=replace(pane, zoom=zoom)))
            self._draw_page()

    def set_page_width(self, width_px: int) -> None:
        """The pane has another width: draw the page for it."""
        if width_px != self._page_width and width_px > 0:
            self._page_width = width_px
            self._draw_page()

    _page_width = 0

    def _draw_page(self) -> None:
        pane, width = self.state.pane, self._page_width
        if pane is None or not pane.pages or not width:
            return
        uid, page, drawn_px = pane.uid, pane.page, round(width * pane.zoom)

        def done(pixels: NDArray[np.uint8]) -> None:
            now = self.state.pane
            if now is not None and (now.uid, now.page) == (uid, page):
                self.page_drawn(uid, page, pixels)

        self._tasks.io(lambda: self._engine.render_page(uid, page, drawn_px), done, self._notices.report)

    # -- following the pictures ----------------------------------------------------------------------

    def _follow(self) -> None:
        """Another time point has other images; hiding may have been undone elsewhere."""
        hidden = self._reading.intent.objects_hidden
        if hidden != self.state.hidden:
            self._publish(replace(self.state, hidden=hidden))
        volume = self._reading.volume
        before = self._volume
        if volume is None or before is None or volume.time_point == before.time_point:
            return
        if volume.series_uid != before.series_uid:
            return
        self._volume = volume
        for uid, shown in list(self._objects.items()):
            prepared = self._prepared.get(uid)
            if prepared is not None and isinstance(prepared.content, PresentationState):
                marks = marks_of_annotations(volume, prepared.content.annotations)
                self._objects[uid] = replace(shown, marks=marks, revision=shown.revision + 1)
        self._objects.pop(_POINTED, None)
        self._hand_over()
        self._go_on(volume)

    def _row(self, uid: str) -> ObjectRow | None:
        return next((row for row in self.state.rows if row.uid == uid), None)

    def _change_row(self, uid: str, **changes: object) -> None:
        rows = tuple(
            replace(row, **changes) if row.uid == uid else row  # type: ignore[arg-type]
            for row in self.state.rows
        )
        self._publish(replace(self.state, rows=rows))
