"""Regular files below a path: no links that lead in circles, no devices, no pipes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from core.domain.study import SkippedFile


def regular_files(root: Path, skipped: list[SkippedFile]) -> Iterator[Path]:
    """Yield the regular files below ``root`` (or ``root`` itself) in sorted order.

    Symbolic links inside a folder are not followed; ``root`` itself may be one. What is left out goes to
    ``skipped``.
    """
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError):
        skipped.append(SkippedFile(str(root), "file.missing", "There is no such file or folder."))
        return
    if stat.S_ISREG(mode):
        yield root
    elif stat.S_ISDIR(mode):
        yield from _walk(root, skipped)
    else:
        skipped.append(SkippedFile(str(root), "file.not_regular", "This is neither a file nor a folder."))


def _walk(root: Path, skipped: list[SkippedFile]) -> Iterator[Path]:
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            skipped.append(SkippedFile(str(folder), "file.unreadable", "The folder cannot be opened."))
            continue
        folders = []
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                skipped.append(
                    SkippedFile(entry.path, "file.link", "Links inside a folder are not followed.")
                )
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                skipped.append(SkippedFile(entry.path, "file.not_regular", "This is no regular file."))
        pending.extend(reversed(folders))
