"""What the supervisor needs of a worker process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from core.domain.errors import AppError
from core.jobs.messages import Command, FromWorker


class Worker(Protocol):
    """A running worker; ``core.jobs.launcher.WorkerProcess`` is the real one."""

    @property
    def pid(self) -> int:
        """Process number."""

    def send(self, message: Command) -> None:
        """Write a message; the death of the worker is noticed by its reader, not here."""

    def listen(
        self, on_message: Callable[[FromWorker], None], on_end: Callable[[AppError | None], None]
    ) -> None:
        """Start to read. Both callbacks come from the reading thread.

        ``on_end`` is called once, with the error when the stream was not a stream of messages.
        """

    def cpu_s(self) -> float | None:
        """Return the processor seconds used so far; None when unknown."""

    def rss_mb(self) -> float:
        """Return the resident memory in MiB; 0 when unknown."""

    def terminate(self) -> None:
        """Ask the operating system to end the worker (SIGTERM; on Windows this is the end already)."""

    def kill(self) -> None:
        """End the worker and everything that it started, at once."""

    def reap(self, timeout_s: float) -> int | None:
        """Wait for the end and return the exit status (negative: a signal); None when it still runs."""

    def close(self) -> None:
        """Close the pipes and wait for the reading threads. The worker must have ended."""
