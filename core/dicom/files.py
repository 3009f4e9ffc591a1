"""Regular files below a path: no links that lead in circles, no devices, no pipes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.domain.study import SkippedFile


@dataclass(frozen=True, slots=True)
class Mark:
    """A note between the files: a folder is done (``what``), or the walk as a whole (None)."""

    what: str | None
    share: float


Entry = tuple[str, float] | Mark
"""A file with the share of the walk that lies before it (0 to 1), or a mark."""


def regular_files(root: Path, skipped: list[SkippedFile]) -> Iterator[Entry]:
    """Yield the regular files below ``root`` (or ``root`` itself) in sorted order, each folder ended by a mark.

    Symbolic links inside a folder are not followed; ``root`` itself may be one. What is left out goes to
    ``skipped``. Nothing is counted ahead: a folder's share is divided evenly among what it holds.
    """
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError):
        skipped.append(SkippedFile(str(root), "file.missing", "There is no such file or folder."))
        return
    if stat.S_ISREG(mode):
        yield str(root), 0.0
    elif stat.S_ISDIR(mode):
        yield from _walk(root, skipped)
    else:
        skipped.append(SkippedFile(str(root), "file.not_regular", "This is neither a file nor a folder."))


def _walk(root: Path, skipped: list[SkippedFile]) -> Iterator[Entry]:
    pending: list[tuple[str, float, float]] = [(str(root), 0.0, 1.0)]
    while pending:
        folder, low, high = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            skipped.append(SkippedFile(folder, "file.unreadable", "The folder cannot be opened."))
            continue
        folders = []
        step = (high - low) / max(1, len(entries))
        for number, entry in enumerate(entries):
            if entry.is_symlink():
                skipped.append(
                    SkippedFile(entry.path, "file.link", "Links inside a folder are not followed.")
                )
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                # Files come before the folders beside them, and so do their shares.
                yield entry.path, low + step * (number - len(folders))
            else:
                skipped.append(SkippedFile(entry.path, "file.not_regular", "This is no regular file."))
        begin = high - step * len(folders)
        pending.extend(
            (path, begin + step * number, begin + step * (number + 1))
            for number, path in reversed(list(enumerate(folders)))
        )
        yield Mark(folder, begin)
