#!/usr/bin/env python3
"""Freeze Overread: two executables in one folder, then a short check that they work.

``python installer/build.py [--out DIR] [--check]`` writes ``DIR/overread/`` (``dist/`` by default) and prints
its size. ``--check`` looks at this machine, lists the models and runs every shipped model's self-test in the
worker, all from the frozen folder and with a home of its own. ``--check-only`` checks a folder made before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from licences import collect_licences

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "pyinstaller"
CHECK_TIMEOUT_S = 300
# Libraries whose wheels come with symbol tables that only a debugger reads (a quarter of their size).
WITH_SYMBOLS = (
    "torch/lib/*.so",
    "vtkmodules/*.so",
    "sqlcipher3/*.so",
    "_CharLS*.so",
    "_openjpeg*.so",
    "libpython3*.so*",
)


def freeze(out: Path) -> Path:
    """Run PyInstaller and return the folder with the executables.

    Raises
    ------
    SystemExit
        If this environment has no PyInstaller.
    """
    if find_spec("PyInstaller") is None:
        raise SystemExit(
            "PyInstaller is missing. `python3 installer/bootstrap.py env` prints a Python that has it."
        )
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--distpath", str(out), "--workpath", str(WORK)]
    subprocess.run([*command, str(ROOT / "installer" / "overread.spec")], cwd=ROOT, check=True)
    return out / "overread"


def strip_symbols(folder: Path) -> float:
    """Take symbol tables out of the large libraries; return the MB saved (0 where there is no ``strip``)."""
    tool = shutil.which("strip")
    if not tool or sys.platform != "linux":
        return 0.0
    before = size_mb(folder)
    for pattern in WITH_SYMBOLS:
        for library in (folder / "_internal").glob(pattern):
            if library.is_symlink():
                continue
            subprocess.run([tool, "--strip-unneeded", str(library)], check=True)
    return before - size_mb(folder)


def size_mb(folder: Path) -> float:
    """Return the size of all files below a folder in MB (links counted once)."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


def part_sizes_mb(folder: Path) -> dict[str, float]:
    """Return how many MB each executable uses, alone and shared."""
    files = json.loads((WORK / "overread" / "parts.json").read_text(encoding="utf-8"))
    window, worker = (set(files[name]) for name in ("overread", "overread-worker"))
    sizes = {
        "window_only": _sum_mb(folder, window - worker),
        "worker_only": _sum_mb(folder, worker - window),
        "shared": _sum_mb(folder, window & worker),
    }
    for name, part in (("overread", "window_only"), ("overread-worker", "worker_only")):
        sizes[part] += (folder / executable_name(name)).stat().st_size / 1e6
    return {name: round(size) for name, size in sizes.items()}


def _sum_mb(folder: Path, names: set[str]) -> float:
    paths = (folder / "_internal" / name for name in names)
    return sum(p.stat().st_size for p in paths if p.is_file() and not p.is_symlink()) / 1e6


def executable_name(name: str) -> str:
    """Return the file name of an executable on this system."""
    return f"{name}.exe" if os.name == "nt" else name


def check(folder: Path) -> None:
    """Run the frozen command line on its own home.

    Raises
    ------
    SystemExit
        If a command or a self-test fails.
    """
    with tempfile.TemporaryDirectory() as home:
        _answer(folder, home, "doctor")
        models = _answer(folder, home, "models")["models"]
        if not models:
            raise SystemExit("The frozen folder lists no model.")
        for model in models:
            _answer(folder, home, "models", "selftest", model["id"])


def _answer(folder: Path, home: str, *arguments: str) -> dict[str, Any]:
    # The worker executable is the one whose output a shell sees on every system.
    command = [str(folder / executable_name("overread-worker")), "cli", *arguments, "--json"]
    done = subprocess.run(
        command,
        env=dict(os.environ, OVERREAD_HOME=home),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        timeout=CHECK_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
    print(f"{' '.join(arguments)}: passed", file=sys.stderr)
    return json.loads(done.stdout)


def build(out: Path) -> dict[str, Any]:
    """Freeze, take out symbols, add licences; return the sizes."""
    folder = freeze(out)
    saved = strip_symbols(folder)
    shutil.copy2(ROOT / "LICENSE", folder / "LICENSE")
    texts = collect_licences(folder / "licences")
    return {
        "folder": str(folder),
        "size_mb": round(size_mb(folder)),
        "parts_mb": part_sizes_mb(folder),
        "symbols_removed_mb": round(saved),
        "licences": texts,
    }


def main() -> int:
    """Build, report, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--check", action="store_true", help="run the frozen commands afterwards")
    parser.add_argument("--check-only", action="store_true", help="only check the folder under --out")
    options = parser.parse_args()
    started = time.monotonic()
    out = options.out.absolute()
    document: dict[str, Any] = {"folder": str(out / "overread")} if options.check_only else build(out)
    if options.check or options.check_only:
        check(out / "overread")
        document["checked"] = True
    document["seconds"] = round(time.monotonic() - started)
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
