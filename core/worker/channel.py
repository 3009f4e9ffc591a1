"""The worker's end of the pipes."""

from __future__ import annotations

import os
import sys
import threading
from typing import BinaryIO

from core.jobs.codec import encode, read_message
from core.jobs.messages import FromWorker, Message


class Channel:
    """Messages in and out; ``send`` may be called from any thread, ``receive`` from one."""

    def __init__(self, source: BinaryIO, target: int) -> None:
        self._source = source
        self._target = target
        self._lock = threading.Lock()

    @classmethod
    def over_standard_streams(cls) -> Channel:
        """Take the standard streams away from everybody else.

        What a library prints goes to standard error from now on, and nothing can read our input: a stray
        ``print`` in C or Python never gets between two messages.
        """
        source = os.fdopen(os.dup(0), "rb")
        target = os.dup(1)
        _make_binary(target)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return cls(source, target)

    def receive(self) -> Message | None:
        """Wait for a message; None when the other side has gone."""
        return read_message(self._source.read)

    def send(self, message: FromWorker) -> None:
        """Write a message whole.

        Raises
        ------
        OSError
            If nobody listens any more.
        """
        data = memoryview(encode(message))
        with self._lock:
            while data:
                data = data[os.write(self._target, data) :]


def _make_binary(handle: int) -> None:
    """Keep Windows from turning line feeds into two bytes."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(handle, os.O_BINARY)
        msvcrt.setmode(0, os.O_BINARY)
