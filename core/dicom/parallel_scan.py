"""Headers of many files, read by a few child processes; of few files, in this process.

Python computes in one thread at a time: only processes use all processors. And a file that lets the reader crash, run
or grow without end costs a child and is refused; the scan goes on.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import core
from core.config.child_process import creation_flags
from core.dicom.faults import RAISED_BY_LIBRARIES, malformed, translated
from core.dicom.files import Entry, Mark
from core.dicom.header import HEADER_TAGS, Header
from core.dicom.header_assembly import HeaderAssembly
from core.dicom.part10 import NotDicom
from core.dicom.quick_reader import QuickReader
from core.dicom.reading import IsDicomdir, recent_headers
from core.dicom.scanner_wire import NOT_DICOM, heard, read_batch, told_fault, write_batch
from core.domain.errors import AppError

ALONE_FILES = 400
"""Files that are read in this process before children are started."""
BATCH_FILES = 64
MOST_BATCH_FILES = 256
AHEAD_BATCHES = 48
"""How many batches may be read before the first of them is used."""
MOST_CHILDREN = 4
_REMEMBERED_FILES = 2000
_RARELY = 500_000
_TICK_S = 0.2
_FAST_S, _SLOW_S = 0.1, 1.0
_SLOW_FILE_S = 0.001
"""Files of a medium that needs longer for each are read by more children: they wait rather than compute."""
_SWITCH_S = 0.0005


Outcome = Header | AppError | NotDicom | IsDicomdir


def scanner_command() -> list[str]:
    """Return the program that scans: the worker executable of a frozen build, else this interpreter."""
    if getattr(sys, "frozen", False):
        name = "overread-worker.exe" if sys.platform == "win32" else "overread-worker"
        return [str(Path(sys.executable).with_name(name)), "scan"]
    return [sys.executable, "-S", "-m", "core.dicom.scanner_process"]  # site would take a fifth of the start


def child_count() -> int:
    """Return how many children a scan uses: none where there is one processor only."""
    usable = processors()
    return 0 if usable < 2 else min(MOST_CHILDREN, usable)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def read_headers(
    entries: Iterable[Entry], *, children: int | None = None
) -> Iterator[tuple[Entry, Outcome | None]]:
    """Read headers and yield each with its entry, in the order of ``entries``; a mark comes with None.

    Parameters
    ----------
    entries : iterable
        Files with their shares of the whole, and marks. Taken from several threads, one at a time.
    children : int or None
        How many child processes; None lets the computer decide, 0 stays in this process.

    Closing the iterator ends the children. While they are waited for, marks without a folder come now and then.
    """
    source = iter(entries)
    alone = _Alone()
    count = 0
    limit = ALONE_FILES if (child_count() if children is None else children) else 1 << 62
    for entry in source:
        if isinstance(entry, Mark):
            yield entry, None
            continue
        yield entry, alone.outcome(entry[0])
        count += 1
        if count >= limit:
            break
    else:
        return
    team = _Team(source, child_count() if children is None else children)
    # Headers hold no circles: looking for some among ever more of them would take a third of the time.
    thresholds = gc.get_threshold()
    gc.set_threshold(_RARELY, *thresholds[1:])
    # A child whose answer has come waits for its next batch no longer than this.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, _SWITCH_S))
    try:
        # Until the first child is awake, this process goes on alone.
        while (own := team.entry_before_children()) is not None:
            yield own, None if isinstance(own, Mark) else alone.outcome(own[0])
        yield from team.outcomes()
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        team.close()


class _Alone:
    """Reads in this process."""

    def __init__(self) -> None:
        self._reader = QuickReader(HEADER_TAGS)
        self._assembly = HeaderAssembly()
        self._count = 0

    def outcome(self, file: str) -> Outcome:
        try:
            header = self._assembly.header(Path(file), self._reader.read(file))
        except (AppError, NotDicom, IsDicomdir) as refusal:
            return refusal
        except (OSError, MemoryError, *RAISED_BY_LIBRARIES) as error:
            return _translation(error)
        self._count += 1
        if self._count <= _REMEMBERED_FILES:
            recent_headers.put(header)
        return header


class _Scanner:
    """One scanner process; used by one thread. OSError when it cannot be started."""

    def __init__(self) -> None:
        self.assembly = HeaderAssembly()
        self._popen = subprocess.Popen(
            scanner_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            creationflags=creation_flags(),
        )
        try:
            self._send(sorted(HEADER_TAGS))
        except OSError:
            self.close()
            self.release()
            raise

    def awake(self) -> bool:
        """Wait until the process has loaded what it needs; False when it ended instead."""
        assert self._popen.stdout is not None
        try:
            return read_batch(self._popen.stdout) == []
        except (OSError, EOFError, ValueError, TypeError):
            return False

    def _send(self, content: list[Any]) -> None:
        assert self._popen.stdin is not None
        write_batch(self._popen.stdin.raw, content)  # type: ignore[attr-defined]

    def ask(self, files: list[str]) -> list[Any] | None:
        """Return the answers; None when the process is gone."""
        assert self._popen.stdout is not None
        try:
            self._send(files)
            answers = read_batch(self._popen.stdout)
        except (OSError, EOFError, ValueError, TypeError):
            return None
        return answers if answers is not None and len(answers) == len(files) else None

    def close(self) -> None:
        """End the process; may be called from another thread."""
        with contextlib.suppress(OSError):
            self._popen.kill()

    def release(self) -> None:
        """Close the pipes of a process that was ended."""
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class _Team:
    """Children with a thread each, which hands out batches and collects the answers.

    This process needs a processor for itself; a child that would be one too many starts when the medium is slow.
    """

    def __init__(self, source: Iterator[Entry], children: int) -> None:
        self._source = source
        self._take = threading.Lock()
        self._taken = 0
        self._ended = False
        self._fault: BaseException | None = None
        self._credit = threading.Semaphore(AHEAD_BATCHES)
        self._news = threading.Condition()
        self._done: dict[int, list[tuple[Entry, HeaderAssembly | None, Any]]] = {}
        self._stopped = False
        self._begun = False
        self._working = children
        self._scanners: set[_Scanner] = set()
        self._more = threading.Event()
        at_once = max(1, processors() - 1)
        self._threads = [
            threading.Thread(target=self._work, args=(n < at_once,), name=f"scan-{n}", daemon=True)
            for n in range(children)
        ]
        for thread in self._threads:
            thread.start()

    def entry_before_children(self) -> Entry | None:
        """Return the next entry as long as no child has taken one, then None."""
        with self._take:
            if self._begun or self._ended:
                return None
            entry = next(self._source, None)
            self._ended = entry is None
            return entry

    def outcomes(self) -> Iterator[tuple[Entry, Outcome | None]]:
        """Yield entries with their headers in order."""
        number = 0
        while True:
            with self._news:
                if number not in self._done and self._working:
                    self._news.wait(_TICK_S)
                batch = self._done.pop(number, None)
                ended = batch is None and not self._working
            if ended:
                if self._fault is not None:
                    raise self._fault
                return
            if batch is None:  # a slow medium: let the caller look whether it shall go on
                yield Mark(None, 0.0), None
                continue
            self._credit.release()
            number += 1
            for entry, assembly, answer in batch:
                yield entry, _outcome(entry, assembly, answer)

    def close(self) -> None:
        """End children and threads."""
        self._stopped = True
        self._more.set()
        for _ in self._threads:
            self._credit.release()
        with self._news:
            scanners = list(self._scanners)
        for scanner in scanners:
            scanner.close()
        for thread in self._threads:
            thread.join()

    def _work(self, at_once: bool) -> None:
        try:
            if not at_once:
                self._more.wait()
            if not self._ended:
                self._serve()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asked for the headers
            self._fault = error
        finally:
            self._more.set()
            with self._news:
                self._working -= 1
                self._news.notify_all()

    def _serve(self) -> None:
        scanner = self._started()
        size = BATCH_FILES
        try:
            while not self._stopped:
                self._credit.acquire()
                if self._stopped:
                    return
                number, batch = self._next_batch(size)
                if not batch:
                    return
                begin = time.monotonic()
                scanner, answered = self._answered(scanner, batch)
                seconds = time.monotonic() - begin
                size = _next_size(size, seconds)
                if seconds > len(batch) * _SLOW_FILE_S:
                    self._more.set()
                with self._news:
                    self._done[number] = answered
                    self._news.notify_all()
        finally:
            self._let_go(scanner)

    def _next_batch(self, size: int) -> tuple[int, list[Entry]]:
        batch: list[Entry] = []
        with self._take:
            number = self._taken
            self._begun = True
            if self._ended:
                return number, batch
            files = 0
            for entry in self._source:
                batch.append(entry)
                files += not isinstance(entry, Mark)
                if files >= size:
                    break
            else:
                self._ended = True
            if batch:
                self._taken += 1
        return number, batch

    def _answered(
        self, scanner: _Scanner | None, batch: list[Entry]
    ) -> tuple[_Scanner | None, list[tuple[Entry, HeaderAssembly | None, Any]]]:
        """Return the child to ask next, and each entry with what was answered."""
        files = [entry[0] for entry in batch if not isinstance(entry, Mark)]
        answers: Iterator[tuple[HeaderAssembly | None, Any]]
        told = scanner.ask(files) if scanner is not None and files else None
        if scanner is not None and told is not None:
            assembly = scanner.assembly
            answers = iter([(assembly, answer) for answer in told])
        elif not files:
            answers = iter(())
        else:
            if scanner is not None:
                self._let_go(scanner)
                scanner = self._started()
            scanner, singly = self._one_by_one(scanner, files)
            answers = iter(singly)
        return scanner, [
            (entry, None, None) if isinstance(entry, Mark) else (entry, *next(answers)) for entry in batch
        ]

    def _one_by_one(
        self, scanner: _Scanner | None, files: list[str]
    ) -> tuple[_Scanner | None, list[tuple[HeaderAssembly | None, Any]]]:
        """Ask for each file alone, so that the one that ends a child is known."""
        out: list[tuple[HeaderAssembly | None, Any]] = []
        alone = _Alone()
        for file in files:
            if self._stopped:
                out.append((None, NotDicom()))
                continue
            if scanner is None:  # no child can be started
                out.append((None, alone.outcome(file)))
                continue
            told = scanner.ask([file])
            if told is not None:
                out.append((scanner.assembly, told[0]))
                continue
            out.append((scanner.assembly, told_fault(_ended_reader())))
            self._let_go(scanner)
            scanner = self._started()
        return scanner, out

    def _started(self) -> _Scanner | None:
        try:
            scanner = _Scanner()
        except OSError:
            return None
        with self._news:
            self._scanners.add(scanner)
        if self._stopped:
            scanner.close()
        if not scanner.awake():
            self._let_go(scanner)
            return None
        return scanner

    def _let_go(self, scanner: _Scanner | None) -> None:
        if scanner is not None:
            scanner.close()
            scanner.release()
            with self._news:
                self._scanners.discard(scanner)


def _next_size(size: int, seconds: float) -> int:
    """Return how many files to ask for next: many where they are read fast, few where a medium is slow."""
    if seconds < _FAST_S:
        return min(MOST_BATCH_FILES, size * 2)
    return max(1, size // 2) if seconds > _SLOW_S else size


def _outcome(entry: Entry, assembly: HeaderAssembly | None, answer: Any) -> Outcome | None:
    """Turn a child's answer into a header or the reason why there is none."""
    if isinstance(entry, Mark):
        return None
    if assembly is None:
        return answer
    if answer == NOT_DICOM:
        return NotDicom()
    file = Path(entry[0])
    try:
        return assembly.header(file, heard(file, answer))
    except (AppError, IsDicomdir) as refusal:
        return refusal
    except (OSError, MemoryError, *RAISED_BY_LIBRARIES) as error:
        return _translation(error)


def _translation(error: BaseException) -> AppError:
    """Return our word for what a library raised; entering ``translated`` for each of ten thousand files is dear."""
    try:
        with translated("Reading the header"):
            raise error
    except AppError as refusal:
        return refusal


def _ended_reader() -> AppError:
    return malformed("The header cannot be read: its reader crashed or took too long.", "dicom.reader_ended")


def _environment() -> dict[str, str]:
    """Return our environment, with the folders of the sources and of the libraries."""
    environment = dict(os.environ)
    if not getattr(sys, "frozen", False):
        root = str(Path(core.__file__ or "").resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join([root, *(path for path in sys.path if path)])
    return environment
