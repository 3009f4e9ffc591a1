"""Progress and cancellation, as long computations see them."""

from __future__ import annotations

import threading
from typing import Protocol

from core.domain.errors import AppError

_POLL_SECONDS = 0.1


class Cancelled(AppError):
    """The user cancelled; not a failure."""

    def __init__(self) -> None:
        super().__init__("job.cancelled", "Cancelled.", "Start it again when you need it.")


class Progress(Protocol):
    """Callable that long computations report to; called from the computing thread."""

    def __call__(self, phase: str, fraction: float) -> None:
        """Report that ``phase`` (a short verb in -ing) is done to ``fraction`` (0…1) of the whole job."""


class CancelToken:
    """A flag that is polled between windows, slabs or files. Thread-safe: one writer, many readers."""

    def __init__(self) -> None:
        self._cancelled = False

    def cancel(self) -> None:
        """Ask the computation to stop."""
        self._cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Whether cancel() was called."""
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the flag is set."""
        if self._cancelled:
            raise Cancelled()


class PauseToken:
    """A gate that long computations stand at between steps. Thread-safe."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def pause(self) -> None:
        """Ask the computation to wait at its next step."""
        self._open.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._open.set()

    @property
    def is_paused(self) -> bool:
        """Whether the computation is asked to wait."""
        return not self._open.is_set()

    def wait_while_paused(self, cancel: CancelToken | None = None) -> None:
        """Return when resumed; raises Cancelled as soon as ``cancel`` is set."""
        while not self._open.wait(_POLL_SECONDS):
            if cancel is not None:
                cancel.raise_if_cancelled()


def no_progress(phase: str, fraction: float) -> None:
    """Ignore progress."""
    del phase, fraction
