"""What a worker does first: tie its life to its parent's, yield to the window, choose its threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
PARENT_GONE = 3


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies (Linux); leave at once if it is dead already.

    The parent may die between our start and the request; then we have been adopted by another process,
    which the second look at the parent's number shows. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        print(f"PR_SET_PDEATHSIG was refused (errno {ctypes.get_errno()})", file=sys.stderr)  # noqa: T201
    if parent_pid and os.getppid() != parent_pid:
        os._exit(PARENT_GONE)


def yield_to_others(niceness: int) -> None:
    """Lower our priority by ``niceness`` (POSIX; the launcher does it on Windows).

    Where Linux groups processes by session, niceness counts only among the processes of one session, and a
    worker leads a session of its own: its group must be nice too, or it takes as much as the window's group.
    Source: sched(7), the autogroup feature.
    """
    if niceness <= 0 or sys.platform == "win32":
        return
    os.nice(niceness)
    if sys.platform == "linux" and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # kernels without groups, containers with a read-only /proc
            Path("/proc/self/autogroup").write_text(str(niceness), "ascii")


def thread_count() -> int:
    """Return how many threads a computation may use: the physical cores, one less when there are more than two.

    The processors that this process may run on (containers, ``taskset``) are the upper limit.
    """
    usable = os.cpu_count() or 1
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    cores = min(psutil.cpu_count(logical=False) or usable, usable)
    return cores - 1 if cores > 2 else max(cores, 1)


def set_thread_policy() -> None:
    """Tell OpenMP and MKL how many threads to use, before torch reads it; an own setting of the user stands."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(thread_count()))
