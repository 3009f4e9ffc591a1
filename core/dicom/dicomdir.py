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
    seen: set[Path] = set()
    for record in records:
        components = record.texts(_FILE_ID)
        if not components:
            continue
        path = _inside(root, components)
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


def _inside(root: Path, components: tuple[str, ...]) -> Path | None:
    """Return the path of a File ID below ``root``, or None when it would leave it."""
    if len(components) > _MAX_COMPONENTS:
        return None
    current = root
    for component in components:
        if component in ("", ".", "..") or any(c in component for c in "/\\:\0"):
            return None
        current = _existing(current, component)
    try:
        resolved = current.resolve()
    except (OSError, RuntimeError):
        return None
    return resolved if resolved.is_relative_to(root) else None


def _existing(folder: Path, name: str) -> Path:
    """Return the child, also when the medium was copied with other letter case."""
    child = folder / name
    if child.exists() or not folder.is_dir():
        return child
    return next((entry for entry in folder.iterdir() if entry.name.lower() == name.lower()), child)
