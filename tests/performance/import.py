"""Time from a medium with nameless files to a library that can be read, against pydicom and GDCM.

Generates instances with headers of several kilobytes (private blocks, sequences), 64 to 128 pixels a side, in nested
folders without suffixes; a third of the studies mixes its series over folders. In each round every candidate works
once, in turn, from a warm page cache:

- scan: walk, read and check all headers with our scanner processes (``HeaderScan``), nothing grouped;
- scan_and_group: the same and the grouping into displayable series with their geometry (``scan_paths``);
- import: ``import_paths`` into a fresh encrypted library, in a fresh process: index written, thumbnail of each study's
  first series, digests of all contents (the time begins when the library is open);
- pydicom: a plain loop of ``dcmread(file, stop_before_pixels=True)``;
- gdcmscanner: ``gdcmscanner -r -t 0010,0010`` (C++), which stops each header at the patient's name;
- gdcmscanner_whole: the same program asked for what lies at both ends of the header (UIDs, position, rows, columns).

Memory is the largest sum of resident sets of the importing process and its scanners, sampled. The last part drives the
real window, off-screen when there is no display: an import through its process, how long until the first series has
arrived and stands in the worklist, and how late the GUI thread was at most while the import ran. (``after`` are the
seconds behind it, in which the window opens the first study.)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

INSTANCES = 20_000
TAGS_OF_A_SCAN = ("0008,0018", "0010,0010", "0020,000d", "0020,000e", "0020,0032", "0028,0010", "0028,0011")
SAMPLE_EVERY_S = 0.02
WINDOW_LIMIT_S = 300.0
SETTLE_MS = 3000


def timed(action: Callable[[], Any]) -> float:
    """Return the seconds that ``action`` takes."""
    begin = time.perf_counter()
    kept = action()
    seconds = time.perf_counter() - begin
    del kept
    return seconds


def scan(folder: Path) -> list[Any]:
    """Read all headers."""
    from core.dicom.header import Header
    from core.dicom.scan import HeaderScan

    return [found for found in HeaderScan([folder]) if isinstance(found, Header)]


def scan_and_group(folder: Path) -> Any:
    """Read all headers and make series of them."""
    from core.dicom.scan import scan_paths

    return scan_paths([folder])


def pydicom_loop(files: list[Path]) -> None:
    """Read all headers with pydicom."""
    from pydicom import dcmread

    for file in files:
        dcmread(file, stop_before_pixels=True)


def gdcm(program: str, folder: Path, tags: tuple[str, ...]) -> None:
    """Read headers with GDCM's scanner."""
    command = [program, "-r", "-d", str(folder)]
    for tag in tags:
        command += ["-t", tag]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class MemoryWatch:
    """Samples the resident memory of a process and its children; ``peak_mb`` is the largest sum."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_mb = 0.0
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.peak_mb = max(self.peak_mb, _family_mb(self._process))

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()


def _family_mb(process: psutil.Process) -> float:
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.Error:
        pass
    return total / 1e6


def whole_import(folder: Path, scratch: Path) -> dict[str, float]:
    """Import in a fresh process; its seconds, and the peak memory of it and its scanners."""
    home = Path(tempfile.mkdtemp(dir=scratch))
    child = subprocess.Popen(
        [sys.executable, __file__, "--measure-import", str(folder), str(home)],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    watch = MemoryWatch(psutil.Process(child.pid))
    told, _ = child.communicate()
    watch.close()
    shutil.rmtree(home)
    return {**json.loads(told), "peak_mb": watch.peak_mb}


def measure_import(folder: Path, home: Path) -> None:
    """Import and print the seconds (runs in the fresh process)."""
    from core.services.engine import open_engine
    from core.services.import_study import import_paths

    arrived: list[float] = []
    with open_engine(home) as engine:
        begin = time.perf_counter()
        report = import_paths(
            engine, [folder], on_series=lambda _: arrived.append(time.perf_counter() - begin)
        )
        seconds = time.perf_counter() - begin
    own_peak = psutil.Process().memory_info().rss / 1e6
    print(
        json.dumps(
            {
                "seconds": seconds,
                "first_series_seconds": arrived[0],
                "instances": report.counts["instances"],
                "own_mb_at_end": own_peak,
            }
        )
    )


def window(folder: Path, scratch: Path) -> dict[str, Any]:
    """Import through the real window in a fresh process."""
    from scroll import display

    home = Path(tempfile.mkdtemp(dir=scratch))
    with display() as shown:
        answer = subprocess.run(
            [sys.executable, __file__, "--measure-window", str(folder), str(home)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
    shutil.rmtree(home)
    return {**json.loads(answer.stdout.splitlines()[-1]), "display": shown}


def measure_window(folder: Path, home: Path) -> None:
    """Drive the window and print what was late (runs in the fresh process)."""
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication
    from scroll import BEAT_MS, Beats

    from app.bootstrap import Application, Start
    from app.bridge import collector

    sys.setswitchinterval(0.0005)  # as the program itself does
    collector.calm()
    qt = QApplication(["overread"])
    application = Application(qt, Start(home))
    beats, after, moments, began = Beats(), Beats(), {}, [0.0]
    beat, look = QTimer(), QTimer()
    beat.timeout.connect(lambda: (after if "done" in moments else beats)())

    def watch() -> None:
        now = time.perf_counter() - began[0]
        run = application.imports.state.runs[0]
        if run.series and "arrived" not in moments:
            moments["arrived"] = now
        if application.worklist.state.rows and "listed" not in moments:
            moments["listed"] = now
        if run.state in ("done", "failed") or now > WINDOW_LIMIT_S:
            moments["done"], moments["state"] = now, run.state  # type: ignore[assignment]
            look.stop()
            QTimer.singleShot(SETTLE_MS, qt.quit)

    def begin() -> None:
        began[0] = time.perf_counter()
        beat.start(BEAT_MS)
        application.imports.import_paths([folder])
        look.timeout.connect(watch)
        look.start(10)

    collector.set_aside()
    application.window.resize(1280, 800)
    application.show()
    QTimer.singleShot(SETTLE_MS, begin)
    qt.exec()
    application.close()
    print(json.dumps({**moments, **beats.figures(BEAT_MS), "after": after.figures(BEAT_MS)}))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}


def compare(rounds: int, instances: int, with_window: bool) -> dict[str, Any]:
    """Run the rounds and return the document."""
    from tests.fakes.corpus import write_corpus

    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name) / "medium", Path(name) / "homes"
        scratch.mkdir()
        files = write_corpus(folder, instances)
        candidates: dict[str, Callable[[], Any]] = {
            "scan": lambda: scan(folder),
            "scan_and_group": lambda: scan_and_group(folder),
            "pydicom": lambda: pydicom_loop(files),
        }
        program = shutil.which("gdcmscanner")
        if program is None:
            print("gdcmscanner is not installed: apt-get install libgdcm-tools", file=sys.stderr)
        else:
            candidates["gdcmscanner"] = lambda: gdcm(program, folder, ("0010,0010",))
            candidates["gdcmscanner_whole"] = lambda: gdcm(program, folder, TAGS_OF_A_SCAN)
        assert len(scan(folder)) == instances
        seconds: dict[str, list[float]] = {label: [] for label in candidates}
        imports: list[dict[str, float]] = []
        loads: list[float] = []
        for _ in range(rounds):
            for label, action in candidates.items():
                seconds[label].append(timed(action))
            imports.append(whole_import(folder, scratch))
            loads.append(os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)
        seen = window(folder, scratch) if with_window else {}
        kilobytes = statistics.mean(file.stat().st_size for file in files[:: max(1, instances // 500)]) / 1e3
    assert all(one["instances"] == instances for one in imports)
    return _document(seconds, imports, seen, rounds, instances, kilobytes, loads)


def _document(
    seconds: dict[str, list[float]],
    imports: list[dict[str, float]],
    seen: dict[str, Any],
    rounds: int,
    instances: int,
    kilobytes: float,
    loads: list[float],
) -> dict[str, Any]:
    """Ratios are medians of the rounds' ratios: what disturbed a round disturbed both of its sides."""
    seconds = {**seconds, "import": [one["seconds"] for one in imports]}

    def ratio(ours: str, peer: str) -> float:
        return round(statistics.median(a / b for a, b in zip(seconds[ours], seconds[peer], strict=True)), 4)

    ratios = {
        f"{ours}/{peer}": ratio(ours, peer)
        for peer in ("pydicom", "gdcmscanner", "gdcmscanner_whole")
        if peer in seconds
        for ours in ("scan", "scan_and_group")
    }
    ratios["import/pydicom"] = ratio("import", "pydicom")
    medians = {label: round(statistics.median(values), 4) for label, values in seconds.items()}
    ours = ("scan", "scan_and_group", "import")
    return {
        "name": "import",
        "ratios": ratios,
        "ours": {
            **{f"{label}_seconds": medians[label] for label in ours},
            "first_series_seconds": round(statistics.median(i["first_series_seconds"] for i in imports), 3),
            "peak_memory_mb": round(max(i["peak_mb"] for i in imports), 1),
        },
        "window": seen,
        "peers": {label: {"seconds": value} for label, value in medians.items() if label not in ours},
        "all_seconds": {label: [round(v, 3) for v in values] for label, values in seconds.items()},
        "rounds": rounds,
        "instances": instances,
        "mean_file_kb": round(kilobytes, 1),
        "load_average": [round(value, 2) for value in loads],
        "machine": f"{platform.machine()} {platform.system()} Python {platform.python_version()}, "
        f"{os.cpu_count()} processors",
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--no-window", action="store_true", help="leave the part with the window out")
    parser.add_argument("--measure-import", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--measure-window", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_import is not None:
        measure_import(*arguments.measure_import)
    elif arguments.measure_window is not None:
        measure_window(*arguments.measure_window)
    else:
        document = compare(arguments.rounds, arguments.instances, not arguments.no_window)
        print(json.dumps(document, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
