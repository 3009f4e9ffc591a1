"""Digests of linked files, taken after everything else: they tell a later copy from an impostor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from core.dicom.parallel import in_parallel
from core.domain.errors import AppError
from core.domain.progress import CancelToken, Progress
from core.library.files import FileStamp, file_sha256
from core.services.engine import Engine

LOG = logging.getLogger(__name__)
BATCH = 1000
PHASE = "Checking contents"

Digest = tuple[str, str, FileStamp]
"""SOP Instance UID, sha256, and the stamp of the file when it was read."""


def note_digests(
    engine: Engine, files: Mapping[str, Path], progress: Progress, cancel: CancelToken | None
) -> int:
    """Read files that are linked and note their digests; returns how many could be read.

    A file that changed since it was imported, or can't be read now, stays without: the next import tries again.

    Raises
    ------
    Cancelled
        When ``cancel`` is set; what was noted stays.
    AppError
        If the library can't be written.
    """
    wanted = list(files.items())
    noted = 0
    for start in range(0, len(wanted), BATCH):
        progress(PHASE, start / len(wanted))
        part = wanted[start : start + BATCH]
        found: list[Digest] = []

        def read(number: int, part: list[tuple[str, Path]] = part, found: list[Digest] = found) -> None:
            digest = _digest(*part[number])
            if digest is not None:
                found.append(digest)

        for _ in in_parallel(read, range(len(part))):
            if cancel is not None:
                cancel.raise_if_cancelled()
        if found:
            with engine.unit_of_work() as uow:
                uow.instances.note_digests(found)
            noted += len(found)
    return noted


def _digest(uid: str, file: Path) -> Digest | None:
    try:
        before = FileStamp.of(file)
        digest = file_sha256(file)
        return (uid, digest, before) if FileStamp.of(file) == before else None
    except (OSError, AppError):
        LOG.debug("a linked file could not be read for its digest")
        return None
