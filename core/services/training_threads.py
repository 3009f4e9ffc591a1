"""How much of the computer a training takes."""

from __future__ import annotations

import os
import sys

import psutil


def thread_cap() -> int:
    """Return the processor threads of a training: all physical cores but one, at least one.

    The processors that this process may run on (containers, ``taskset``) are the upper limit.
    """
    usable = os.cpu_count() or 1
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    cores = min(psutil.cpu_count(logical=False) or usable, usable)
    return max(1, cores - 1)
