"""Child processes that decode compressed frames.

Why processes: every codec that we use (CharLS, OpenJPEG, libjpeg in GDCM, the RLE decoder) holds the interpreter's
lock from the first byte to the last, up to a second for a mammogram; in threads they would stop the window
and each other. And a damaged file that crashes a codec, or lets it run or grow without end, costs a child and
not the program. The pixels come back through a pipe, which costs a tenth of the decoding.

Children are kept for the next frame and leave by themselves when nothing is asked of them (``decoder_process``).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.config.child_process import child_environment, creation_flags
from core.dicom.codec import CodedFrame, undecodable, wrong_size
from core.dicom.faults import malformed
from core.dicom.frame_pipe import read_head, read_into, write_message
from core.domain.errors import AppError, BugError, EnvironmentFault, InputError

if sys.platform == "linux":
    import fcntl

_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20
MOST_FRAME_BYTES = 1 << 30
_TIMED_OUT = 1
"""Exit status that the watchdog of ``decoder_process`` leaves."""
_LEFT_AT_ONCE_S = 5.0


def decoder_command() -> list[str]:
    """Return the program that decodes: the worker executable of a frozen build, else this interpreter."""
    if getattr(sys, "frozen", False):
        name = "overread-worker.exe" if sys.platform == "win32" else "overread-worker"
        return [str(Path(sys.executable).with_name(name)), "decode"]
    return [sys.executable, "-m", "core.dicom.decoder_process"]


class DecoderEnded(Exception):
    """The child is gone; ``status`` is its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the decoder ended with status {status}")
        self.status = status


class DecoderChild:
    """One decoder process. Used by one thread at a time.

    Raises
    ------
    EnvironmentFault
        If the program cannot be started (``dicom.decoder_not_started``).
    """

    def __init__(self) -> None:
        try:
            self._popen = subprocess.Popen(
                decoder_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=child_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
                creationflags=creation_flags(),
            )
        except OSError as error:
            raise EnvironmentFault(
                "dicom.decoder_not_started",
                f"The program that decodes images cannot be started ({type(error).__name__}, error {error.errno}).",
                "Check the installation with 'overread doctor'.",
            ) from error
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._requests, self._answers = self._popen.stdin, self._popen.stdout
        if sys.platform == "linux":
            # A slice then passes in one piece, without a switch of processes every 64 KB.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._answers.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def pid(self) -> int:
        """Process number."""
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._popen.poll() is None

    def decode(self, coded: CodedFrame, data: bytes) -> NDArray:
        """Return the decoded frame; waits without the interpreter's lock.

        Raises
        ------
        DecoderEnded
            When the process is gone.
        AppError
            What the decoder refused.
        """
        try:
            write_message(self._requests, json.dumps(vars(coded)).encode(), data)
            head = read_head(self._answers)
            if head is None:
                raise EOFError
            answer = json.loads(head[0])
            if "error" in answer:
                raise _refusal(answer["error"])
            return self._pixels(coded, answer, head[1])
        except (BrokenPipeError, EOFError, ConnectionError) as error:
            raise DecoderEnded(self.close()) from error

    def _pixels(self, coded: CodedFrame, answer: dict[str, object], count: int) -> NDArray:
        dtype = np.dtype(str(answer["dtype"]))
        expected = (*coded.shape[:2], 3) if coded.samples > 1 else coded.shape
        if dtype.kind not in "iuf" or tuple(answer["shape"]) != expected:  # type: ignore[arg-type]
            self.close()
            raise wrong_size()
        out = np.empty(expected, dtype=dtype)
        if out.nbytes != count:
            self.close()
            raise wrong_size()
        read_into(self._answers, out.reshape(-1).view("u1").data)
        return out

    def close(self) -> int:
        """End the process and return its exit status."""
        self._requests.close()
        try:
            status = self._popen.wait(1.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            status = self._popen.wait()
        self._answers.close()
        return status


class DecoderPool:
    """Hands out decoder processes; as many as threads ask at once. Thread-safe."""

    def __init__(self) -> None:
        self._idle: list[DecoderChild] = []
        self._lock = threading.Lock()

    def decode(self, coded: CodedFrame, data: bytes) -> NDArray:
        """Return the frame decoded in a child process; see ``codec.decode_frame``.

        Raises
        ------
        InputError
            When the frame cannot be decoded, or its decoding takes too long, too much memory, or crashes.
        EnvironmentFault
            When no decoder can be started.
        """
        if coded.decoded_bytes > MOST_FRAME_BYTES:
            raise malformed(
                f"One frame would have {coded.decoded_bytes >> 20} MB; the most is {MOST_FRAME_BYTES >> 20} MB.",
                "dicom.too_large",
            )
        child, used = self._take()
        asked_at = time.monotonic()
        try:
            try:
                pixels = child.decode(coded, data)
            except DecoderEnded:
                if not used or time.monotonic() - asked_at > _LEFT_AT_ONCE_S:
                    raise
                # It may have left for lack of work just now: ask a fresh one, once.
                child = DecoderChild()
                pixels = child.decode(coded, data)
        except DecoderEnded as ended:
            raise _death(coded, ended.status) from ended
        except AppError:
            self._give_back(child)
            raise
        except BaseException:
            child.close()
            raise
        self._give_back(child)
        return pixels

    def _take(self) -> tuple[DecoderChild, bool]:
        """Return a child, and whether it has worked before."""
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return DecoderChild(), False
            if child.is_alive:
                return child, True
            child.close()

    def _give_back(self, child: DecoderChild) -> None:
        if child.is_alive:
            with self._lock:
                self._idle.append(child)

    def close(self) -> None:
        """End the children that wait; the next frame starts a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.close()


decoders = DecoderPool()
atexit.register(decoders.close)


def _refusal(told: dict[str, str]) -> AppError:
    family = {"input": InputError, "environment": EnvironmentFault}.get(told["family"], BugError)
    return family(told["code"], told["message"], told["remedy"])


def _death(coded: CodedFrame, status: int) -> InputError:
    why = "took too long" if status == _TIMED_OUT else f"crashed (status {status})"
    return undecodable(coded, f" The decoder {why}.")
