"""What a test left behind: processes and blocks of shared memory of its own."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from core.jobs.shared_arrays import MEMORY_FOLDER


def own_children() -> list[psutil.Process]:
    """Child processes but for those that live as long as this one by design.

    These are the screen (Xvfb) that GUI tests share, and decoders, which wait for the next frame or page.
    """
    return [p for p in psutil.Process().children(recursive=True) if not _is_kept(p)]


def command_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process, empty when it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def _is_kept(process: psutil.Process) -> bool:
    command = command_of(process)
    if not command:
        return True
    kept = ("core.dicom.decoder_process", "core.dicom.derived.page_process")
    return process.name() in ("Xvfb", "openbox") or any(name in command for name in kept)


def own_blocks() -> set[Path]:
    """Blocks of shared memory that this process made; others may run tests beside it."""
    return set(MEMORY_FOLDER.glob(f"overread-{os.getpid()}-*"))
