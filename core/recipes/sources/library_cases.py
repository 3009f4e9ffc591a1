"""Cases that readers accepted or corrected, laid into a folder with a list (``cases.json``).

::

    {"schema_version": 1, "cases": [
        {"id": "c-1", "patient": "p1f…", "study": "s1…", "images": {"image": ["c-1/image.nii.gz"]},
         "mask": "c-1/mask.nii.gz", "label": null, "attributes": {"sex": "F"}, "part": null}]}

Paths are relative to the folder and stay inside it; the list and the files may be sealed. The attribute ``volume`` is
JSON with what a NIfTI doesn't hold of a series (units, windows, whether low is white), so that a model is taught what
it will see in the reading application.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from core.config.sealed_file import open_plain
from core.domain.errors import EnvironmentFault
from core.domain.volume import Volume
from core.domain.window import Window
from core.formats.nifti import read_nifti
from core.recipes.base import Strict
from core.recipes.cases import Case, CaseData, Part
from core.recipes.sources.base import CaseSource, natural_key, refusal, require_folder
from core.recipes.sources_schema import LibraryCases

CASES_FILE = "cases.json"
VOLUME_FACTS = "volume"
_MAX_BYTES = 64 << 20


class CaseEntry(Strict):
    """One case of the list."""

    id: str = Field(min_length=1, max_length=200)
    patient: str = Field(min_length=1, max_length=200)
    study: str = ""
    images: dict[str, tuple[str, ...]] = Field(min_length=1)
    mask: str | None = None
    label: int | None = Field(default=None, ge=0, le=255)
    attributes: dict[str, str] = Field(default_factory=dict)
    part: Part | None = None


class CaseList(Strict):
    """The whole of ``cases.json``."""

    schema_version: Literal[1] = 1
    cases: tuple[CaseEntry, ...] = ()


class LibraryCasesSource(CaseSource):
    """Reads the list."""

    name = "library_cases"

    def cases(self, settings: LibraryCases, folder: Path, channels: tuple[str, ...]) -> list[Case]:  # noqa: ARG002
        """Return the listed cases by name, with the channels that the recipe knows."""
        require_folder(folder)
        entries = read_case_list(folder / CASES_FILE).cases
        found = []
        for entry in sorted(entries, key=lambda one: natural_key(one.id)):
            images = {
                channel: tuple(_inside(folder, name, entry.id) for name in names)
                for channel, names in entry.images.items()
                if channel in channels
            }
            mask = None if entry.mask is None else _inside(folder, entry.mask, entry.id)
            found.append(
                Case(
                    entry.id,
                    entry.patient,
                    entry.study or entry.id,
                    images,
                    entry.label,
                    mask,
                    attributes=entry.attributes,
                    part=entry.part,
                )
            )
        return found

    def read(self, case: Case, settings: LibraryCases, channels: tuple[str, ...]) -> CaseData | None:  # noqa: ARG002
        """Read image and labels and put back what the image's file doesn't hold."""
        if VOLUME_FACTS not in case.attributes or any(len(case.images.get(c, ())) != 1 for c in channels):
            return None
        volumes = {c: restored(read_nifti(case.images[c][0]), case.attributes) for c in channels}
        labels = None
        if case.mask is not None:
            mask = read_nifti(case.mask)
            if any(not mask.geometry.same_grid_as(volume.geometry) for volume in volumes.values()):
                return None
            labels = np.asarray(mask.voxels, dtype=np.uint8)
        return CaseData(volumes, labels, case.label)


def restored(volume: Volume, attributes: Mapping[str, str]) -> Volume:
    """Return a volume with the facts of a case's attribute ``volume``; the same volume without one."""
    if VOLUME_FACTS not in attributes:
        return volume
    facts = json.loads(attributes[VOLUME_FACTS])
    return replace(
        volume,
        modality=facts["modality"],
        units=facts["units"],
        body_part=facts["body_part"],
        padding_value=facts["padding_value"],
        inverted=facts["inverted"],
        windows=tuple(Window(center, width) for center, width in facts["windows"]),
    )


def read_case_list(file: Path) -> CaseList:
    """Read ``cases.json``; raises InputError (``data.list``) when it is absent, damaged or of another form."""
    try:
        with open_plain(file) as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise refusal("list", f"{file.name} is too large.", "")
        return CaseList.model_validate_json(data)
    except FileNotFoundError:
        raise refusal("list", f"The folder has no {file.name}.", "Start the training again.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise refusal(
            "list", f"{file.name} is refused: {where}: {first['msg']}.", "Write it again."
        ) from None
    except OSError as error:
        raise EnvironmentFault(
            "data.unreadable", f"{file.name} can't be read: {error.strerror}.", "Check its permissions."
        ) from error


def case_list_text(cases: CaseList) -> str:
    """Write the list as text."""
    return json.dumps(cases.model_dump(mode="json"), indent=1)


def _inside(folder: Path, name: str, case_id: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            "list", f"The case “{case_id}” names a file outside of its folder.", "Write the list again."
        )
    if not path.is_file():
        raise refusal("no_image", f"A file of the case “{case_id}” isn't there.", "Lay the cases out again.")
    return path
