"""Time from a folder of files to a complete volume, against SimpleITK and dcm2niix.

Generates a 512 × 512 × 300 CT (uncompressed, explicit little endian, with noise) in a temporary folder. In each
round every candidate reads it once, in turn, from a warm page cache:

- ours: scan of all headers, grouping, geometry checks, decode to Hounsfield units (``scan_paths`` and
  ``assemble_volume``);
- ours_pixels: ``assemble_volume`` alone as when a series of the library is opened: headers are read again;
- SimpleITK: ``GetGDCMSeriesFileNames`` + ``ImageSeriesReader.Execute``; SimpleITK_execute: the latter alone;
- dcm2niix: the whole program, writing an uncompressed NIfTI.

Memory is the peak resident set of a fresh process that loads the series, beyond what it had after its imports,
over the bytes of the voxels.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.dicom.assemble import assemble_volume
from core.dicom.reading import recent_headers
from core.dicom.scan import scan_paths
from core.domain.study import ScannedSeries
from tests.fakes.dicom_files import axial_geometry, write_stack

SHAPE = (300, 512, 512)


def make_series(folder: Path, shape: tuple[int, int, int]) -> None:
    """Write a body-like ellipse with noise, a block of slices at a time."""
    random = np.random.default_rng(7)
    j, i = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    body = np.where((i / 0.8) ** 2 + (j / 0.6) ** 2 < 1, 40.0, -1000.0)
    grid = axial_geometry(shape, (0.7, 0.7, 1.0))
    block = np.empty(shape, dtype=np.int16)
    for k in range(shape[0]):
        noise = random.normal(0.0, 12.0, body.shape)
        block[k] = np.clip(np.where(body > -500, body + noise, body + np.abs(noise) / 4), -1024, 3071)
    write_stack(folder, block, grid, BitsStored=16, HighBit=15)


def load_ours(folder: Path) -> Any:
    """Scan and assemble."""
    series = scan_paths(sorted(folder.iterdir())).series[0]
    return assemble_volume(series.instances, series.summary)


def reopen(series: ScannedSeries) -> Any:
    """Assemble without any header in memory."""
    recent_headers.clear()
    return assemble_volume(series.instances, series.summary)


def timed(action: Callable[[], Any]) -> float:
    """Return the seconds that ``action`` takes."""
    begin = time.perf_counter()
    kept = action()
    seconds = time.perf_counter() - begin
    del kept
    return seconds


def first_slice_seconds(folder: Path) -> float:
    """Return the seconds from the files to the first complete slice."""
    begin = time.perf_counter()
    moments: list[float] = []
    series = scan_paths(sorted(folder.iterdir())).series[0]
    assemble_volume(
        series.instances, series.summary, on_slice=lambda *_: moments.append(time.perf_counter() - begin)
    )
    return moments[0]


def peak_memory_ratio(folder: Path) -> float:
    """Return (peak − after imports) / voxel bytes of a fresh process."""
    answer = subprocess.run(
        [sys.executable, __file__, "--measure-memory", str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(answer.stdout)


def peak_bytes() -> int:
    """Return the peak resident set of this process in bytes (ru_maxrss would include the parent's)."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def measure_memory(folder: Path) -> None:
    """Load the series and print the ratio (runs in the fresh process)."""
    before = peak_bytes()
    volume = load_ours(folder)
    print((peak_bytes() - before) / volume.voxels.nbytes)


def peers(folder: Path, scratch: Path) -> dict[str, Callable[[], Any]]:
    """Return the peers that are installed; say on standard error which are not."""
    found: dict[str, Callable[[], Any]] = {}
    try:
        import SimpleITK
    except ImportError:
        print("SimpleITK is not installed: pip install SimpleITK", file=sys.stderr)
    else:

        def names() -> Any:
            return SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))

        def execute(files: Any) -> Any:
            reader = SimpleITK.ImageSeriesReader()
            reader.SetFileNames(files)
            return reader.Execute()

        known = names()
        found["SimpleITK"] = lambda: execute(names())
        found["SimpleITK_execute"] = lambda: execute(known)
    program = shutil.which("dcm2niix")
    if program is None:
        print("dcm2niix is not installed: apt-get install dcm2niix", file=sys.stderr)
    else:
        command = [program, "-z", "n", "-b", "n", "-w", "1", "-f", "out", "-o", str(scratch), str(folder)]
        found["dcm2niix"] = lambda: subprocess.run(command, check=True, capture_output=True)
    return found


def compare(rounds: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Run the rounds and return the document."""
    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name) / "series", Path(name) / "out"
        scratch.mkdir()
        make_series(folder, shape)
        series = scan_paths([folder]).series[0]
        candidates: dict[str, Callable[[], Any]] = {
            "ours": lambda: load_ours(folder),
            "ours_pixels": lambda: reopen(series),
            **peers(folder, scratch),
        }
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for action in candidates.values():
            timed(action)
        for _ in range(rounds):
            for label, action in candidates.items():
                seconds[label].append(timed(action))
        first = statistics.median(first_slice_seconds(folder) for _ in range(rounds))
        memory = peak_memory_ratio(folder)
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    ratios = {
        f"ours/{label}": round(medians["ours"] / value, 4)
        for label, value in medians.items()
        if not label.startswith("ours")
    }
    if "SimpleITK_execute" in medians:
        ratios["ours_pixels/SimpleITK_execute"] = round(
            medians["ours_pixels"] / medians["SimpleITK_execute"], 4
        )
    return {
        "name": "load_series",
        "ratios": ratios,
        "ours": {
            "seconds": round(medians["ours"], 4),
            "pixels_seconds": round(medians["ours_pixels"], 4),
            "first_slice_seconds": round(first, 4),
            "peak_memory_over_voxels": round(memory, 3),
        },
        "peers": {
            label: {"seconds": round(value, 4)}
            for label, value in medians.items()
            if not label.startswith("ours")
        },
        "rounds": rounds,
        "shape_kji": list(shape),
        "machine": f"{platform.machine()} {platform.system()} Python {platform.python_version()}",
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=SHAPE[0])
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_memory is not None:
        measure_memory(arguments.measure_memory)
        return
    document = compare(arguments.rounds, (arguments.slices, *SHAPE[1:]))
    print(json.dumps(document, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
