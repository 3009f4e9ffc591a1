"""Starts the window: ``python -m app [--home DIR] [--sample] [FILE …]``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from app.bootstrap import Application, Start
from app.bridge import collector
from app.bridge.single_instance import Request, SingleInstance
from core.config.paths import Paths

_WAKE_MS = 500
_CARE_AFTER_MS = 15_000
_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter's lock while the GUI thread waits for it.

Handling one event takes the lock many times over; with Python's 5 ms, two busy threads made it late by 50 ms.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the window until it is closed; returns the exit status."""
    start = _parse(sys.argv[1:] if arguments is None else arguments)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    collector.calm()
    qt = QApplication([sys.argv[0]])
    qt.setApplicationName("overread")
    qt.setApplicationDisplayName("Overread")
    guard = SingleInstance(Paths.resolve(start.home).root)
    if not guard.claim(Request(tuple(file.absolute() for file in start.files), start.sample)):
        return 0
    application = Application(qt, start)
    guard.received = lambda request: application.join(request.files, request.sample)
    signal.signal(signal.SIGTERM, lambda *_: application.window.close())
    signal.signal(signal.SIGINT, lambda *_: application.window.close())
    # Python handles signals between byte codes: an idle event loop needs to wake now and then.
    waker = QTimer()
    waker.timeout.connect(lambda: None)
    waker.start(_WAKE_MS)
    collector.set_aside()
    application.show()
    status = qt.exec()
    application.close()
    guard.release()
    return status


def _parse(arguments: Sequence[str]) -> Start:
    parser = argparse.ArgumentParser(prog="overread-app", description="Overread: not for primary diagnosis.")
    parser.add_argument("--home", type=Path, help="data folder (else OVERREAD_HOME, else the platform's)")
    parser.add_argument("--sample", action="store_true", help="make and open the sample study")
    parser.add_argument("files", nargs="*", type=Path, help="files or folders to import and open")
    known = parser.parse_args(arguments)
    return Start(known.home, known.sample, tuple(known.files), _CARE_AFTER_MS)


if __name__ == "__main__":
    sys.exit(main())
