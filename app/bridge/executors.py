"""Where blocking work runs: a pool for pixels and files, one thread for the database.

Thread contract: ``io``, ``db`` and ``shutdown`` are called on the GUI thread, ``post`` on any. Work functions
capture all they need and touch no widget; their answers come back on the GUI thread through a queued signal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PySide6.QtCore import QObject, Qt, Signal, Slot

from app.presenters.ports import error_of
from core.domain.errors import AppError

LOG = logging.getLogger(__name__)
T = TypeVar("T")
_IO_THREADS = 3


class Executors(QObject):
    """The threads of the GUI process beside the GUI thread."""

    _call = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._io = ThreadPoolExecutor(_IO_THREADS, thread_name_prefix="overread-io")
        self._db = ThreadPoolExecutor(1, thread_name_prefix="overread-db")
        self._closed = False
        self._pending = 0
        self._call.connect(self._on_call, Qt.ConnectionType.QueuedConnection)

    @property
    def pending(self) -> int:
        """How many pieces of work have not answered yet; read on the GUI thread."""
        return self._pending

    def io(
        self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[AppError], None]
    ) -> None:
        """Run ``work`` in the pool for pixels and files."""
        self._submit(self._io, work, done, failed)

    def db(
        self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[AppError], None]
    ) -> None:
        """Run ``work`` on the one thread of the database, in order."""
        self._submit(self._db, work, done, failed)

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the GUI thread soon; may be called from any thread."""
        if not self._closed:
            self._call.emit(call)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[AppError], None],
    ) -> None:
        if self._closed:
            return
        self._pending += 1

        def run() -> None:
            try:
                answer = work()
            except AppError as error:
                self.post(lambda refused=error: self._answer(lambda: failed(refused)))  # type: ignore[misc]
            except Exception as error:
                LOG.exception("unexpected error in background work")
                translated = error_of(error)
                self.post(lambda: self._answer(lambda: failed(translated)))
            else:
                self.post(lambda: self._answer(lambda: done(answer)))

        pool.submit(run)

    def _answer(self, call: Callable[[], None]) -> None:
        self._pending -= 1
        call()

    @Slot(object)
    def _on_call(self, call: Callable[[], None]) -> None:
        if not self._closed:
            call()

    def shutdown(self, last: Callable[[], None] | None = None) -> None:
        """Drop what has not started, run ``last`` on the database thread, wait for what runs."""
        self._closed = True
        self._io.shutdown(wait=True, cancel_futures=True)
        if last is not None:
            self._db.submit(last).result()
        self._db.shutdown(wait=True, cancel_futures=False)
