"""Run ``overread`` as another program would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def overread(
    *arguments: str | Path, home: Path | None = None, expect: int = 0, timeout: float = 600.0
) -> Any:
    """Run a command with ``--json`` and return its document; the exit status must be ``expect``."""
    command = [sys.executable, "-m", "core.cli.main", *(str(a) for a in arguments), "--json"]
    if home is not None:
        command += ["--home", str(home)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, env=dict(os.environ)
    )
    assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def dicom_errors(file: Path) -> list[str]:
    """Return dciodvfy's errors of a file.

    Raises
    ------
    FileNotFoundError
        If dciodvfy is not installed.
    """
    if not shutil.which("dciodvfy"):
        raise FileNotFoundError("dciodvfy")
    done = subprocess.run(
        ["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    return [line for line in done.stderr.splitlines() + done.stdout.splitlines() if line.startswith("Error")]
