"""Draws pages of PDF documents in a child process: a hostile document costs the child, not the program."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.config.child_process import child_environment, creation_flags
from core.dicom.frame_pipe import read_exactly, read_head, write_message
from core.domain.errors import AppError, BugError, EnvironmentFault, InputError

MAX_DOCUMENT_BYTES = 256 << 20
LEAST_WIDTH, MOST_WIDTH = 16, 4096
_TIMED_OUT = 1
"""Exit status that the watchdog of ``page_process`` leaves."""


def page_command() -> list[str]:
    """Return the program that draws: the worker executable of a frozen build, else this interpreter."""
    if getattr(sys, "frozen", False):
        name = "overread-worker.exe" if sys.platform == "win32" else "overread-worker"
        return [str(Path(sys.executable).with_name(name)), "pages"]
    return [sys.executable, "-m", "core.dicom.derived.page_process"]


class PagePool:
    """One drawing process, kept for the next page. Thread-safe; one page at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def count(self, document: bytes) -> int:
        """Return the number of pages.

        Raises
        ------
        InputError
            When it is no readable PDF, or is protected by a password.
        EnvironmentFault
            When the process can't be started.
        """
        return int(self._ask(document, -1, LEAST_WIDTH)[0]["pages"])

    def draw(self, document: bytes, page: int, width_px: int) -> NDArray[np.uint8]:
        """Return page ``page`` (from 0) as ``(H, W, 3)`` RGB; raises as ``count``."""
        width = max(LEAST_WIDTH, min(MOST_WIDTH, width_px))
        answer, pixels = self._ask(document, page, width)
        height, drawn_width = answer["shape"]
        if height * drawn_width * 3 != len(pixels):
            raise _broken("answered nonsense")
        picture = np.frombuffer(pixels, dtype=np.uint8).reshape(height, drawn_width, 3)
        picture.flags.writeable = False
        return picture

    def _ask(self, document: bytes, page: int, width: int) -> tuple[dict, bytearray]:
        if len(document) > MAX_DOCUMENT_BYTES:
            raise InputError(
                "document.too_large",
                f"The document has {len(document) >> 20} MB; {MAX_DOCUMENT_BYTES >> 20} MB are the most.",
                "Ask for it where it was made.",
            )
        with self._lock:
            child, used = self._taken()
            try:
                answer = _exchange(child, document, page, width)
            except (BrokenPipeError, EOFError, ConnectionError):
                status = self._end()
                if not used or status == _TIMED_OUT:
                    raise _broken(
                        "took too long" if status == _TIMED_OUT else f"crashed (status {status})"
                    ) from None
                # It may have left for lack of work just now: ask a fresh one, once.
                child, _ = self._taken()
                try:
                    answer = _exchange(child, document, page, width)
                except (BrokenPipeError, EOFError, ConnectionError) as error:
                    status = self._end()
                    why = "took too long" if status == _TIMED_OUT else f"crashed (status {status})"
                    raise _broken(why) from error
        if "error" in answer[0]:
            raise _refusal(answer[0]["error"])
        return answer

    def _taken(self) -> tuple[subprocess.Popen[bytes], bool]:
        """Return the process, and whether it has worked before."""
        if self._child is not None and self._child.poll() is None:
            return self._child, True
        self._end()
        try:
            self._child = subprocess.Popen(
                page_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=child_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
                creationflags=creation_flags(),
            )
        except OSError as error:
            raise EnvironmentFault(
                "document.reader_not_started",
                f"The program that draws documents cannot be started ({type(error).__name__}, error {error.errno}).",
                "Check the installation with 'overread doctor'.",
            ) from error
        return self._child, False

    def _end(self) -> int:
        """End the process and return its exit status."""
        child, self._child = self._child, None
        if child is None:
            return 0
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        try:
            status = child.wait(1.0)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
        child.stdout.close()
        return status

    def close(self) -> None:
        """End the process; the next page starts a new one."""
        with self._lock:
            self._end()


pages = PagePool()
atexit.register(pages.close)


def _exchange(
    child: subprocess.Popen[bytes], document: bytes, page: int, width: int
) -> tuple[dict, bytearray]:
    assert child.stdin is not None
    assert child.stdout is not None
    write_message(child.stdin, json.dumps({"page": page, "width": width}).encode(), document)
    head = read_head(child.stdout)
    if head is None:
        raise EOFError
    return json.loads(head[0]), read_exactly(child.stdout, head[1])


def _refusal(told: dict[str, str]) -> AppError:
    family = {"input": InputError, "environment": EnvironmentFault}.get(told["family"], BugError)
    return family(told["code"], told["message"], told["remedy"])


def _broken(why: str) -> InputError:
    return InputError(
        "document.undrawable", f"The page can't be drawn: the program {why}.", "Ask for it where it was made."
    )
