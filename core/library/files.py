"""How the index remembers where a file is and whether it is still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config.sealed_file import open_plain
from core.domain.study import InstanceRef

_COPIED = "@instances/"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileStamp:
    """Size in bytes and time of the last change in nanoseconds."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """Read the stamp of a file; raises OSError when it is gone."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class StoredFile:
    """An instance in the index with the stamp that its file had at the import."""

    instance: InstanceRef
    stamp: FileStamp
    series_uid: str


def stored_text(file: Path, instances_folder: Path) -> str:
    """Return the text under which a file is remembered: relative for copies, so that a home can be moved."""
    if file.is_relative_to(instances_folder):
        return _COPIED + file.relative_to(instances_folder).as_posix()
    return str(file)


def remembered_texts(files: Sequence[Path], instances_folder: Path) -> list[str]:
    """Return ``stored_text`` of many files; ``pathlib`` would take longer over them than sealing them does."""
    if os.name == "nt":
        return [stored_text(file, instances_folder) for file in files]
    prefix = f"{instances_folder}/"
    texts = (str(file) for file in files)
    return [_COPIED + text[len(prefix) :] if text.startswith(prefix) else text for text in texts]


def resolved(text: str, instances_folder: Path) -> Path:
    """Return the file that a remembered text stands for."""
    if text.startswith(_COPIED):
        return instances_folder / text.removeprefix(_COPIED)
    return Path(text)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes in hexadecimal; of the plaintext when the file is sealed."""
    digest = hashlib.sha256()
    with open_plain(path) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def copied_name(sop_instance_uid: str, suffix: str) -> Path:
    """Return the relative path of a copy: the first 32 digits of sha256(UID), so that no UID can leave the folder."""
    # names of damaged files come here too, and those needn't be Unicode
    name = hashlib.sha256(sop_instance_uid.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Path(name[:2]) / f"{name}{suffix}"
