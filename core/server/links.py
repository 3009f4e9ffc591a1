"""The web process's end of one model process: start it, ask it, notice its death, start it again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import sys
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from core.config.child_process import child_environment, creation_flags
from core.domain.errors import BugError
from core.server.frames import pack, read_frame
from core.server.item import Answer, Item
from core.server.limits import Limits

LOG = logging.getLogger(__name__)
STDERR_LOG = logging.getLogger("core.server.model.stderr")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _SETTLED_S = 0.1, 30.0, 30.0
_STREAM_BYTES = 1 << 20


class LinkLost(Exception):
    """The model process ended before it answered."""


@dataclass(frozen=True)
class ModelSettings:
    """How a model process is started.

    Attributes
    ----------
    bundle : pathlib.Path
        Folder or ``.zip`` of the bundle.
    devices : tuple of str
        One process each: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
    threads : int
        Of the network's computation; 0 chooses.
    batch, patience_ms : int, float
        Largest batch, and how long it waits for images that are being prepared.
    """

    bundle: Path
    home: Path
    devices: tuple[str, ...] = ("auto",)
    threads: int = 0
    batch: int = 16
    patience_ms: float = 2.0
    limits: Limits = field(default_factory=Limits)

    def command(self, device: str) -> list[str]:
        """Return the command line of a model process; it holds numbers and the bundle's place only."""
        named = {
            "home": self.home,
            "device": device.partition(":")[0],
            "threads": self.threads or 1,
            "batch": self.batch,
            "patience-ms": self.patience_ms,
        }
        named |= {each.name.replace("_", "-"): getattr(self.limits, each.name) for each in fields(Limits)}
        options = [word for name, value in named.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "core.server.model_process", str(self.bundle), *options]

    @staticmethod
    def environment(device: str) -> dict[str, str]:
        """Return the environment of a model process; of several GPUs it sees its own."""
        kind, _, number = device.partition(":")
        shown = {"CUDA_VISIBLE_DEVICES": number} if kind == "cuda" and number else {}
        return child_environment(**shown)


class ModelLink:
    """One model process for as long as the server runs; lives in the event loop's thread."""

    def __init__(self, settings: ModelSettings, device: str) -> None:
        self._settings = settings
        self.wanted_device, self.device = device, device
        self.engine, self.restarts, self.pid, self.failed = "", -1, 0, ""
        self.ready = asyncio.Event()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def load(self) -> int:
        """How many items wait for an answer."""
        return len(self._waiting)

    def start(self) -> None:
        """Start keeping a process alive."""
        self._keeper = asyncio.create_task(self._keep(), name=f"model-{self.wanted_device}")

    async def stop(self) -> None:
        """End the process; who still waits gets ``LinkLost``."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    async def ask(self, item: Item) -> Answer:
        """Return the answer of the process.

        Raises
        ------
        LinkLost
            When the process ended first.
        TimeoutError
            When it took longer than ``Limits.answer_s``; the process is ended, since it is stuck.
        """
        process = self._process
        if process is None or process.stdin is None or not self.ready.is_set():
            raise LinkLost
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            document, payload = item.to_frame(number)
            process.stdin.write(pack(document, payload))
            async with asyncio.timeout(self._settings.limits.answer_s):
                await process.stdin.drain()
                return await future
        except TimeoutError:
            LOG.error("the model on %s gave no answer in time; it is started again", self.device)
            self.kill()
            raise
        except ConnectionError as error:
            raise LinkLost from error
        finally:
            self._waiting.pop(number, None)

    def kill(self) -> None:
        """End the process at once; the keeper starts another."""
        if self._process is not None and self._process.returncode is None:
            self.ready.clear()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def memory_bytes(self) -> int:
        """Return the resident memory of the process."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.pid).memory_info().rss) if self.pid else 0
        return 0

    async def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                self.restarts += 1
                began = time.monotonic()
                await self._live()
                self._lost()
                if time.monotonic() - began > _SETTLED_S:
                    pause_s = _FIRST_PAUSE_S
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._lost()

    async def _live(self) -> None:
        """Start a process and read from it until it ends."""
        process = await asyncio.create_subprocess_exec(
            *self._settings.command(self.wanted_device),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_STREAM_BYTES,
            env=self._settings.environment(self.wanted_device),
            start_new_session=sys.platform != "win32",
            creationflags=creation_flags(),
        )
        self._process = process
        chatter = asyncio.create_task(self._log(process))
        assert process.stdout is not None
        try:
            while (frame := await read_frame(process.stdout)) is not None:
                self._take(*frame)
        except (BugError, ValueError):
            LOG.error("the model process on %s speaks no frames; it is started again", self.device)
        finally:
            self.ready.clear()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            status = await asyncio.shield(process.wait())
            chatter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await chatter
            self.pid = 0
        LOG.info("the model process on %s ended with status %d", self.device, status)

    def _take(self, document: dict[str, Any], payload: bytes) -> None:
        if "id" in document:
            future = self._waiting.get(document["id"])
            if future is not None and not future.done():
                future.set_result(Answer(document["status"], payload, document["batch"], document["ms"]))
        elif document.get("ready"):
            self.device, self.engine, self.pid = document["device"], document["engine"], document["pid"]
            if ":" in self.wanted_device and self.device == "cuda":
                self.device = self.wanted_device
            self.failed = ""
            self.ready.set()
        elif "fatal" in document:
            self.failed = str(document["fatal"]["message"])
            LOG.error("the model can't be loaded: %s", self.failed)

    def _lost(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LinkLost())

    async def _log(self, process: asyncio.subprocess.Process) -> None:
        """Pass the child's stray output to the log, so that a full pipe never stops it."""
        assert process.stderr is not None
        with contextlib.suppress(ValueError):
            while line := await process.stderr.readline():
                STDERR_LOG.info("%d bytes of output", len(line))


def thread_count(volumes: bool, devices: int) -> int:
    """Return the threads of each model process: the cores shared out, for pictures one left to the web process."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or usable, usable)
    return max(1, (cores - (0 if volumes else 1)) // max(1, devices))
