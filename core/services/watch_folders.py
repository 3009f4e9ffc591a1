"""Folders that are watched: what arrives in them is handed over once it is complete.

Polling rather than the system's notifications: those don't exist for network shares, which is where modalities and
burners write, and a file that is announced is not yet complete anyway.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config.atomic import PART_PREFIX
from core.domain.errors import AppError

LOG = logging.getLogger(__name__)
_UNFINISHED = (".part", ".tmp", ".partial", ".crdownload", ".filepart")
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class _Look:
    """What a file looked like; ``taken`` when it was handed over in this state."""

    size: int
    mtime_ns: int
    taken: bool = False


class FolderWatch:
    """Looks at folders again and again and hands over the files that stopped growing.

    Parameters
    ----------
    folders : sequence of Path
        Watched with everything below; one that isn't there now may be there at the next look.
    interval_s : float
        Pause between two looks.
    take : callable
        Called on the watching thread with the files that kept size and time over two looks, each once per state.
        An AppError that it raises is logged, and the files are handed over again at the next look.

    Files that are there at the first look are handed over too: what is known already costs an import little.
    """

    def __init__(
        self, folders: Sequence[Path], interval_s: float, take: Callable[[Sequence[Path]], None]
    ) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._interval_s = interval_s
        self._take = take
        self._seen: dict[str, _Look] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch on a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="folder-watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop; a hand-over that is going on is not interrupted."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def look(self) -> list[Path]:
        """Look once, hand over what is complete, and return it."""
        now: dict[str, _Look] = {}
        ready: list[str] = []
        for folder in self._folders:
            for name, size, mtime_ns in _files_below(folder):
                before = self._seen.get(name)
                same = before is not None and (before.size, before.mtime_ns) == (size, mtime_ns)
                now[name] = before if same and before is not None else _Look(size, mtime_ns)
                if same and not now[name].taken:
                    ready.append(name)
        self._seen = now
        files = [Path(name) for name in sorted(ready)]
        if files:
            self._take(files)
        for name in ready:
            self._seen[name] = _Look(now[name].size, now[name].mtime_ns, taken=True)
        return files

    def _watch(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.look()
            except AppError as error:
                LOG.warning("what arrived in a watched folder could not be taken (%s)", error.code)
            pause = max(self._interval_s, time.monotonic() - began)  # a slow share is not asked all the time
            self._stop.wait(pause)


def _files_below(root: Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of the regular files below a folder; hidden and unfinished ones are left out."""
    found: list[tuple[str, int, int]] = []
    pending = [str(root)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue  # not there now, or not ours to read: the next look tries again
        for entry in entries:
            name = entry.name
            if name.startswith((".", PART_PREFIX)) or name.lower().endswith(_UNFINISHED):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((entry.path, status.st_size, status.st_mtime_ns))
    return found
