"""``python -m core.dicom.scanner_process``: reads headers, a batch of files after the other, for its parent.

Requests come on standard input, answers go to standard output (``scanner_wire``): first the wanted tags, then lists of
paths, each answered by a list of as many headers. An empty answer at the beginning says that it is awake. Nothing
stands on the command line, nothing is written to a file.

Lifeline: the end of standard input ends the process. A watchdog in C ends it when a batch takes too long, and the
system refuses it more memory than the largest legitimate header needs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
from typing import IO, Any

from core.dicom.faults import RAISED_BY_LIBRARIES, translated
from core.dicom.part10 import NotDicom
from core.dicom.quick_reader import QuickReader
from core.dicom.scanner_wire import NOT_DICOM, read_batch, told, told_fault, write_batch
from core.domain.errors import AppError

if sys.platform != "win32":
    import resource

BATCH_LIMIT_S = 60.0
FILE_LIMIT_S = 10.0
MEMORY_LIMIT_BYTES = 3 << 30
"""Address space; an inflated data set may have 1 GB, which is held twice for a moment."""


def serve(requests: IO[bytes], answers: IO[bytes], log: IO[str]) -> None:
    """Answer requests until the stream ends."""
    wanted = read_batch(requests)
    if wanted is None:
        return
    write_batch(answers, [])  # awake
    gc.disable()  # nothing here makes circles, and the process lives as long as one scan
    reader = QuickReader(frozenset(wanted))
    while (files := read_batch(requests)) is not None:
        limit_s = FILE_LIMIT_S if len(files) == 1 else BATCH_LIMIT_S
        faulthandler.dump_traceback_later(limit_s, exit=True, file=log)
        batch = [_answer(reader, file) for file in files]
        faulthandler.cancel_dump_traceback_later()
        write_batch(answers, batch)


def _answer(reader: QuickReader, file: str) -> Any:
    try:
        return told(reader.read(file))
    except NotDicom:
        return NOT_DICOM
    except AppError as error:
        return told_fault(error)
    except (OSError, MemoryError, *RAISED_BY_LIBRARIES) as error:
        try:
            with translated("Reading the header"):
                raise error
        except AppError as refusal:
            return told_fault(refusal)


def main() -> int:
    """Serve the parent over the standard streams."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold identity
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = MEMORY_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 1)
    with os.fdopen(quiet, "w", encoding="utf-8") as log, contextlib.suppress(BrokenPipeError, EOFError):
        serve(requests, answers, log)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
