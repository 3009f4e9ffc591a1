"""Micro-batches: what waits is answered together, and nobody waits for company that isn't on its way."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """A queue between many that prepare and one that computes; thread-safe.

    ``take`` returns at once what is ready, up to ``most``. Only while others are announced and not ready yet does it
    wait for them, ``patience_s`` at most: a request that is alone is never delayed, and under load batches fill
    up by themselves while the network is busy with the last one.

    Parameters
    ----------
    most : int
        Largest batch.
    patience_s : float
        Longest wait for company.
    """

    def __init__(self, most: int, patience_s: float) -> None:
        self._most, self._patience_s = most, patience_s
        self._ready: deque[T] = deque()
        self._announced = 0
        self._closed = False
        self._changed = threading.Condition()

    def announce(self) -> None:
        """Say that one more is being prepared."""
        with self._changed:
            self._announced += 1

    def put(self, item: T) -> None:
        """Hand over one that was announced."""
        with self._changed:
            self._announced -= 1
            self._ready.append(item)
            self._changed.notify()

    def close(self) -> None:
        """Let ``take`` return an empty list when nothing is left."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self) -> list[T]:
        """Wait for a batch and return it in the order of arrival; empty after ``close``."""
        with self._changed:
            while not self._ready and not self._closed:
                self._changed.wait()
            until = time.monotonic() + self._patience_s
            while self._ready and len(self._ready) < self._most and self._announced:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return [self._ready.popleft() for _ in range(min(self._most, len(self._ready)))]
