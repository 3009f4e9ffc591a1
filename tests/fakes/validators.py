"""Outside judges of DICOM objects."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def dciodvfy_errors(path: Path) -> list[str]:
    """Return the errors that dciodvfy finds in a file; skips the test where it is not installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not on PATH (Debian package dicom3tools)")
    done = subprocess.run([program, "-new", str(path)], capture_output=True, check=False, timeout=60)
    assert done.returncode < 128, "dciodvfy itself crashed"
    lines = done.stderr.decode("latin-1").splitlines()
    return [line for line in lines if line.startswith("Error")]
