"""A lock between processes, held on an open file; the system frees it when its holder dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from core.domain.errors import EnvironmentFault

_POLL_S = 0.01


@contextmanager
def file_lock(path: Path, timeout_s: float = 30.0) -> Iterator[None]:
    """Hold the exclusive lock of ``path`` (created when missing, never deleted) during the block.

    Not re-entrant: a second lock of the same path in one thread waits for itself.

    Raises
    ------
    EnvironmentFault
        If another process holds it for longer than ``timeout_s`` seconds (code ``lock.busy``).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as stream:
        _wait(stream, path, time.monotonic() + timeout_s)
        try:
            yield
        finally:
            _release(stream)


def _wait(stream: IO[bytes], path: Path, deadline: float) -> None:
    while not _acquire(stream):
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                "lock.busy",
                f"Another Overread process has been holding {path.name} for too long.",
                "Close the other Overread, or wait until its work is done.",
            )
        time.sleep(_POLL_S)


if sys.platform == "win32":
    import msvcrt

    def _acquire(stream: IO[bytes]) -> bool:
        stream.seek(0)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _share(_stream: IO[bytes]) -> None:
        """Do nothing: Windows keeps a file that is open from being replaced."""

    def _release(stream: IO[bytes]) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(stream: IO[bytes]) -> bool:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _share(stream: IO[bytes]) -> None:
        # Waits for the end of a restore; some network file systems know no locks, there nobody is warned.
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_SH)

    def _release(stream: IO[bytes]) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)


class Hold:
    """Says, while it is open, that this process uses something; many may hold, ``held_by_nobody`` needs that none does.

    Ends with ``close`` or with the process. On Windows it does nothing: a file that is open can't be replaced there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] | None = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        _share(self._stream)

    def close(self) -> None:
        """Let go. May be called twice."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


@contextmanager
def held_by_nobody(path: Path) -> Iterator[bool]:
    """Yield whether no process holds ``path``; when true, none can begin to during the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as stream:
        free = _acquire(stream)
        try:
            yield free
        finally:
            if free:
                _release(stream)
