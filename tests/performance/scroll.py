"""Time from a wheel event to the painted frame, three linked 512² planes in a window of 1920×1080.

``python tests/performance/scroll.py --json`` opens real windows, ours and napari's, in turns (a fresh process
each), posts wheel events to each plane in turn and takes the time until Qt has painted and flushed every
viewport that the event changed. Without a display it starts an Xvfb of its own. napari is found in this
environment or through ``NAPARI_PYTHON``, the Python of an environment that has it.

The last part counts how often the GUI thread was late by more than 50 ms while another process computes at the
worker's priority, and how much of that it spent waiting for a processor that other programs held.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SIZE = (1920, 1080)
SHAPE = (300, 512, 512)
TIMEOUT_S = 10.0
STALL_MS = 50.0
BEAT_MS = 5
WORKER_NICENESS = 5  # as core.jobs.launcher starts it


def volume() -> np.ndarray:
    """Seeded int16 volume with edges and noise, ``(300, 512, 512)``."""
    rng = np.random.default_rng(3)
    k, j, i = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((j - 256) / 180.0) ** 2 + ((i - 256) / 220.0) ** 2 + 0 * k < 1
    out = np.where(body, 40, -1000).astype(np.int16)
    out[:, 180:330, 120:220] = -850
    out += rng.integers(-60, 60, SHAPE, dtype=np.int16)
    return out


def percentiles(times_ms: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum in milliseconds."""
    return {
        "p50_ms": round(float(np.percentile(times_ms, 50)), 3),
        "p95_ms": round(float(np.percentile(times_ms, 95)), 3),
        "max_ms": round(max(times_ms), 3),
        "events": len(times_ms),
    }


