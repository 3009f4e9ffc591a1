"""What a training saw, as one number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from core.config.sealed_file import open_plain
from core.domain.errors import EnvironmentFault
from core.domain.progress import CancelToken, Progress, no_progress
from core.recipes.cases import Case

_CHUNK = 1 << 20


def fingerprint(
    cases: Iterable[Case], progress: Progress = no_progress, cancel: CancelToken | None = None
) -> str:
    """Return a SHA-256 over what the cases are: identifier, label, measurements, report, and size and
    SHA-256 of each file.

    It depends neither on the order of the cases nor on where the files lie or how they are called.

    Raises
    ------
    EnvironmentFault
        When a file can't be read.
    """
    ordered = sorted(cases, key=lambda case: case.id)
    total = hashlib.sha256()
    known: dict[Path, str] = {}
    for number, case in enumerate(ordered):
        if cancel is not None:
            cancel.raise_if_cancelled()
        total.update(f"{case.id}\0{case.label}\0{case.seed}\0".encode())
        for name in sorted(case.values):
            total.update(f"{name}\0{case.values[name]!r}\0".encode())
        if case.text is not None:
            total.update(f"text\0{case.text}\0".encode())
        for channel in sorted(case.images):
            _add(total, channel, case.images[channel], known)
        _add(total, "mask", () if case.mask is None else (case.mask, *case.more_masks), known)
        progress("Reading the data", (number + 1) / len(ordered))
    return total.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's (unsealed) content.

    Raises
    ------
    EnvironmentFault
        ``data.unreadable``.
    """
    digest = hashlib.sha256()
    try:
        with open_plain(path) as stream:
            while block := stream.read(_CHUNK):
                digest.update(block)
    except OSError as error:
        raise EnvironmentFault(
            "data.unreadable",
            f"The file “{path.name}” can't be read: {error.strerror}.",
            "Check that it is there and may be read.",
        ) from error
    return digest.hexdigest()


def _add(total: hashlib._Hash, name: str, files: Iterable[Path], known: dict[Path, str]) -> None:
    digests = []
    for path in files:
        if path not in known:
            known[path] = file_sha256(path)
        digests.append(known[path])
    digests.sort()
    total.update(f"{name}\0{len(digests)}\0{' '.join(digests)}\0".encode())
