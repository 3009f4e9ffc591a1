#!/usr/bin/env python3
"""Freeze Overread: two executables in one folder, then a short check that they work.

``python installer/build.py [--out DIR] [--check]`` writes ``DIR/overread/`` (``dist/`` by default) and prints
its size. ``--check`` runs ``doctor`` and ``models selftest`` from the frozen folder, with a home of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def freeze(out: Path) -> Path:
    """Run PyInstaller and return the folder with the executables."""
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--distpath", str(out), "--workpath", str(ROOT / "build" / "pyinstaller")]
    subprocess.run([*command, str(ROOT / "installer" / "overread.spec")], cwd=ROOT, check=True)
    return out / "overread"


def size_mb(folder: Path) -> float:
    """Return the size of all files below a folder in MB (links counted once)."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


def check(folder: Path) -> None:
    """Run the frozen command line on its own home.

    Raises
    ------
    subprocess.CalledProcessError
        If a command fails.
    """
    suffix = ".exe" if os.name == "nt" else ""
    executable = folder / f"overread{suffix}"
    with tempfile.TemporaryDirectory() as home:
        environment = dict(os.environ, OVERREAD_HOME=home)
        for arguments in (["doctor", "--json"], ["models", "--json"]):
            subprocess.run(
                [str(executable), *arguments], env=environment, check=True, stdout=subprocess.DEVNULL
            )


def main() -> int:
    """Build, report, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    folder = freeze(options.out.absolute())
    if options.check:
        check(folder)
    print(
        json.dumps(
            {
                "folder": str(folder),
                "size_mb": round(size_mb(folder)),
                "seconds": round(time.monotonic() - started),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
