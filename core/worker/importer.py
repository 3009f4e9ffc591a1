"""``python -m core.worker.importer``: imports for the window, one order after the other.

Started by ``core.jobs.import_process``. The libraries are loaded at once, the home is opened by the first order. The
end of standard input ends the process, and with it the scanners that it started.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core.domain.progress import CancelToken
from core.domain.study import ImportReport, SeriesSummary
from core.jobs.import_process import document_of
from core.jobs.import_wire import (
    SKIPPED_AT_ONCE,
    Document,
    frame,
    read_document,
    told_error,
    told_series,
    told_skipped,
    told_study,
)
from core.worker import lifeline

if TYPE_CHECKING:
    from core.config.paths import Paths
    from core.services.engine import Engine

NICENESS = 5
PROGRESS_EVERY_S = 0.1


class Importer:
    """Serves one window.

    Threads: the main thread imports; ``orders`` reads messages and ends the process with its parent.
    """

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target
        self._orders: queue.SimpleQueue[Document] = queue.SimpleQueue()
        self._cancel = CancelToken()
        self._engine: Engine | None = None
        self._told_at = 0.0
        self._told_phase = ""

    def serve(self) -> None:
        """Obey until the window goes; never returns."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        _load_libraries()
        self._say({"say": "ready"})
        while True:
            self._do(self._orders.get())

    def _listen(self) -> None:
        try:
            while (order := read_document(self._source.read)) is not None:
                if order["say"] == "cancel":
                    self._cancel.cancel()
                elif order["say"] == "run":
                    self._cancel = order["cancel"] = CancelToken()
                    self._orders.put(order)
        except (OSError, ValueError):
            pass
        os._exit(lifeline.PARENT_GONE)

    def _do(self, order: Document) -> None:
        try:
            report = self._import(order)
            for study in report.studies:
                self._say({"say": "study", "study": told_study(study)})
            skipped = [told_skipped(file) for file in report.skipped]
            for start in range(0, len(skipped), SKIPPED_AT_ONCE):
                self._say({"say": "skipped", "files": skipped[start : start + SKIPPED_AT_ONCE]})
            self._say(document_of(report))
        except Exception as error:  # noqa: BLE001 - whatever it is, the window must hear of it
            self._say(told_error(error))

    def _import(self, order: Document) -> ImportReport:
        from core.services.import_study import import_paths

        return import_paths(
            self._opened(order),
            [Path(path) for path in order["paths"]],
            mode=order["mode"],
            progress=self._progress,
            cancel=order["cancel"],
            on_series=self._series,
            password=order["password"],
        )

    def _opened(self, order: Document) -> Engine:
        from core.services.engine import open_engine

        if self._engine is None:
            home = None if order["home"] is None else Path(order["home"])
            self._engine = open_engine(
                home,
                actor=order["actor"] or None,
                configure=_log_to_file,
            )
        return self._engine

    def _progress(self, phase: str, fraction: float) -> None:
        now = time.monotonic()
        if phase == self._told_phase and fraction < 1.0 and now - self._told_at < PROGRESS_EVERY_S:
            return
        self._told_at, self._told_phase = now, phase
        self._say({"say": "progress", "phase": phase, "fraction": fraction})

    def _series(self, series: SeriesSummary) -> None:
        self._say({"say": "series", "series": told_series(series)})

    def _say(self, document: Document) -> None:
        try:
            self._target.write(frame(document))
            self._target.flush()
        except OSError:
            os._exit(lifeline.PARENT_GONE)


def _log_to_file(paths: Paths) -> None:
    from core.config.logs import configure_logging

    configure_logging(paths, name="import")


def _load_libraries() -> None:
    from core.services import engine, import_study, thumbnails  # noqa: F401


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the parent over the standard streams; the command line carries a number only."""
    parser = argparse.ArgumentParser(prog="overread-import", description="Started by Overread, not by hand.")
    parser.add_argument("--parent", type=int, default=0, help="process number of the window")
    options = parser.parse_args(argv)
    lifeline.die_with_parent(options.parent)
    lifeline.yield_to_others(NICENESS)
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library prints or reads must not get between the messages.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    faulthandler.enable(sys.stderr)
    Importer(source, target).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
