"""Time points of a series, and what others have put over its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.presenters.reading_navigation import ReadingNavigation
from app.presenters.shown_objects import ShownObject
from core.domain.derived import SourceImage
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.objects import slices_of
from core.render.series import DisplaySeries


class ReadingObjects(ReadingNavigation):
    """What the reading area shows besides the voxels of one volume.

    ``time_step`` is called with the number of time points to go on; whoever loads them sets it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time_step: Callable[[int], None] = lambda _: None

    def show_time_point(self, volume: Volume, generation: int) -> None:
        """Show another time point of the open series; slice, zoom, window and layers stay.

        A time point on another grid, or one of a series that is no longer open, is not shown.
        """
        loaded = self._loaded
        if generation != self._generation or loaded is None or loaded.arrival is not None:
            return
        present = loaded.series.volume
        if volume.series_uid != present.series_uid or not volume.geometry.same_grid_as(present.geometry):
            return
        self._loaded = replace(loaded, series=DisplaySeries(volume))
        self._refresh()

    def set_objects(self, objects: tuple[ShownObject, ...]) -> None:
        """Show these objects over the series, in place of those shown so far."""
        if self._loaded is None or self._loaded.objects == objects:
            return
        self._loaded = replace(self._loaded, objects=objects)
        self._refresh()

    def toggle_objects(self) -> None:
        """Hide or show everything that others made."""
        self._change(objects_hidden=not self._intent.objects_hidden)

    def show_objects(self) -> None:
        """Show what others made, if it was hidden."""
        self._change(objects_hidden=False)

    def go_to_slice(self, k: int) -> None:
        """Go to slice ``k`` of the series, whatever the plane that shows it."""
        if self._loaded is None or not 0 <= k < self._loaded.series.volume.geometry.shape_kji[0]:
            return
        i, j, _ = self._intent.cursor_ijk
        self._change(cursor_ijk=(i, j, k))

    def go_to_image(self, image: SourceImage) -> bool:
        """Go to an image of the displayed volume; returns whether it is one of it."""
        if self._loaded is None:
            return False
        found = slices_of(self._loaded.series.volume, image)
        if found:
            self.go_to_slice(found[0])
        return bool(found)

    def use_window(self, window: Window | None, inverted: bool | None = None) -> None:
        """Take the window of a presentation state; None keeps the present one."""
        if window is not None:
            self._choose_window(window)
        if inverted is not None:
            self._change(inverted=inverted)
