"""Thumbnails in the background: what came into sight last goes first, what has long left sight is not made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.presenters.ports import Tasks
from core.domain.errors import AppError

Deliver = Callable[[str, NDArray[np.uint8] | None], None]
_AT_ONCE = 2
_MOST_WAITING = 48


class ThumbnailQueue:
    """Keeps few requests on their way, so that pictures for reading never wait behind pictures for finding."""

    def __init__(self, make: Callable[[str], NDArray[np.uint8] | None], tasks: Tasks) -> None:
        self._make = make
        self._tasks = tasks
        self._waiting: dict[str, Deliver] = {}
        self._running = 0
        self.dropped: Callable[[str], None] = lambda _: None

    def request(self, series_key: str, deliver: Deliver) -> None:
        """Ask for one; ``deliver(key, pixels or None)`` runs on the GUI thread.

        A request that waited too long is dropped: ``dropped`` is told, and whoever paints the line again asks again.
        """
        self._waiting.pop(series_key, None)
        self._waiting[series_key] = deliver
        while len(self._waiting) > _MOST_WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            self.dropped(oldest)
        self._start()

    def _start(self) -> None:
        while self._waiting and self._running < _AT_ONCE:
            series_key, deliver = self._waiting.popitem()
            self._running += 1
            self._fetch(series_key, deliver)

    def _fetch(self, series_key: str, deliver: Deliver) -> None:
        def done(pixels: NDArray[np.uint8] | None) -> None:
            self._running -= 1
            deliver(series_key, pixels)
            self._start()

        def failed(_: AppError) -> None:
            # No picture is no error of the reader's: the line keeps its icon.
            done(None)

        self._tasks.io(lambda: self._make(series_key), done, failed)
