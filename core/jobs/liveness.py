"""Whether a silent worker is busy or dead.

A worker beats from a thread of its own. A C call that holds the interpreter lock silences that thread
although the worker computes; such a worker burns processor time, a stopped or dead-locked one does not.
So silence alone makes a worker *suspect* after ``timeout_s``; it counts as dead when it has also used no
processor time since then, or when it stays silent for ``hard_factor`` times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Timing:
    """All the patience of the supervisor, in seconds.

    Source of the defaults: beat 5 s, death after 30 s, forced end of a cancelled job within 15 s (the team's
    reliability plan, fault A8).
    """

    timeout_s: float = 30.0
    hard_factor: float = 10.0
    start_timeout_s: float = 90.0
    grace_s: float = 6.0
    terminate_s: float = 3.0
    stop_s: float = 3.0
    backoff_s: tuple[float, ...] = (0.0, 0.5, 2.0, 5.0, 15.0)
    stable_after_s: float = 300.0

    @property
    def beat_s(self) -> float:
        """Time between two heartbeats: never more than half the timeout, at most 5 s."""
        return min(5.0, self.timeout_s / 2.0)


@dataclass
class Liveness:
    """Judges one worker. Times are those of a monotonic clock, given by the caller.

    Parameters
    ----------
    timing : Timing
        The limits.
    last_beat_s : float
        When the worker was last heard.
    """

    timing: Timing
    last_beat_s: float
    _cpu_s: float | None = field(default=None, init=False)
    _last_look_s: float = field(default=0.0, init=False)
    _silent_since_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._last_look_s = self.last_beat_s
        self._silent_since_s = self.last_beat_s

    def beat(self, now_s: float) -> None:
        """Note that the worker was heard (any message counts)."""
        self.last_beat_s = self._silent_since_s = now_s
        self._cpu_s = None

    def is_dead(self, now_s: float, cpu_s: float | None) -> bool:
        """Judge the worker.

        Parameters
        ----------
        now_s : float
            The time. A gap of more than half the timeout since the last look means that *this* process slept
            (laptop lid, debugger); the worker then gets its patience anew.
        cpu_s : float or None
            Processor seconds that the worker has used so far, None if unknown.
        """
        slept = now_s - self._last_look_s > self.timing.timeout_s / 2.0
        self._last_look_s = now_s
        if slept:
            self.beat(now_s)
            return False
        if now_s - self._silent_since_s >= self.timing.timeout_s * self.timing.hard_factor:
            return True
        if now_s - self.last_beat_s < self.timing.timeout_s:
            if self._cpu_s is None:
                self._cpu_s = cpu_s
            return False
        works = (
            cpu_s is not None
            and self._cpu_s is not None
            and cpu_s - self._cpu_s > 0.2 * self.timing.timeout_s
        )
        if works:
            self.last_beat_s, self._cpu_s = now_s, cpu_s
        return not works

    def silent_s(self, now_s: float) -> float:
        """Seconds since the worker was last heard."""
        return now_s - self._silent_since_s
