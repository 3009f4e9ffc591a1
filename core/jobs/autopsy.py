"""Say in a reader's words why a worker died."""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_GB = 1024.0


@dataclass
class Vitals:
    """What was seen of a worker and its machine while it lived; memory in MiB.

    ``available_mb`` is what the machine could have given when the job began, ``least_available_mb`` the least
    that was seen since, ``peak_rss_mb`` the most that the worker held.
    """

    available_mb: float
    least_available_mb: float
    total_mb: float
    oom_kills: int
    peak_rss_mb: float = 0.0

    def look(self, rss_mb: float) -> None:
        """Note the worker's memory and the machine's."""
        self.peak_rss_mb = max(self.peak_rss_mb, rss_mb)
        self.least_available_mb = min(self.least_available_mb, _available_mb())


def first_look() -> Vitals:
    """Start watching."""
    available = _available_mb()
    return Vitals(available, available, _total_mb(), _oom_kills())


def describe_death(status: int | None, vitals: Vitals | None) -> str:
    """Return a sentence about a worker that ended by itself.

    Parameters
    ----------
    status : int or None
        Exit status as ``subprocess`` gives it: negative for a signal; None if the process still ran.
    vitals : Vitals or None
        What was seen before.
    """
    if status is None:
        return "The worker broke off the connection and was ended."
    if status >= 0 or sys.platform == "win32":
        return f"The worker ended unexpectedly (exit status {status})."
    name = _signal_name(-status)
    if status != -int(signal.SIGKILL):
        return f"The worker crashed ({name})."
    return _killed(vitals)


def _killed(vitals: Vitals | None) -> str:
    """Tell a kill for want of memory from any other: SIGKILL itself says nothing."""
    if vitals is None:
        return "The worker was killed by the operating system or by another program (SIGKILL)."
    used = f"it held {vitals.peak_rss_mb / _GB:.1f} GB"
    had = f"{vitals.available_mb / _GB:.1f} GB of {vitals.total_mb / _GB:.1f} GB were available"
    if _oom_kills() > vitals.oom_kills:
        return f"The worker was killed by the operating system because memory ran out: {used}, {had}."
    scarce = vitals.least_available_mb < max(0.05 * vitals.total_mb, 512.0)
    if scarce or vitals.peak_rss_mb > 0.7 * vitals.available_mb:
        return f"The worker was killed by the operating system, probably out of memory: {used}, {had}."
    return (
        f"The worker was killed from outside (SIGKILL); {used}, {had}, so memory was probably not the reason."
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _available_mb() -> float:
    return float(psutil.virtual_memory().available) / 2**20


def _total_mb() -> float:
    """Return the memory that this process may use: the machine's, or less in a control group."""
    total = float(psutil.virtual_memory().total) / 2**20
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(_CGROUP_LIMIT.read_text().strip()) / 2**20)
    return total


def _oom_kills() -> int:
    """Return how often the kernel has killed for want of memory in our control group; 0 when unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in _CGROUP_EVENTS.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
