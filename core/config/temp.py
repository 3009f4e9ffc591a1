"""Work folders for what is unpacked, and their removal when a process died before it could clean up.

They may hold identity in clear, so none outlives its process for longer than until the next start.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def work_folder(temp: Path, purpose: str) -> Iterator[Path]:
    """Yield an empty folder below ``temp`` that is named after this process, and remove it afterwards."""
    folder = temp / f"{purpose}-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_temp(temp: Path) -> int:
    """Remove the work folders of processes that are no longer alive; returns how many."""
    folders = [folder for folder in temp.iterdir() if _owner(folder)] if temp.is_dir() else []
    if not folders:
        return 0
    import psutil

    dead = [folder for folder in folders if not psutil.pid_exists(_owner(folder))]
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return len(dead)


def _owner(folder: Path) -> int:
    """Return the process of a work folder's name, 0 for what isn't one of ours."""
    parts = folder.name.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() and folder.is_dir() else 0
