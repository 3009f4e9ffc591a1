"""Imports for the window, in a process of their own.

Reading ten thousand headers takes seconds of pure computing: in a thread of the window's process it would hold the
interpreter's lock whenever the window wants it, and a parser that crashes would take the reading with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.config.child_process import child_environment, creation_flags
from core.domain.errors import EnvironmentFault
from core.domain.progress import Cancelled, CancelToken, Progress, no_progress
from core.domain.study import ImportReport, SeriesSummary, SkippedFile, StudySummary
from core.jobs.import_wire import Document, frame, heard_error, heard_series, heard_study, read_document
from core.jobs.launcher import bind_to_us
from core.jobs.windows_job import WindowsJob

LOG = logging.getLogger(__name__)
CANCEL_GRACE_S = 15.0
_POLL_S = 0.05
_START_S = 60.0


def importer_command() -> list[str]:
    """Return the program that imports: the worker executable of a frozen build, else this interpreter."""
    if getattr(sys, "frozen", False):
        name = "overread-worker.exe" if sys.platform == "win32" else "overread-worker"
        return [str(Path(sys.executable).with_name(name)), "import-process"]
    return [sys.executable, "-m", "core.worker.importer"]


class ImportProcess:
    """The child process that imports; started by the first run, kept for the next one.

    Parameters
    ----------
    home : Path or None
        The data folder; None for the default.
    actor : str
        Who acts, for the audit trail; empty for the default of the home.

    ``run`` and ``start`` may be called from any thread; one import runs at a time, others wait for it. The child ends
    with ``close``, and with this process however it ends.
    """

    def __init__(self, home: Path | None, actor: str = "") -> None:
        self._home = home
        self._actor = actor
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._child: _Child | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process number of the child, None when there is none."""
        child = self._child
        return child.pid if child is not None and child.is_alive else None

    def start(self) -> None:
        """Start the child, so that it loads its libraries before it is needed.

        Raises
        ------
        EnvironmentFault
            If it cannot be started (``import.process_not_started``) or this is closed (``import.closed``).
        """
        self._living()

    def run(
        self,
        paths: Sequence[Path],
        mode: str = "link",
        progress: Progress = no_progress,
        cancel: CancelToken | None = None,
        on_series: Callable[[SeriesSummary], None] | None = None,
        password: str | None = None,
    ) -> ImportReport:
        """Import and wait for the end. Callbacks come from the calling thread.

        Raises
        ------
        AppError
            What the import raised there; ``Cancelled`` after a cancel; EnvironmentFault ``import.process_lost`` when
            the child died. What was in the library before stays, and the same import completes it.
        """
        with self._turn:
            child = self._living()
            order = {
                "say": "run",
                "home": None if self._home is None else str(self._home),
                "actor": self._actor,
                "paths": [str(Path(p).expanduser().absolute()) for p in paths],
                "mode": mode,
                "password": password,
            }
            child.send(order)
            run = _Run(child, progress, cancel, on_series)
            try:
                return run.wait()
            finally:
                if not run.ended:  # a callback raised: what the child still says belongs to nobody
                    child.end()

    def close(self) -> None:
        """End the child; an import that is going on ends as if the child had died."""
        with self._guard:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def _living(self) -> _Child:
        with self._guard:
            if self._closed:
                raise EnvironmentFault(
                    "import.closed", "The program is being closed.", "Import again after the next start."
                )
            if self._child is None or not self._child.is_alive:
                if self._child is not None:
                    self._child.end()
                self._child = _Child()
            return self._child


