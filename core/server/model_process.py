"""One model on one device: ``python -m core.server.model_process``, started by the web process, not by hand.

Threads: the main thread runs the network, ``reader`` reads frames (the end of the stream ends the process: nobody is
left to answer), a small pool reads and prepares images. What libraries print goes to standard error.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from core.config.logs import configure_logging, enable_crash_file, quiet_library_warnings
from core.config.paths import Paths
from core.domain.errors import AppError
from core.server.batching import Gathering
from core.server.frames import pack, read_frame_blocking
from core.server.item import Item
from core.server.limits import Limits

if TYPE_CHECKING:
    from core.server.answering import Answerer, Prepared

LOG = logging.getLogger("core.server.model_process")
PARENT_GONE = 3
_LARGE_BYTES = 8 << 20
_PR_SET_PDEATHSIG = 1


class Serving:
    """Answers frames until the other side goes away."""

    def __init__(
        self, answerer: Answerer, source: BinaryIO, target: int, most: int, patience_s: float
    ) -> None:
        self._answerer, self._source, self._target = answerer, source, target
        self._gathering: Gathering[tuple[int, Prepared]] = Gathering(most, patience_s)
        self._pool = ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 1) - 1)), "prepare")

    def serve(self) -> None:
        """Run; ends with the process."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while batch := self._gathering.take():
            answers = self._answerer.answer([prepared for _, prepared in batch])
            heads = (
                pack({"id": number, "status": a.status, "batch": a.batch, "ms": a.milliseconds}, (a.body,))
                for (number, _), a in zip(batch, answers, strict=True)
            )
            send(self._target, b"".join(heads))
            large = any(_bytes_of(prepared) > _LARGE_BYTES for _, prepared in batch)
            del batch, answers
            if large:
                give_memory_back()

    def _read(self) -> None:
        while (frame := read_frame_blocking(self._source)) is not None:
            document, payload = frame
            self._gathering.announce()
            self._pool.submit(self._prepare, document, payload)
        os._exit(PARENT_GONE)

    def _prepare(self, document: dict[str, Any], payload: bytes) -> None:
        self._gathering.put((document["id"], self._answerer.prepare(Item.from_frame(document, payload))))


def _bytes_of(prepared: Prepared) -> int:
    return sum(volume.voxels.nbytes for volume in prepared.volumes.values())


def send(target: int, data: bytes) -> None:
    """Write all of it; a web process that is gone needs no answer."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(target, view) :]
    except OSError:
        os._exit(PARENT_GONE)


def give_memory_back() -> None:
    """Return freed memory to the system after a large image (glibc keeps it otherwise)."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def die_with_parent() -> None:
    """Ask Linux for SIGKILL when the web process dies; elsewhere the end of the pipe does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def own_streams() -> tuple[BinaryIO, int]:
    """Take the standard streams away from everybody else, so that no print gets between two frames."""
    source, target = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, target


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model, say that it is ready, answer."""
    parser = argparse.ArgumentParser(description="Started by overread serve, not by hand.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patience-ms", type=float, default=2.0)
    for each in fields(Limits):
        kind = float if isinstance(each.default, float) else int
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, default=each.default)
    options = parser.parse_args(argv)
    source, target = own_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    paths = Paths.resolve(options.home)
    configure_logging(paths, name="serve-model")
    enable_crash_file(paths, "serve-model")
    quiet_library_warnings()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    limits = Limits(**{each.name: getattr(options, each.name) for each in fields(Limits)})
    try:
        answerer = _load(options, limits, paths)
    except AppError as error:
        send(target, pack({"fatal": error.as_dict()}))
        sys.exit(1)
    gc.collect()
    gc.freeze()
    ready = {"ready": True, "pid": os.getpid(), "device": answerer.device, "engine": answerer.engine}
    send(target, pack(ready))
    LOG.info("serving %s on %s with %s", answerer.bundle.id, answerer.device, answerer.engine)
    Serving(answerer, source, target, options.batch, options.patience_ms / 1000).serve()


def _load(options: argparse.Namespace, limits: Limits, paths: Paths) -> Answerer:
    # torch is loaded here, after the number of its threads is known
    from core.bundles.bundle import read_bundle
    from core.server.answering import Answerer

    return Answerer(read_bundle(options.bundle), options.device, limits, paths.root / "probes", paths.temp)


if __name__ == "__main__":
    main()
