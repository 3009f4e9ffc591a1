"""Files that are there completely or not at all.

A file is written beside its target, flushed to the disk and then renamed onto it, so that a crash, a kill or
a full disk leaves the old file or none, never half of the new one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART_PREFIX = ".part-"
# Without O_BINARY, Windows would turn each line feed into two bytes.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it onto ``path`` when the block succeeds.

    The temporary name ends like the target's, so writers that choose a format by suffix behave. When the
    block raises, or writes nothing, the target stays as it was.

    Parameters
    ----------
    path : pathlib.Path
        Target; its folder is created when missing.

    Raises
    ------
    OSError
        If the file can't be written, flushed or renamed.
    FileNotFoundError
        If the block created no file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART_PREFIX}{os.getpid()}-{secrets.token_hex(6)}-{path.name}")
    try:
        yield part
        _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    flush_folder(path.parent)


def atomic_write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write ``data`` to ``path`` atomically; ``mode`` (such as ``0o600``) holds from the first byte on."""
    with atomic_path(path) as part:
        descriptor = os.open(part, _CREATE, 0o666 if mode is None else mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)


def atomic_write_text(path: Path, text: str, *, mode: int | None = None) -> None:
    """Write ``text`` as UTF-8 to ``path`` atomically."""
    atomic_write_bytes(path, text.encode("utf-8"), mode=mode)


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk where the platform allows it (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_parts(folder: Path) -> int:
    """Delete what writers that are no longer alive left under ``folder``; returns how many files were deleted."""
    import psutil

    parts = [p for p in folder.rglob(f"{PART_PREFIX}*") if p.is_file()] if folder.is_dir() else []
    dead = [p for p in parts if not psutil.pid_exists(_writer_of(p))]
    for part in dead:
        part.unlink(missing_ok=True)
    return len(dead)


def _writer_of(part: Path) -> int:
    number = part.name.removeprefix(PART_PREFIX).partition("-")[0]
    return int(number) if number.isdigit() else 0


def _flush(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
