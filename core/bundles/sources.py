"""Where the bytes of a bundle come from: a folder, or a single ``.zip`` read in place.

Nothing is extracted and nothing outside the bundle is reachable. Source: caps and names follow PKWARE APPNOTE
6.3 and the usual archive abuses (zip-slip, bombs, links, duplicates).
"""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import Path
from typing import Protocol

from core.domain.errors import InputError, SafetyError

MAX_ENTRIES = 10_000
MAX_TOTAL_BYTES = 8 * 1024**3
MAX_MEMBER_BYTES = 4 * 1024**3
MAX_RATIO = 200
_RATIO_APPLIES_ABOVE = 1024 * 1024
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


class FileSource(Protocol):
    """Named bytes."""

    def names(self) -> tuple[str, ...]:
        """Return all file names, relative, with forward slashes, sorted."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises InputError ``bundle.missing_file``."""


def safe_name(name: str) -> str:
    """Return ``name`` if it is a plain relative path on every platform.

    Raises
    ------
    SafetyError
        ``bundle.unsafe_name``: absolute, ``..``, a drive, a backslash, NUL or a reserved device name.
    """
    parts = name.split("/")
    bad = (
        not name
        or any(ord(character) < 32 or character in '\\:*?"<>|' for character in name)
        or any(
            part in ("", ".", "..") or part.endswith((" ", ".")) or _RESERVED.match(part) for part in parts
        )
    )
    if bad:
        raise SafetyError(
            "bundle.unsafe_name",
            f"The bundle holds a file name that leaves its folder or isn't portable: {name!r}.",
            "Don't use this bundle; ask its maker for a clean one.",
        )
    return name


class FolderSource:
    """Files below a folder; links are refused."""

    def __init__(self, root: Path) -> None:
        self._root = root
        names: list[str] = []
        total = 0
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            info = path.lstat()
            if stat.S_ISDIR(info.st_mode):
                continue
            if not stat.S_ISREG(info.st_mode):
                raise SafetyError(
                    "bundle.link", f"{name} is a link or a device.", "A bundle holds plain files only."
                )
            total += info.st_size
            _check_caps(len(names) + 1, total)
            names.append(safe_name(name))
        self._names = tuple(sorted(names))

    def names(self) -> tuple[str, ...]:
        """Return all file names."""
        return self._names

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        if name not in self._names:
            raise _missing(name)
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise _missing(name) from error


class ZipSource:
    """Members of a ``.zip``, perhaps below one common top folder; read into memory, never extracted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                infos = [info for info in archive.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise InputError(
                "bundle.bad_zip", "The archive can't be read.", "Download or copy the bundle again."
            ) from error
        total = 0
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            total += info.file_size
            _check_caps(len(members) + 1, total)
            _check_member(info)
            name = safe_name(info.filename)
            if name in members:
                raise SafetyError(
                    "bundle.duplicate", f"{name} occurs twice in the archive.", "Don't use this bundle."
                )
            members[name] = info
        prefix = _common_folder(tuple(members))
        self._members = {name.removeprefix(prefix): info for name, info in members.items()}

    def names(self) -> tuple[str, ...]:
        """Return all file names."""
        return tuple(sorted(self._members))

    def read(self, name: str) -> bytes:
        """Return a member's bytes; its declared size and CRC are checked while it is read."""
        info = self._members.get(name)
        if info is None:
            raise _missing(name)
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(info) as stream:
                data = stream.read(info.file_size + 1)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise SafetyError(
                "bundle.damaged",
                f"{name} is damaged inside the archive.",
                "Download or copy the bundle again.",
            ) from error
        if len(data) != info.file_size:
            raise SafetyError(
                "bundle.damaged", f"{name} has another size than declared.", "Don't use this bundle."
            )
        return data


def open_source(path: Path) -> FileSource:
    """Open a bundle's folder or ``.zip``; raises InputError ``bundle.not_found`` or ``bundle.bad_zip``."""
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        return ZipSource(path)
    raise InputError(
        "bundle.not_found",
        f"There is no model bundle named {path.name}.",
        "Give a bundle's folder or its .zip file.",
    )


def _missing(name: str) -> InputError:
    return InputError(
        "bundle.missing_file", f"The bundle has no readable file {name}.", "Use the complete bundle."
    )


def _check_caps(entries: int, total: int) -> None:
    if entries > MAX_ENTRIES or total > MAX_TOTAL_BYTES:
        raise InputError(
            "bundle.too_large",
            f"The bundle has more than {MAX_ENTRIES} files or {MAX_TOTAL_BYTES // 1024**3} GB.",
            "Use a bundle made for Overread.",
        )


def _check_member(info: zipfile.ZipInfo) -> None:
    if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 0x1:
        raise SafetyError(
            "bundle.link", "The archive holds a link or an encrypted file.", "Don't use this bundle."
        )
    inflated = info.file_size > _RATIO_APPLIES_ABOVE and info.file_size > MAX_RATIO * max(
        info.compress_size, 1
    )
    if inflated or info.file_size > MAX_MEMBER_BYTES:
        raise SafetyError(
            "bundle.bomb", "A file of the archive expands beyond all measure.", "Don't use this bundle."
        )


def _common_folder(names: tuple[str, ...]) -> str:
    tops = {name.split("/", 1)[0] + "/" if "/" in name else "" for name in names}
    return tops.pop() if len(tops) == 1 else ""
