"""Read first: what models found stays hidden, series by series, until the reader asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks, ignore
from core.domain.errors import AppError


class ResultsPort(Protocol):
    """What shows results: told whether it may."""

    def set_withheld(self, withheld: bool) -> None:
        """Hide or show what the results say."""


class OverlaysPort(Protocol):
    """The pictures' side of it."""

    def show_ai(self) -> None:
        """Show what models produced."""


@dataclass(frozen=True)
class ReadFirstState:
    """``on`` is the mode; ``withheld`` says whether the open series' results are hidden now."""

    on: bool = False
    withheld: bool = False


class ReadFirstPresenter(Presenter[ReadFirstState]):
    """Knows which series' results the reader has asked for. Both moments go to the audit trail.

    Parameters
    ----------
    clock : callable
        Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        engine: ReviewEngine,
        tasks: Tasks,
        notices: NoticesPresenter,
        results: ResultsPort,
        overlays: OverlaysPort,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(ReadFirstState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._results = results
        self._overlays = overlays
        self._clock = clock
        self._series_key = ""
        self._looked_at: dict[str, float] = {}
        self._asked: set[str] = set()
        self._asking = ""

    def set_on(self, on: bool) -> None:
        """Switch the mode. The open series keeps what its reader has seen already; switching off reveals it."""
        if on == self.state.on:
            return
        if on:
            if self._series_key:
                self._asked.add(self._series_key)
            self._publish(replace(self.state, on=True))
            return
        self._publish(replace(self.state, on=False))
        if self.state.withheld:
            self.reveal()

    def begin(self, series_key: str) -> None:
        """Take the series that is being opened, before any of its results arrive."""
        self._series_key = series_key
        withheld = self.state.on and series_key not in self._asked
        self._results.set_withheld(withheld)
        self._publish(replace(self.state, withheld=withheld))

    def looked(self, series_key: str) -> None:
        """Take note that the pictures of a series are on screen."""
        if series_key != self._series_key or not self.state.withheld or series_key in self._looked_at:
            return
        self._looked_at[series_key] = self._clock()
        self._tasks.db(lambda: self._engine.note_first_look(series_key), ignore, self._notices.report)

    def reveal(self) -> None:
        """Show the results of the open series, as soon as the audit trail holds that they were asked for."""
        key = self._series_key
        if not self.state.withheld or self._asking == key:
            return
        self._asking = key
        now = self._clock()
        seconds = now - self._looked_at.get(key, now)

        def done(_: None) -> None:
            self._asking = ""
            self._asked.add(key)
            if key == self._series_key:
                self._publish(replace(self.state, withheld=False))
                self._results.set_withheld(False)
                self._overlays.show_ai()

        def failed(error: AppError) -> None:
            self._asking = ""
            self._notices.report(error)

        self._tasks.db(lambda: self._engine.note_reveal(key, seconds), done, failed)

    def toggle(self, otherwise: Callable[[], None]) -> None:
        """Do what the AI key does: reveal what is withheld, else ``otherwise`` (hide or show)."""
        if self.state.withheld:
            self.reveal()
        else:
            otherwise()
