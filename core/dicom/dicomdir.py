"""DICOMDIR: which files a medium lists. Source: DICOM PS3.3 annex F, PS3.10 section 8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.dicom.part10 import parse_file
from core.domain.study import SkippedFile

_RECORDS, _FILE_ID = 0x00041220, 0x00041500
_MAX_COMPONENTS = 16


def listed_files(dicomdir: Path, skipped: list[SkippedFile]) -> Iterator[Path]:
    """Yield the files that a DICOMDIR references and that lie below its folder.

    Raises
    ------
    NotDicom, InputError
        If the DICOMDIR itself is damaged.
    """
    root = dicomdir.parent.resolve()
    records = parse_file(dicomdir, frozenset({_RECORDS})).elements.items(_RECORDS)
    seen: set[Path] = {dicomdir.resolve()}
    folders = _Folders()
    told = len(skipped)
    for record in records:
        components = record.texts(_FILE_ID)
        if not components:
            continue
        path = _inside(root, components, folders)
        shown = "/".join(components)[:200]
        if path is None:
            skipped.append(
                SkippedFile(shown, "dicomdir.outside", "The DICOMDIR refers to a file outside of its folder.")
            )
        elif not path.is_file():
            skipped.append(
                SkippedFile(shown, "dicomdir.missing_file", "The DICOMDIR lists a file that is absent.")
            )
        elif path not in seen:
            seen.add(path)
            yield path
    if len(seen) == 1 and len(skipped) == told:
        skipped.append(SkippedFile(str(dicomdir), "dicomdir.empty", "The DICOMDIR lists no file."))


class _Folders:
    """Names in the folders of a medium, each folder read once.

    A medium that was copied may have other letter case, or the version and the dot that ISO 9660 adds.
    """

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def child(self, folder: Path, name: str) -> Path:
        """Return the child of that name, or of one that means the same."""
        names = self._names.get(folder)
        if names is None:
            try:
                names = {_plain(entry.name): entry.name for entry in folder.iterdir()}
            except OSError:
                names = {}
            self._names[folder] = names
        return folder / (name if (folder / name).exists() else names.get(_plain(name), name))


def _plain(name: str) -> str:
    """Return a name without letter case, version number and closing dot. Source: ISO 9660, 7.5 and 7.6."""
    return name.lower().removesuffix(";1").removesuffix(".")


def _inside(root: Path, components: tuple[str, ...], folders: _Folders) -> Path | None:
    """Return the path of a File ID below ``root``, or None when it would leave it."""
    if len(components) > _MAX_COMPONENTS:
        return None
    current = root
    for component in components:
        if component in ("", ".", "..") or any(c in component for c in "/\\:\0"):
            return None
        current = folders.child(current, component)
    try:
        resolved = current.resolve()
    except (OSError, RuntimeError):
        return None
    return resolved if resolved.is_relative_to(root) else None