class _Run:
    """Listens to one import."""

    def __init__(
        self,
        child: _Child,
        progress: Progress,
        cancel: CancelToken | None,
        on_series: Callable[[SeriesSummary], None] | None,
    ) -> None:
        self._child = child
        self._progress = progress
        self._cancel = cancel
        self._on_series = on_series
        self._skipped: list[SkippedFile] = []
        self._studies: list[StudySummary] = []
        self._asked_at: float | None = None
        self.ended = False

    def wait(self) -> ImportReport:
        while True:
            self._look_at_cancel()
            try:
                heard = self._child.heard.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if heard is None:
                self._child.end()
                if self._asked_at is not None:
                    raise Cancelled
                raise _lost()
            report = self._take(heard)
            if report is not None:
                self.ended = True
                return report

    def _look_at_cancel(self) -> None:
        if self._cancel is None or not self._cancel.is_cancelled:
            return
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._child.send({"say": "cancel"})
        elif time.monotonic() - self._asked_at > CANCEL_GRACE_S:
            self._child.end()
            raise Cancelled

    def _take(self, heard: Document) -> ImportReport | None:
        say = heard["say"]
        try:
            if say == "progress":
                self._progress(str(heard["phase"]), float(heard["fraction"]))
            elif say == "series" and self._on_series is not None:
                self._on_series(heard_series(heard["series"]))
            elif say == "skipped":
                self._skipped += [SkippedFile(*file) for file in heard["files"]]
            elif say == "study":
                self._studies.append(heard_study(heard["study"]))
            elif say == "done":
                return self._report(heard)
        except (KeyError, TypeError, ValueError) as error:
            self._child.end()
            raise _lost() from error
        if say == "failed":
            self.ended = True
            raise heard_error(heard)
        return None

    def _report(self, heard: Document) -> ImportReport:
        return ImportReport(
            tuple(self._studies),
            int(heard["already_present"]),
            tuple(self._skipped),
            float(heard["seconds"]),
            {str(name): int(count) for name, count in heard["counts"].items()},
        )


class _Child:
    """The process. A thread of its own starts it and listens to it until its end.

    The parent-death signal of Linux follows the thread that started a child, so it may not be one of a pool.
    """

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[Document | None] = queue.SimpleQueue()
        self._popen: subprocess.Popen[bytes] | None = None
        self._job: WindowsJob | None = None
        self._fault: OSError | None = None
        self._lock = threading.Lock()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._live, name="import-process", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_S) or self._popen is None:
            raise EnvironmentFault(
                "import.process_not_started",
                f"The program that imports cannot be started ({type(self._fault).__name__}).",
                "Check the installation with 'overread doctor'.",
            ) from self._fault

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def send(self, document: Document) -> None:
        """Write a message; a child that is gone is noticed by its reader, not here."""
        assert self._popen is not None
        assert self._popen.stdin is not None
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._popen.stdin.write(frame(document))
            self._popen.stdin.flush()

    def end(self) -> None:
        """Kill the process and wait for it; may be called twice and from any thread."""
        popen = self._popen
        if popen is not None:
            with contextlib.suppress(OSError):
                popen.kill()
        if self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def _live(self) -> None:
        try:
            popen = subprocess.Popen(
                [*importer_command(), "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
                start_new_session=sys.platform != "win32",
                creationflags=creation_flags(low_priority=True),
            )
        except OSError as error:
            self._fault = error
            self._started.set()
            return
        self._job = bind_to_us(popen)
        self._popen = popen
        self._started.set()
        with popen:
            assert popen.stdout is not None
            try:
                while (document := read_document(popen.stdout.read)) is not None:
                    if document["say"] != "ready":
                        self.heard.put(document)
            except (OSError, ValueError):
                LOG.debug("the import process ended within a message")
            with contextlib.suppress(OSError):
                popen.kill()
        if self._job is not None:
            self._job.close()
        self.heard.put(None)


def _lost() -> EnvironmentFault:
    return EnvironmentFault(
        "import.process_lost",
        "The import ended unexpectedly; what it had finished is in the library.",
        "Import the same files again: only the rest is read.",
    )


def document_of(report: ImportReport) -> dict[str, Any]:
    """Return the ``done`` message of a report; studies and skipped files are told before."""
    return {
        "say": "done",
        "already_present": report.already_present,
        "seconds": report.seconds,
        "counts": report.counts,
    }
