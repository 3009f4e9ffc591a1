"""What a test left behind: processes and blocks of shared memory of its own."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from core.jobs.shared_arrays import MEMORY_FOLDER


def own_children() -> list[psutil.Process]:
    """Child processes but for the screen (Xvfb) that the GUI tests of the same process share."""
    return [p for p in psutil.Process().children(recursive=True) if p.name() not in ("Xvfb", "openbox")]


def own_blocks() -> set[Path]:
    """Blocks of shared memory that this process made; others may run tests beside it."""
    return set(MEMORY_FOLDER.glob(f"overread-{os.getpid()}-*"))
