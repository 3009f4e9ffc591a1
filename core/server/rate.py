"""How often somebody may ask: token buckets, one per key."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_KEYS = 4096


class RateLimit:
    """Allows ``burst`` at once and ``per_s`` in the long run; 0 per second allows everything.

    Only the last ``_KEYS`` keys are remembered, so that senders of many names can't fill the memory.
    """

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, max(1.0, burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Return 0 when ``key`` may ask now (and count it), else the seconds until it may."""
        if self._per_s <= 0:
            return 0.0
        now = self._clock()
        left, then = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_s)
        wait = 0.0 if left >= 1.0 else (1.0 - left) / self._per_s
        self._buckets[key] = (left - 1.0 if wait == 0.0 else left, now)
        while len(self._buckets) > _KEYS:
            self._buckets.popitem(last=False)
        return wait
