"""Prepared cases kept on disk and, the small ones and some others, in memory; both are bounded.

Several processes may share the folder: files appear by renaming, a damaged one is made again, and one that another
process deletes stays readable where it is mapped. Below a folder that is sealed at rest the files are sealed too;
they are then read whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

from core.compute.training.data.cache_file import CachedCase, Damaged, compact, read_case_file, write_case
from core.compute.training.data.prepare import Sample
from core.config.atomic import PART_PREFIX
from core.config.sealed_file import is_mounted, seal_bytes
from core.domain.errors import SafetyError
from core.recipes.cases import Case
from core.recipes.schema import Recipe

_LOG = logging.getLogger(__name__)
_VERSION = 2
_SUFFIX = ".case"
_READ_WHOLE_BYTES = 4 << 20
_OPEN_MAPS = 32
_EDGE_BYTES = 64 << 10


@dataclass
class CacheCounts:
    """What the cache did, for the run's record and for tests."""

    hits: int = 0
    built: int = 0
    damaged: int = 0
    evicted: int = 0
    not_stored: int = 0


class CaseCache:
    """Prepared cases by key.

    Parameters
    ----------
    folder : pathlib.Path or None
        Where the files lie; None keeps cases in memory only (for cases that must not lie on disk unsealed). What
        lies below a mounted folder of ``core.config.sealed_file`` is sealed; a loader process that lacks the key
        keeps its cases in memory.
    memory_mb, disk_mb : int
        Bounds in MiB. The least recently used goes first. A case larger than the bound isn't kept.
    """

    def __init__(self, folder: Path | None, *, memory_mb: int, disk_mb: int) -> None:
        self.folder = folder
        self.sealed = folder is not None and is_mounted(folder / "any")
        self.counts = CacheCounts()
        self.memory_bytes, self.disk_bytes = memory_mb << 20, disk_mb << 20
        self._memory: OrderedDict[str, CachedCase] = OrderedDict()
        self._held = 0
        self._maps: OrderedDict[str, CachedCase] = OrderedDict()
        self._verified: dict[str, tuple[int, int]] = {}
        self._on_disk: int | None = None
        self._written = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __getstate__(self) -> dict[str, object]:
        """Send the settings to a loader's process, not what is held."""
        return {
            "folder": None if self.sealed else self.folder,
            "memory": self.memory_bytes,
            "disk": self.disk_bytes,
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start empty in a loader's process."""
        folder, memory, disk = state["folder"], state["memory"], state["disk"]
        assert folder is None or isinstance(folder, Path)
        assert isinstance(memory, int)
        assert isinstance(disk, int)
        self.__init__(folder, memory_mb=0, disk_mb=0)  # type: ignore[misc]
        self.memory_bytes, self.disk_bytes = memory, disk

    @property
    def held_bytes(self) -> int:
        """Bytes of the arrays in memory (mapped files not counted)."""
        return self._held

    def get(self, key: str, build: Callable[[], Sample]) -> CachedCase:
        """Return the case of that key; ``build`` makes it when it isn't there or is damaged."""
        for kept in (self._memory, self._maps):
            if key in kept:
                kept.move_to_end(key)
                self.counts.hits += 1
                return self._promoted(key) if kept is self._maps else kept[key]
        found = self._from_disk(key)
        if found is not None:
            self.counts.hits += 1
            return found
        case = compact(build(), int(key[:8], 16))
        self.counts.built += 1
        if self._store(key, case):
            return self._from_disk(key) or case
        self._remember(key, case)
        return case

    def clear(self) -> None:
        """Forget everything and delete the files."""
        self._memory.clear()
        self._maps.clear()
        self._verified.clear()
        self._held = 0
        for path in self._files():
            with contextlib.suppress(OSError):
                path.unlink()
        self._on_disk = None

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}{_SUFFIX}"

    def _files(self) -> list[Path]:
        return [] if self.folder is None else list(self.folder.glob(f"*{_SUFFIX}"))

    def _from_disk(self, key: str) -> CachedCase | None:
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns)
            small = status.st_size <= min(_READ_WHOLE_BYTES, self.memory_bytes or _READ_WHOLE_BYTES)
            whole = small or self.sealed
            case = read_case_file(path, mapped=not whole, verify=self._verified.get(key) != state)
        except FileNotFoundError:
            return None
        except (Damaged, SafetyError, ValueError, KeyError, TypeError, OSError):
            self.counts.damaged += 1
            _LOG.info("a damaged file of the training cache is made again")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        self._verified[key] = state
        with contextlib.suppress(OSError):
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        if whole:
            self._remember(key, case)
        else:
            self._maps[key] = case
            while len(self._maps) > _OPEN_MAPS:
                self._maps.popitem(last=False)
        return case

    def _promoted(self, key: str) -> CachedCase:
        """Take a mapped case that is used again into memory, where there is room without giving up another."""
        case = self._maps[key]
        if self._held + case.nbytes > self.memory_bytes:
            return case
        del self._maps[key]
        case = case.in_memory()
        self._remember(key, case)
        return case

    def _remember(self, key: str, case: CachedCase) -> None:
        if case.nbytes > self.memory_bytes:
            return
        self._memory[key] = case
        self._held += case.nbytes
        while self._held > self.memory_bytes:
            _, old = self._memory.popitem(last=False)
            self._held -= old.nbytes

    def _store(self, key: str, case: CachedCase) -> bool:
        """Write a case; False where it doesn't fit or the disk is full (the training goes on without)."""
        if self.folder is None or case.nbytes > self.disk_bytes:
            self.counts.not_stored += self.folder is not None
            return False
        part = self.folder / f"{PART_PREFIX}{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}.part"
        try:
            if self.sealed:
                plain = io.BytesIO()
                size = write_case(plain, case)
                seal_bytes(plain.getbuffer(), self._path(key))
            else:
                with part.open("xb") as stream:
                    size = write_case(stream, case)
                part.replace(self._path(key))
        except OSError as error:
            self.counts.not_stored += 1
            _LOG.info("a case could not be kept in the training cache (%s)", error.strerror)
            return False
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        self._bound(key, size)
        return True

    def _bound(self, newest: str, size: int) -> None:
        """Delete the least recently used files when the folder has grown beyond its bound.

        The folder is counted again after each 64th of the bound that this process wrote, because others write too.
        """
        self._written += size
        if self._on_disk is not None:
            self._on_disk += size
        due = self._on_disk is None or self._on_disk > self.disk_bytes
        if not due and self._written <= self.disk_bytes // 64:
            return
        self._written = 0
        entries = []
        for path in self._files():
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_atime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total > self.disk_bytes:
            for _, size, path in sorted(entries):
                if total <= self.disk_bytes * 15 // 16:
                    break
                if path.name != f"{newest}{_SUFFIX}":
                    total -= self._deleted(path, size)
        self._on_disk = total

    def _deleted(self, path: Path, size: int) -> int:
        try:
            path.unlink()
        except FileNotFoundError:
            return size
        except OSError:  # Windows keeps a file that is mapped
            return 0
        self.counts.evicted += 1
        return size


