"""Cases that the recipe itself lists."""

from __future__ import annotations

from pathlib import Path

from core.recipes.cases import Case
from core.recipes.sources.base import CaseSource, check_unique, files_below, refusal, require_folder
from core.recipes.sources_schema import Listed, ListedCase


class ListedSource(CaseSource):
    """Finds the files of each listed case below the data folder; a folder stands for the files in it."""

    name = "listed"

    def cases(self, settings: Listed, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases in the order of the recipe."""
        require_folder(folder)
        return check_unique([_case(entry, folder, channels) for entry in settings.cases])


def _case(entry: ListedCase, folder: Path, channels: tuple[str, ...]) -> Case:
    images = {
        channel: _files(entry.images[channel], folder, entry.id)
        for channel in channels
        if channel in entry.images
    }
    mask = None
    if entry.mask is not None:
        (mask,) = _files(entry.mask, folder, entry.id)[:1]
    return Case(
        id=entry.id,
        patient=entry.patient or entry.id,
        study=entry.id,
        images=images,
        label=entry.label,
        mask=mask,
        attributes=dict(entry.attributes),
        part=entry.part,
    )


def _files(relative: str, folder: Path, case: str) -> tuple[Path, ...]:
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            "outside", f"Case “{case}” names a file outside of the data folder.", "Correct the recipe."
        )
    if path.is_dir():
        found = tuple(files_below(path, ("",)))
        if found:
            return found
    elif path.is_file():
        return (path,)
    raise refusal(
        "no_image",
        f"“{relative}” of case “{case}” isn't in the data folder.",
        "Give the right folder with --data.",
    )
