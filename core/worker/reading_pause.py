"""Lets a training rest: as long as the reader says, or for a moment while somebody reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from core.domain.progress import CancelToken, PauseToken

LONGEST_S = 20.0
"""How long reading may hold a training up at a stretch: work goes on through a long session."""
FREE_S = 1.0
"""How long it is let go then; a step that begins in this time is done."""
_POLL_S = 0.05


class ReadingPause(PauseToken):
    """A pause that is held by the reader's word, by reading, or by both. Thread-safe.

    Parameters
    ----------
    longest_s : float
        After so long a rest for reading alone, the computation is let go for ``FREE_S``.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, longest_s: float = LONGEST_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._longest_s = longest_s
        self._clock = clock
        self._guard = threading.Lock()
        self._until_s = -1.0
        self._since_s: float | None = None
        self._free_until_s = -1.0

    def yield_for(self, seconds: float) -> None:
        """Rest for ``seconds`` from now on."""
        with self._guard:
            self._until_s = max(self._until_s, self._clock() + seconds)

    @property
    def held_by(self) -> str:
        """``"reader"``, ``"reading"`` or empty."""
        if super().is_paused:
            return "reader"
        return "reading" if self._reading() else ""

    @property
    def is_paused(self) -> bool:
        """Whether the computation is to rest now."""
        return bool(self.held_by)

    def wait_while_paused(self, cancel: CancelToken | None = None) -> None:
        """Return when nothing holds it any more; raises Cancelled as soon as ``cancel`` is set."""
        while self.is_paused:
            if cancel is not None:
                cancel.raise_if_cancelled()
            time.sleep(_POLL_S)

    def _reading(self) -> bool:
        now = self._clock()
        with self._guard:
            if now >= self._until_s:
                self._since_s = None
                return False
            if now < self._free_until_s:
                return False
            if self._since_s is None:
                self._since_s = now
            if now - self._since_s < self._longest_s:
                return True
            self._since_s, self._free_until_s = None, now + FREE_S
            return False
