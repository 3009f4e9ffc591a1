"""What child processes of ours share: how they are started, and how they begin.

A child speaks over its standard streams. What a library prints must not end up between its answers, Ctrl+C in a
terminal is the parent's affair, and a core file would hold what the parent sent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import core

if sys.platform != "win32":
    import resource

Serve = Callable[[IO[bytes], IO[bytes], IO[str]], None]


def child_environment(**changes: str) -> dict[str, str]:
    """Return our environment with ``changes``, and the folder of the sources where the child's interpreter finds it."""
    environment = dict(os.environ, **changes)
    if not getattr(sys, "frozen", False):
        root = str(Path(core.__file__ or "").resolve().parent.parent)
        known = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join([root, known]) if known else root
    return environment


def creation_flags(*, low_priority: bool = False) -> int:
    """Return what ``Popen`` needs on Windows: no console window, and the priority."""
    if sys.platform != "win32":
        return 0
    priority = subprocess.BELOW_NORMAL_PRIORITY_CLASS if low_priority else 0
    return subprocess.CREATE_NO_WINDOW | priority


def limit_memory(count: int) -> None:
    """Let this process have at most ``count`` bytes of address space from now on (not on Windows)."""
    if sys.platform != "win32":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = count if hard == resource.RLIM_INFINITY else min(count, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def serve_parent(serve: Serve, *, niceness: int = 0) -> None:
    """Run ``serve(requests, answers, log)`` on the standard streams, then end the process.

    ``requests`` and ``answers`` are unbuffered; ``log`` leads nowhere and takes what libraries print.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        os.nice(niceness)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 1)
    with os.fdopen(quiet, "w", encoding="utf-8") as log, contextlib.suppress(BrokenPipeError, EOFError):
        serve(requests, answers, log)
    # No clean-up is needed, and a library's own exit handlers are not ours to wait for.
    os._exit(0)
