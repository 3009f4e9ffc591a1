"""One folder of images per class."""

from __future__ import annotations

from pathlib import Path

from core.dicom.scan import scan_paths
from core.recipes.cases import Case, Part
from core.recipes.sources.base import (
    DICOM,
    NIFTI,
    NRRD,
    PICTURES,
    CaseSource,
    PatientPattern,
    files_below,
    pseudonym,
    refusal,
    require_folder,
)
from core.recipes.sources_schema import ClassFolders


class ClassFoldersSource(CaseSource):
    """Every image file at any depth below a class's folder is a case; DICOM files name their patients themselves."""

    name = "class_folders"

    def cases(self, settings: ClassFolders, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases class by class, by name."""
        require_folder(folder)
        folders = settings.folders or settings.classes
        if len(folders) != len(settings.classes):
            raise refusal(
                "folders",
                f"{len(settings.classes)} classes have {len(folders)} folders.",
                "Give data.source.folders one entry per class, or none.",
            )
        pattern = PatientPattern(settings.patient_pattern) if settings.patient_pattern else None
        found: list[Case] = []
        for below, part in _places(settings):
            for label, (name, own) in enumerate(zip(settings.classes, folders, strict=True)):
                place = f"{below}/{own}" if below else own
                for number, path in enumerate(_pictures(folder, place, name)):
                    case_id = path.relative_to(folder).as_posix()
                    patient = case_id
                    if pattern is not None:
                        patient = pattern.patient(path)
                    elif settings.run_length > 1:
                        patient = f"{place}/run-{number // settings.run_length:05d}"
                    elif path.name.lower().endswith(DICOM):
                        patient = _patient_of(path) or case_id
                    found.append(
                        Case(case_id, patient, case_id, {channels[0]: (path,)}, label=label, part=part)
                    )
        return found


def _patient_of(file: Path) -> str:
    """Return the pseudonym of the patient that a DICOM file states; empty when it states none."""
    series = scan_paths([file], children=0).series
    stated = series[0].identity.patient_id if series else ""
    return pseudonym(stated) if stated else ""


def _places(settings: ClassFolders) -> list[tuple[str, Part | None]]:
    """Return the folders that hold the class folders, each with its part."""
    if not settings.parts:
        return [("", None)]
    return [(settings.parts[part.value], part) for part in Part if part.value in settings.parts]


def _pictures(folder: Path, below: str, name: str) -> list[Path]:
    place = (folder / below).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise refusal(
            "folders", f"The folder of the class “{name}” leaves the data folder.", "Move it inside."
        )
    if not (folder / below).is_dir():
        present = sorted(p.name for p in folder.iterdir() if p.is_dir())[:20]
        raise refusal(
            "no_class",
            f"The data folder has no folder “{below}” for the class “{name}”.",
            f"Folders there: {', '.join(present) or 'none'}. Give one folder per class.",
        )
    found = files_below(folder / below, (*PICTURES, *NIFTI, *NRRD, *DICOM))
    if not found:
        raise refusal(
            "empty_class",
            f"The folder of the class “{name}” has no images.",
            "Add images or remove the class.",
        )
    return found
