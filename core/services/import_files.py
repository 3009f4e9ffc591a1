"""Whether a file is already in the library, and how a copy of it gets there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from enum import Enum
from pathlib import Path

from core.config.atomic import atomic_path
from core.config.sealed_file import open_plain, plain_size, seal_file
from core.domain.errors import EnvironmentFault, SafetyError
from core.domain.study import InstanceRef, ScannedSeries
from core.library.files import FileStamp, StoredFile, copied_name, file_sha256

_BLOCK = 1 << 20
_SUFFIXES = (".nii.gz",)


class Known(Enum):
    """How a file stands to the one that the library has under its UID."""

    SAME = "same"
    MOVED = "moved"
    CONFLICT = "conflict"


def classify(ref: InstanceRef, stored: StoredFile) -> Known:
    """Compare a file with the library's file of the same SOP Instance UID.

    Unchanged size and time of the same path are enough; otherwise the bytes decide. When the library's file is gone,
    the same digest, or without a digest the same size, tells that this is the file, moved. So does the digest when
    the library's sealed copy is damaged: the file then takes its place.
    """
    try:
        stamp = FileStamp.of(ref.file)
        former = stored.instance
        if ref.file == former.file:
            if stamp == stored.stamp:
                return Known.SAME
            return Known.SAME if _digest_agrees(ref, former) else Known.CONFLICT
        if former.file.exists():
            return _beside(ref, former)
        if former.sha256:
            return Known.MOVED if _digest_agrees(ref, former) else Known.CONFLICT
        return Known.MOVED if stamp.size == stored.stamp.size else Known.CONFLICT
    except OSError as error:
        raise EnvironmentFault(
            "import.unreadable",
            f"A file can't be read ({error.strerror or type(error).__name__}).",
            "Check the medium and import again.",
        ) from error


def _beside(ref: InstanceRef, former: InstanceRef) -> Known:
    """Compare a file with another one that the library has under its UID."""
    try:
        same = plain_size(ref.file) == plain_size(former.file) and _same_bytes(ref.file, former.file)
    except SafetyError:
        return Known.MOVED if _digest_agrees(ref, former) else Known.CONFLICT
    return Known.SAME if same else Known.CONFLICT


def take_copies(
    folder: Path, series: ScannedSeries, *, only_below: Path | None, sealed: bool = True
) -> ScannedSeries:
    """Copy the files of a series into ``folder``; returns the series with the copies in place.

    Parameters
    ----------
    only_below : pathlib.Path or None
        Copy only what lies below (unpacked archives); None copies all.
    sealed : bool
        Encrypt the copies; ``folder`` must be mounted.

    Raises
    ------
    EnvironmentFault
        If a file can't be copied (``import.copy_failed``).
    """
    # As text: ``pathlib`` would take longer over the names of linked files than all the rest of their import.
    ours, below = _prefix(folder), "" if only_below is None else _prefix(only_below)
    copies = tuple(
        ref
        if (name := str(ref.file)).startswith(ours) or not name.startswith(below)
        else _copied(folder, ref, must_exist=only_below is not None, sealed=sealed)
        for ref in series.instances
    )
    return replace(series, instances=copies)


def _prefix(folder: Path) -> str:
    return str(folder).rstrip(os.sep) + os.sep


def _copied(folder: Path, ref: InstanceRef, *, must_exist: bool, sealed: bool) -> InstanceRef:
    if not must_exist and not ref.file.exists():
        return ref  # on a medium that isn't inserted now
    target = folder / copied_name(ref.sop_instance_uid, _suffix(ref))
    return replace(ref, file=target, sha256=copy_file(ref.file, target, sealed=sealed))


def copy_file(source: Path, target: Path, *, sealed: bool) -> str:
    """Copy a file into the library, encrypted or plain; returns its sha256 and raises as ``take_copies``."""
    try:
        return seal_file(source, target) if sealed else _copy_plainly(source, target)
    except OSError as error:
        raise EnvironmentFault(
            "import.copy_failed",
            f"A file can't be copied into the library ({error.strerror or type(error).__name__}).",
            "Free space on the disk of the data folder, or import with --link.",
        ) from error


def _copy_plainly(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with open_plain(source) as stream, atomic_path(target) as part, part.open("wb") as sink:
        while block := stream.read(_BLOCK):
            digest.update(block)
            sink.write(block)
    return digest.hexdigest()


def _suffix(ref: InstanceRef) -> str:
    if ref.sop_class_uid:
        return ".dcm"
    name = ref.file.name.lower()
    return next((s for s in _SUFFIXES if name.endswith(s)), Path(name).suffix[:8])


def _digest_agrees(ref: InstanceRef, former: InstanceRef) -> bool:
    return bool(former.sha256) and file_sha256(ref.file) == former.sha256


def _same_bytes(first: Path, second: Path) -> bool:
    with open_plain(first) as a, open_plain(second) as b:
        while True:
            block = a.read(_BLOCK)
            if block != b.read(_BLOCK):
                return False
            if not block:
                return True