def drive(
    app: object, post: Callable[[int, int], None], painted: Callable[[], bool], events: int
) -> list[float]:
    """Post wheel events one by one; milliseconds from each until ``painted`` and its flush are over.

    ``post(plane, direction)`` sends one notch to a plane (0…2); ``painted`` says whether every viewport
    that had to change has painted since.
    """
    times = []
    for n in range(events + 6):
        plane, direction = n % 3, -1 if (n // 60) % 2 == 0 else 1
        begin = time.perf_counter()
        post(plane, direction)
        while not painted():
            app.processEvents()  # type: ignore[attr-defined]
            if time.perf_counter() - begin > TIMEOUT_S:
                raise TimeoutError(f"no frame {TIMEOUT_S} s after wheel event {n}")
        if n >= 6:
            times.append((time.perf_counter() - begin) * 1e3)
        app.processEvents()  # type: ignore[attr-defined]
    return times


def send_wheel(widget: object, direction: int, control: bool) -> None:
    """Post one notch of the wheel over the middle of a widget."""
    if control:
        from qtpy.QtCore import QCoreApplication, QPoint, QPointF, Qt
        from qtpy.QtGui import QWheelEvent
    else:
        from PySide6.QtCore import QCoreApplication, QPoint, QPointF, Qt
        from PySide6.QtGui import QWheelEvent
    middle = QPointF(widget.width() / 2, widget.height() / 2)  # type: ignore[attr-defined]
    modifiers = Qt.KeyboardModifier.ControlModifier if control else Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(
        middle,
        QPointF(widget.mapToGlobal(middle.toPoint())),  # type: ignore[attr-defined]
        QPoint(),
        QPoint(0, 120 * direction),
        Qt.MouseButton.NoButton,
        modifiers,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QCoreApplication.postEvent(widget, event)


def ours_window() -> tuple[object, object, object]:
    """Our reading area with the synthetic series in a real window; (application, presenter, area)."""
    sys.path.insert(0, str(ROOT))
    from PySide6.QtWidgets import QApplication

    from app.presenters.reading import ReadingPresenter
    from app.views.reading_area import ReadingArea
    from app.views.theme import Theme
    from core.domain.geometry import VolumeGeometry
    from core.domain.volume import Volume

    app = QApplication([])
    presenter = ReadingPresenter()
    area = ReadingArea(presenter, Theme.load("dark"))
    area.resize(*SIZE)
    geometry = VolumeGeometry.from_axes(SHAPE, (0.8, 0.8, 1.0), np.eye(3), (0.0, 0.0, 0.0), "1.2.3")
    presenter.show_volume(Volume(geometry, volume(), "CT", "1.2.3.4", units="HU", body_part="CHEST"))
    area.show()
    for _ in range(20):
        app.processEvents()
        time.sleep(0.01)
    return app, presenter, area


def child_ours(events: int) -> dict[str, object]:
    """Measure our window."""
    app, _presenter, area = ours_window()
    from app.presenters.reading_state import Slot

    slots = (Slot.AXIAL, Slot.CORONAL, Slot.SAGITTAL)
    fresh: set[str] = set()
    area.viewport_painted.connect(fresh.add)  # type: ignore[attr-defined]
    wanted = {slot.value for slot in slots}

    def post(plane: int, direction: int) -> None:
        fresh.clear()
        send_wheel(area.viewport(slots[plane]), direction, control=False)  # type: ignore[attr-defined]

    # The crosshair moves in the other two planes, so each event must repaint all three.
    times = drive(app, post, lambda: wanted <= fresh, events)
    area.shutdown()  # type: ignore[attr-defined]
    return {**percentiles(times), "window": [area.width(), area.height()]}  # type: ignore[attr-defined]


def child_napari(events: int) -> dict[str, object]:
    """Measure three linked napari canvases in one window: Ctrl+wheel is its key for scrolling."""
    import napari
    from napari.components.viewer_model import ViewerModel
    from napari.qt import QtViewer
    from qtpy.QtWidgets import QApplication, QGridLayout, QWidget

    app = QApplication.instance() or QApplication([])
    data = volume()
    window = QWidget()
    window.resize(*SIZE)
    grid = QGridLayout(window)
    grid.setContentsMargins(0, 0, 0, 0)
    models, canvases = [], []
    for n, order in enumerate(((0, 1, 2), (1, 0, 2), (2, 0, 1))):
        model = ViewerModel()
        model.add_image(data, contrast_limits=(-1350, 150), scale=(1.0, 0.8, 0.8))
        model.dims.order = order
        viewer = QtViewer(model)
        viewer.dockLayerList.hide() if hasattr(viewer, "dockLayerList") else None
        grid.addWidget(viewer, n // 2, n % 2)
        models.append(model)
        canvases.append(viewer.canvas)
    for model in models:
        model.dims.set_current_step((0, 1, 2), (150, 256, 256))

    def link(source: object) -> None:
        for other in models:
            if other is not source and other.dims.current_step != source.dims.current_step:  # type: ignore[attr-defined]
                other.dims.current_step = source.dims.current_step  # type: ignore[attr-defined]

    for model in models:
        model.dims.events.current_step.connect(lambda _event, source=model: link(source))
    window.show()
    for model in models:
        model.reset_view()
    for _ in range(60):
        app.processEvents()
        time.sleep(0.02)
    drawn: set[int] = set()
    for n, canvas in enumerate(canvases):
        canvas._scene_canvas.events.draw.connect(lambda _event, n=n: drawn.add(n), position="last")
    before = {"step": models[0].dims.current_step, "plane": 0}

    def post(plane: int, direction: int) -> None:
        drawn.clear()
        before.update(step=models[plane].dims.current_step, plane=plane)
        send_wheel(canvases[plane].native, direction, control=True)

    def painted() -> bool:
        plane = before["plane"]
        return models[plane].dims.current_step != before["step"] and plane in drawn

    times = drive(app, post, painted, events)
    sizes = [[c.native.width(), c.native.height()] for c in canvases]
    return {**percentiles(times), "version": napari.__version__, "canvases": sizes}


def _burn(seconds: float) -> None:
    """Compute on all cores in a session of its own, as nice as the worker is."""
    sys.path.insert(0, str(ROOT))
    from core.worker.lifeline import yield_to_others

    if hasattr(os, "setsid"):
        os.setsid()
    yield_to_others(WORKER_NICENESS)
    end = time.monotonic() + seconds
    matrix = np.random.default_rng(0).random((400, 400))
    while time.monotonic() < end:
        matrix = matrix @ matrix
        matrix /= np.abs(matrix).max()


class Beats:
    """A heartbeat on the GUI thread: when it beat, what the thread computed, how long it waited for a processor.

    Linux tells the wait in ``schedstat``; elsewhere it counts as zero, and every delay as ours.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self._schedstat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")

    def __call__(self) -> None:
        """Beat."""
        self.rows.append((time.perf_counter() * 1e3, time.thread_time() * 1e3, self._waited_ms()))

    def _waited_ms(self) -> float:
        try:
            return int(self._schedstat.read_text().split()[1]) / 1e6
        except OSError:
            return 0.0

    def figures(self, interval_ms: float) -> dict[str, object]:
        """The delays beyond ``interval_ms`` between two beats, and where they came from."""
        late, work, waited = np.diff(np.array(self.rows), axis=0).T
        late = late - interval_ms
        others = np.minimum(waited, late)
        worst = int(late.argmax())
        return {
            "stall_ms_max": round(float(late[worst]), 2),
            "stalls_over_50ms": int((late > STALL_MS).sum()),
            # The longest stall in parts: computing; able to run while other programs had the processor; blocked
            # (by a lock, or by the display server, which waits for a processor too).
            "stall_ms_max_parts": {
                "work": round(float(work[worst]), 2),
                "waiting_for_cpu": round(float(others[worst]), 2),
                "blocked": round(max(0.0, float(late[worst] + interval_ms - work[worst] - waited[worst])), 2),
            },
            # What is left when the wait for a processor is taken from every stall.
            "without_waiting_ms_max": round(float((late - others).max()), 2),
            "without_waiting_over_50ms": int((late - others > STALL_MS).sum()),
            # Processor time of the GUI thread between two beats: its own work, however busy the machine is.
            "work_ms_max": round(float(work.max()), 2),
            "waiting_for_cpu_percent": round(100.0 * float(waited.sum() / (late + interval_ms).sum()), 1),
        }


def child_stalls(seconds: int) -> dict[str, object]:
    """Scroll at 60 notches a second while another process computes; how late was the event loop?"""
    app, _presenter, area = ours_window()
    from PySide6.QtCore import QTimer

    from app.presenters.reading_state import Slot

    slots = (Slot.AXIAL, Slot.CORONAL, Slot.SAGITTAL)
    busy = multiprocessing.get_context("spawn").Process(
        target=_burn, args=(float(seconds) + 2.0,), daemon=True
    )
    busy.start()
    time.sleep(1.0)
    beats = Beats()
    count = [0]

    def scroll() -> None:
        count[0] += 1
        send_wheel(area.viewport(slots[count[0] % 3]), -1 if (count[0] // 90) % 2 else 1, control=False)  # type: ignore[attr-defined]

    beat, wheel = QTimer(), QTimer()
    beat.timeout.connect(beats)
    wheel.timeout.connect(scroll)
    beat.start(BEAT_MS)
    wheel.start(16)
    QTimer.singleShot(seconds * 1000, app.quit)  # type: ignore[attr-defined]
    app.exec()  # type: ignore[attr-defined]
    busy.join()
    area.shutdown()  # type: ignore[attr-defined]
    return {
        **beats.figures(BEAT_MS),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "wheel_events": count[0],
        "seconds": seconds,
    }


@contextmanager
def display() -> Iterator[str]:
    """Make sure that there is a screen of 1920×1080: the caller's, an own Xvfb, or Qt's off-screen platform."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        yield "the session's display"
        return
    if shutil.which("Xvfb") is None:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
        yield "off-screen (no Xvfb)"
        return
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1920x1080x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    os.environ["DISPLAY"] = f":{number}"
    try:
        yield f"Xvfb :{number}"
    finally:
        del os.environ["DISPLAY"]
        server.terminate()
        server.wait()


def run_child(python: str, what: str, amount: int) -> dict[str, object]:
    """Run one measurement in a fresh process."""
    done = subprocess.run(
        [python, str(Path(__file__).resolve()), "--child", what, "--events", str(amount)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{what}: {done.stderr.strip()[-800:]}")
    answer: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def napari_python() -> str | None:
    """Python that can import napari: NAPARI_PYTHON, else this one."""
    python = os.environ.get("NAPARI_PYTHON", sys.executable)
    probe = subprocess.run([python, "-c", "import napari"], capture_output=True, check=False)
    return python if probe.returncode == 0 else None


def measure(rounds: int, events: int, seconds: int) -> dict[str, object]:
    """Run everything and put the document together."""
    peer = napari_python()
    if peer is None:
        print(
            "napari is not installed: python3 -m venv napari-venv && napari-venv/bin/pip install 'napari[pyside6]'; "
            "then set NAPARI_PYTHON=napari-venv/bin/python",
            file=sys.stderr,
        )
    ours: list[dict[str, object]] = []
    theirs: list[dict[str, object]] = []
    with display() as screen:
        for n in range(rounds):
            ours.append(run_child(sys.executable, "ours", events))
            if peer is not None:
                theirs.append(run_child(peer, "napari", events))
            print(
                f"round {n + 1}: ours {ours[-1]['p95_ms']} ms"
                + (f", napari {theirs[-1]['p95_ms']} ms" if theirs else ""),
                file=sys.stderr,
            )
        stalls = run_child(sys.executable, "stalls", seconds)
    ratios = {}
    if theirs:
        pairs = [float(a["p95_ms"]) / float(b["p95_ms"]) for a, b in zip(ours, theirs, strict=True)]  # type: ignore[arg-type]
        ratios["ours/napari"] = round(statistics.median(pairs), 4)
    return {
        "name": "scroll",
        "ratios": ratios,
        "ours": {**middle(ours), "gui": stalls, "display": screen},
        "peers": {"napari": middle(theirs)} if theirs else {},
        "rounds": rounds,
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    }


def middle(runs: list[dict[str, object]]) -> dict[str, object]:
    """The run whose 95th percentile is the median."""
    return sorted(runs, key=lambda run: float(run["p95_ms"]))[len(runs) // 2]  # type: ignore[arg-type]


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=180)
    parser.add_argument("--seconds", type=int, default=6, help="length of the stall measurement")
    parser.add_argument("--child", choices=("ours", "napari", "stalls"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.child:
        part = {"ours": child_ours, "napari": child_napari, "stalls": child_stalls}[wanted.child]
        print(json.dumps(part(wanted.events)))
        return
    document = measure(wanted.rounds, wanted.events, wanted.seconds)
    print(json.dumps(document, indent=None if wanted.json else 2))


if __name__ == "__main__":
    main()
