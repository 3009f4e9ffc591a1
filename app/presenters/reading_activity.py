"""Tells a training that somebody reads, so that it rests; seldom, and only while one goes on."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

LEAST_BETWEEN_S = 0.3


class ReadingActivity:
    """Passes on that somebody reads, a few times a second at most; one comparison of times when there is nothing to do.

    Parameters
    ----------
    note : callable
        Called on the GUI thread; returns at once.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, note: Callable[[], None], clock: Callable[[], float] = monotonic) -> None:
        self._note = note
        self._clock = clock
        self._last = float("-inf")
        self.training = False
        """Whether a training goes on."""

    def __call__(self) -> None:
        """Say that the reader did something."""
        if not self.training:
            return
        now = self._clock()
        if now - self._last >= LEAST_BETWEEN_S:
            self._last = now
            self._note()
