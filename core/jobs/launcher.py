"""Start a worker process, talk to it through its pipes, and see to it that it never outlives us.

Three independent things end an orphan: the kernel's parent-death signal (Linux; the worker asks for it in
its first instruction), a job object (Windows), and the end of the worker's input pipe (everywhere).
The parent-death signal follows the *thread* that started the worker, so a worker must be launched from a
thread that lives as long as the worker is wanted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from core.config.child_process import child_environment, creation_flags
from core.domain.errors import AppError, EnvironmentFault
from core.jobs.codec import encode, read_message
from core.jobs.liveness import Timing
from core.jobs.messages import Command, FromWorker, WarmUp
from core.jobs.windows_job import WindowsJob
from core.jobs.worker_port import Worker

LOG = logging.getLogger(__name__)
STDERR_LOG = logging.getLogger("core.worker.stderr")
_MAX_LINE = 2000


def worker_command() -> list[str]:
    """Return the program that runs a worker: the sibling executable of a frozen build, else this interpreter."""
    if getattr(sys, "frozen", False):
        name = "overread-worker.exe" if sys.platform == "win32" else "overread-worker"
        return [str(Path(sys.executable).with_name(name))]
    return [sys.executable, "-m", "core.worker"]


class WorkerProcess:
    """One running worker.

    Parameters
    ----------
    timing : Timing
        Gives the heartbeat's interval.
    command : sequence of str, optional
        Another program that speaks the same protocol; ``worker_command()`` by default.
    low_priority : bool
        Whether the worker yields to the window (nice 5, or below normal on Windows).

    Raises
    ------
    EnvironmentFault
        If the program cannot be started (``jobs.worker_not_started``).
    """

    def __init__(
        self, timing: Timing, command: Sequence[str] | None = None, *, low_priority: bool = True
    ) -> None:
        options = [
            "--parent",
            str(os.getpid()),
            "--beat",
            repr(timing.beat_s),
            "--nice",
            "5" if low_priority else "0",
        ]
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        try:
            self._popen = subprocess.Popen(
                [*(command or worker_command()), *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=child_environment(),
                start_new_session=sys.platform != "win32",
                creationflags=creation_flags(low_priority=low_priority),
            )
        except OSError as error:
            raise EnvironmentFault(
                "jobs.worker_not_started",
                f"The worker program cannot be started ({type(error).__name__}, error {error.errno}).",
                "Check the installation with 'overread doctor'.",
            ) from error
        self._job = bind_to_us(self._popen)
        self._process = _process_of(self._popen.pid)

    @property
    def pid(self) -> int:
        """Process number."""
        return self._popen.pid

    def send(self, message: Command) -> None:
        """Write a message; a worker that is already gone is noticed by its reader, not here."""
        pipe = self._popen.stdin
        assert pipe is not None
        with self._lock, contextlib.suppress(BrokenPipeError, OSError, ValueError):
            pipe.write(encode(message))
            pipe.flush()

    def listen(
        self, on_message: Callable[[FromWorker], None], on_end: Callable[[AppError | None], None]
    ) -> None:
        """Start the threads that read messages and the log; both callbacks come from the reading thread.

        ``on_end`` is called once, with the error when the stream was not a stream of messages.
        """
        for target, args in ((self._read, (on_message, on_end)), (self._log, ())):
            thread = threading.Thread(
                target=target, args=args, name=f"overread-worker-{target.__name__}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _read(
        self, on_message: Callable[[FromWorker], None], on_end: Callable[[AppError | None], None]
    ) -> None:
        pipe = self._popen.stdout
        assert pipe is not None
        fault: AppError | None = None
        try:
            while (message := read_message(pipe.read)) is not None:
                on_message(message)  # type: ignore[arg-type]
        except AppError as error:
            fault = error
        except (OSError, ValueError):
            LOG.debug("the worker's pipe was closed while it was read")
        on_end(fault)

    def _log(self) -> None:
        """Pass the worker's stray output to the log, so that a full pipe never stops it."""
        pipe = self._popen.stderr
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):
            while line := pipe.readline(_MAX_LINE):
                STDERR_LOG.info("%s", line.decode(errors="replace").rstrip())

    def cpu_s(self) -> float | None:
        """Processor seconds used so far; None when unknown."""
        if self._process is None:
            return None
        with contextlib.suppress(psutil.Error):
            times = self._process.cpu_times()
            return float(times.user + times.system)
        return None

    def rss_mb(self) -> float:
        """Resident memory in MiB; 0 when unknown."""
        if self._process is None:
            return 0.0
        with contextlib.suppress(psutil.Error):
            return float(self._process.memory_info().rss) / 2**20
        return 0.0

    def terminate(self) -> None:
        """Ask the operating system to end the worker (SIGTERM; on Windows this is the end already)."""
        with contextlib.suppress(OSError):
            self._popen.terminate()

    def kill(self) -> None:
        """End the worker and everything that it started, at once."""
        family = _descendants(self._process)
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._popen.kill()
        for child in family:
            with contextlib.suppress(psutil.Error):
                child.kill()

    def reap(self, timeout_s: float) -> int | None:
        """Wait for the end and return the exit status (negative: a signal); None when it still runs."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Close the pipes and wait for the reading threads. The worker must have ended."""
        if self._popen.stdin is not None:
            with contextlib.suppress(OSError):
                self._popen.stdin.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5.0)
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None and not any(thread.is_alive() for thread in self._threads):
                pipe.close()
        if self._job is not None:
            self._job.close()


def launch(timing: Timing, command: Sequence[str] | None = None, *, low_priority: bool = True) -> Worker:
    """Start a worker and let it load the compute libraries while the caller prepares the first task."""
    worker = WorkerProcess(timing, command, low_priority=low_priority)
    worker.send(WarmUp())
    return worker


def bind_to_us(popen: subprocess.Popen[bytes]) -> WindowsJob | None:
    """On Windows, tie the child's life to ours; a refusal leaves the end of the pipe to do it."""
    if sys.platform != "win32":
        return None
    try:
        return WindowsJob(int(vars(popen)["_handle"]))
    except OSError as error:
        LOG.warning("the worker could not be put into a job object (error %s)", error.winerror)
        return None


def _process_of(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _descendants(process: psutil.Process | None) -> list[psutil.Process]:
    if process is None:
        return []
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []
