"""The files that the library keeps for itself: copies of instances, thumbnails, folders of results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.services.engine import Engine


@dataclass(frozen=True)
class Deleted:
    """How many files went, how many bytes that freed, and how many the system didn't let us delete."""

    files: int = 0
    freed_bytes: int = 0
    undeleted: int = 0

    def __add__(self, other: Deleted) -> Deleted:
        """Return the sums."""
        return Deleted(
            self.files + other.files,
            self.freed_bytes + other.freed_bytes,
            self.undeleted + other.undeleted,
        )


def thumbnail_file(engine: Engine, series_key: str) -> Path:
    """Return where the thumbnail of a series is kept."""
    return engine.paths.thumbnails / f"{engine.vault.reference(series_key)}.bin"


def is_ours(engine: Engine, file: Path) -> bool:
    """Whether a file lies in the library's folder of copies; only such files may ever be deleted."""
    folder = engine.paths.instances
    return ".." not in file.parts and file.is_relative_to(folder) and file != folder


def delete_copies(engine: Engine, files: Iterable[Path]) -> Deleted:
    """Delete the library's own copies among the files; all others are left alone.

    Their folders stay, empty or not: another process may be about to write into them.
    """
    done = Deleted()
    for file in files:
        if is_ours(engine, file):
            done += delete_file(file)
    return done


def delete_file(file: Path) -> Deleted:
    """Delete a file; one that is gone already counts as nothing."""
    try:
        size = file.lstat().st_size
        file.unlink()
    except FileNotFoundError:
        return Deleted()
    except OSError:
        return Deleted(undeleted=1)
    return Deleted(1, size)


def delete_folder(folder: Path) -> Deleted:
    """Delete a folder with all that is in it."""
    if not folder.is_dir():
        return Deleted()
    files = list(files_below(folder))
    size = sum(file.lstat().st_size for file in files)
    shutil.rmtree(folder, ignore_errors=True)
    left = len(list(files_below(folder))) if folder.exists() else 0
    return Deleted(len(files) - left, size if not left else 0, left)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, no link followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place) / name