def case_key(case: Case, recipe: Recipe) -> str:
    """Return the name under which a prepared case is kept: sha256 of all that its voxels depend on.

    Of each file: path, size, time of change, and the content of its first and last 64 KiB.
    """
    digest = hashlib.sha256()
    document = {
        "version": [_VERSION, np.__version__, scipy.__version__],
        "task": recipe.task,
        "segmented": bool(recipe.structures),
        "spatial_dims": recipe.spatial_dims,
        "preprocessing": recipe.preprocessing.model_dump(mode="json"),
        "source": recipe.data.source.model_dump(mode="json"),
        "channels": recipe.data.channels,
        "missing": recipe.data.missing,
        "id": case.id,
        "seed": case.seed,
    }
    digest.update(json.dumps(document, sort_keys=True).encode())
    files = [(name, path) for name, paths in sorted(case.images.items()) for path in paths]
    masks = () if case.mask is None else (case.mask, *case.more_masks)
    files += [("", path) for path in masks]
    for name, path in files:
        digest.update(json.dumps([name, *_file_state(path)]).encode())
    return digest.hexdigest()


def _file_state(path: Path) -> list[str | int]:
    if path.is_dir():
        return [str(path), *(part for file in sorted(path.iterdir()) for part in _file_state(file))]
    status = path.stat()
    edges = hashlib.sha256()
    with path.open("rb") as stream:
        edges.update(stream.read(_EDGE_BYTES))
        if status.st_size > 2 * _EDGE_BYTES:
            stream.seek(-_EDGE_BYTES, os.SEEK_END)
        edges.update(stream.read(_EDGE_BYTES))
    return [str(path), status.st_size, status.st_mtime_ns, edges.hexdigest()]
