"""How long until the window is usable: process start → first paint → event loop idle, beside napari.

Run: ``python tests/performance/startup.py --json [--rounds N]``. The peer runs in the environment whose Python
``NAPARI_PYTHON`` names; make one with ``python -m venv V && V/bin/pip install "napari[pyqt6]"``.
Rounds are interleaved; medians are compared. Both open an empty window on the same X display.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 180

OURS = """
import sys, time
from pathlib import Path
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from app.bootstrap import Application, Start
qt = QApplication(["overread"])
application = Application(qt, Start(home=Path(sys.argv[1])))
marks = {}
def painted():
    QTimer.singleShot(0, idle)
def idle():
    marks.setdefault("usable", time.monotonic())
def listed():
    if "library" not in marks:
        marks["library"] = time.monotonic()
        marks["heavy"] = sorted({"torch", "onnxruntime", "monai", "captum", "vtkmodules"} & set(sys.modules))
        QTimer.singleShot(0, application.window.close)
before = application.worklist.refreshed
application.worklist.refreshed = lambda: (before(), listed())
application.window.first_painted.connect(painted)
application.show()
qt.exec()
import json
print(json.dumps(marks))
"""

NAPARI = """
import time, json
import napari
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=False)
window = viewer.window._qt_window
marks = {}
class Watch(QObject):
    def eventFilter(self, watched, event):
        if event.type() == QEvent.Type.Paint and "painted" not in marks:
            marks["painted"] = 1
            QTimer.singleShot(0, lambda: QTimer.singleShot(0, idle))
        return False
def idle():
    marks["usable"] = time.monotonic()
    QTimer.singleShot(0, finish)
def finish():
    viewer.close()
    QApplication.instance().quit()
watch = Watch()
window.installEventFilter(watch)
viewer.show()
napari.run()
print(json.dumps({"usable": marks["usable"]}))
"""


@contextlib.contextmanager
def display() -> Iterator[dict[str, str]]:
    """Yield an environment with a display, an own Xvfb when there is none."""
    environment = dict(os.environ)
    if environment.get("DISPLAY"):
        yield environment
        return
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1920x1080x24"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as answer:
        environment["DISPLAY"] = f":{answer.readline().strip()}"
    try:
        yield environment
    finally:
        server.terminate()
        server.wait(10)


def once(python: str, code: str, arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Start a program and return its marks in seconds since just before its process began."""
    began = time.monotonic()
    done = subprocess.run(
        [python, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        raise SystemExit(f"{python} failed: {done.stderr[-2000:]}")
    marks = json.loads(done.stdout.strip().splitlines()[-1])
    if marks.get("heavy"):
        raise SystemExit(f"the window loaded {marks['heavy']}")
    return {name: value - began for name, value in marks.items() if isinstance(value, float)}


def measure(rounds: int) -> dict[str, object]:
    """Run interleaved rounds and return the document of the contract."""
    peer = os.environ.get("NAPARI_PYTHON", "")
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with display() as environment, tempfile.TemporaryDirectory() as home:
        for number in range(rounds + 1):
            mine = once(sys.executable, OURS, [home], environment)
            other = once(peer, NAPARI, [], environment) if peer else {}
            if number:  # the first round fills the disk cache of both
                ours.append(mine)
                theirs.append(other)
    usable = statistics.median(mark["usable"] for mark in ours)
    document: dict[str, object] = {
        "name": "startup",
        "ratios": {},
        "ours": {
            "usable_s": round(usable, 3),
            "library_open_s": round(statistics.median(mark["library"] for mark in ours), 3),
        },
        "peers": {},
        "rounds": rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    if peer:
        napari = statistics.median(mark["usable"] for mark in theirs)
        document["peers"] = {"napari": {"usable_s": round(napari, 3)}}
        document["ratios"] = {"ours/napari": round(usable / napari, 3)}
    else:
        print(
            'napari is absent: pip install "napari[pyqt6]" elsewhere, then set NAPARI_PYTHON', file=sys.stderr
        )
    return document


def main() -> int:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    document = measure(arguments.rounds)
    print(json.dumps(document, indent=None if arguments.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
