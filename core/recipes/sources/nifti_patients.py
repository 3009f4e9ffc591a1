"""A folder per patient with a file per contrast and a mask."""

from __future__ import annotations

from pathlib import Path

from core.recipes.cases import Case
from core.recipes.sources.base import CaseSource, natural_key, refusal, require_folder
from core.recipes.sources_schema import NiftiPatients

_DEEPEST = 3


class NiftiPatientsSource(CaseSource):
    """Every folder that holds one of the channels' files is a case; the uppermost folder is the patient.

    So ``patient/t1.nii.gz`` is a patient with one case, ``patient/2024/t1.nii.gz`` one of several studies.
    """

    name = "nifti_patients"

    def cases(self, settings: NiftiPatients, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases by name; a channel whose file is absent is absent in the case."""
        require_folder(folder)
        unknown = set(settings.files) - set(channels)
        if unknown:
            raise refusal(
                "channels",
                f"data.source.files names {', '.join(sorted(unknown))}, which isn't among data.channels.",
                "Name the same channels in both.",
            )
        names = {channel: settings.files.get(channel, f"{channel}.nii.gz") for channel in channels}
        for name in (*names.values(), settings.mask):
            if Path(name).name != name or "\\" in name:
                raise refusal("files", f"“{name}” isn't the name of a file.", "Give names without folders.")
        found = []
        for place in _folders(folder):
            images = {channel: (place / n,) for channel, n in names.items() if (place / n).is_file()}
            mask = place / settings.mask
            case_id = place.relative_to(folder).as_posix()
            if not images and not mask.is_file():
                continue
            if not images:
                raise refusal(
                    "no_image", f"“{case_id}” has a mask but none of {', '.join(names.values())}.", "Add it."
                )
            if not mask.is_file():
                raise refusal(
                    "no_mask",
                    f"“{case_id}” has no mask “{settings.mask}”.",
                    "Add the mask, or remove the folder.",
                )
            patient = case_id.split("/")[0]
            found.append(Case(case_id, patient, case_id, images, mask=mask))
        if not found:
            raise refusal(
                "no_images",
                f"No folder of the data holds {' or '.join(names.values())}.",
                "Give one folder per patient; data.source.files says how the files are called.",
            )
        return found


def _folders(folder: Path, depth: int = 1) -> list[Path]:
    found = []
    below = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    for path in sorted(below, key=lambda p: natural_key(p.name)):
        found.append(path)
        if depth < _DEEPEST:
            found += _folders(path, depth + 1)
    return found
