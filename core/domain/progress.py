"""Progress and cancellation, as long computations see them."""

from __future__ import annotations

from typing import Protocol

from core.domain.errors import AppError


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


def no_progress(phase: str, fraction: float) -> None:
    """Ignore progress."""
    del phase, fraction
