"""Progress of one job on its way to the window: not too often, with an estimate of what is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from core.jobs.messages import JobProgress

INTERVAL_S = 0.1
_MIN_ELAPSED_S = 1.0
_MIN_FRACTION = 0.05


class Reporter:
    """A ``core.domain.progress.Progress`` that sends at most ten messages per second.

    A new phase is sent at once, for it may last long without a further report; a phase that has been told
    is told again only after ``INTERVAL_S``.

    Parameters
    ----------
    job_id : str
        The job.
    send : callable
        Sends a message.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, job_id: str, send: Callable[[JobProgress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._job_id = job_id
        self._send = send
        self._clock = clock
        self._begun_s = clock()
        self._sent_s = -math.inf
        self._phase = ""
        self._fraction = 0.0

    def __call__(self, phase: str, fraction: float) -> None:
        """Report; see ``Progress``."""
        now_s = self._clock()
        known = phase == self._phase
        if now_s - self._sent_s < (INTERVAL_S if known else INTERVAL_S / 10):
            return
        self._sent_s, self._phase = now_s, phase
        # A bar that runs backwards is a bar that nobody believes.
        if math.isfinite(fraction):
            self._fraction = max(self._fraction, min(max(fraction, 0.0), 1.0))
        self._send(JobProgress(self._job_id, phase, self._fraction, self._left_s(now_s)))

    def _left_s(self, now_s: float) -> float | None:
        """Return the seconds left if the rest goes as fast as what is done; None while that would be guessing."""
        elapsed_s = now_s - self._begun_s
        if elapsed_s < _MIN_ELAPSED_S or self._fraction < _MIN_FRACTION:
            return None
        return elapsed_s * (1.0 - self._fraction) / self._fraction
