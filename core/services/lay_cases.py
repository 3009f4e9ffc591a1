"""Puts the cases of a training where its worker finds them: image, label and a list, sealed, without identity.

File names are those of the cases (keyed hashes). What a NIfTI doesn't hold of a volume travels in the list's
attributes; where each label comes from stands in ``provenance.json`` beside it and is never seen by the training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundles.manifest import Manifest
from core.config.sealed_file import write_kept
from core.domain.errors import EnvironmentFault, SafetyError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.training import TrainingCase
from core.domain.volume import Volume
from core.formats.nifti import write_nifti
from core.library import documents
from core.recipes.cases import Part
from core.recipes.sources.library_cases import (
    CASES_FILE,
    VOLUME_FACTS,
    CaseEntry,
    CaseList,
    case_list_text,
)
from core.services.edited_segmentation import edited_labels
from core.services.engine import Engine
from core.services.image_likeness import fingerprint_of, thumbnail_of
from core.services.load_volume import load_volume
from core.services.results import decisions_for, load_result, load_segmentation

IMAGE_FILE, LABELS_FILE, PROVENANCE_FILE = "image.nii", "labels.nii.gz", "provenance.json"
CHANNEL = "image"


@dataclass(frozen=True, eq=False)
class LaidCase:
    """A case in the folder, and what its image is recognised by.

    Attributes
    ----------
    study : str
        Keyed hash of the study's UID.
    sha256 : str
        Of the voxels.
    thumbnail : numpy.ndarray
        ``(n,)`` float32, centred, of unit length; correlations are products.
    """

    case: TrainingCase
    study: str
    sha256: str
    thumbnail: NDArray[np.float32]


def lay_cases(
    engine: Engine,
    manifest: Manifest,
    cases: Sequence[TrainingCase],
    folder: Path,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> list[LaidCase]:
    """Write the included cases below ``folder``, which lies in the home's training folder.

    Raises
    ------
    AppError
        When a series can't be loaded, its label isn't on its grid any more (``training.grid``), or the disk is full
        (``training.not_written``).
    """
    laid, entries = [], []
    chosen = [case for case in cases if case.included]
    for number, case in enumerate(chosen):
        progress("Preparing cases", number / len(chosen))
        if cancel is not None:
            cancel.raise_if_cancelled()
        volume = load_volume(engine, case.series_key, cancel=cancel)
        try:
            entry = _write(engine, manifest, case, volume, folder)
        except OSError as error:
            raise _not_written(error) from error
        entries.append(entry)
        laid.append(LaidCase(case, entry.study, fingerprint_of(volume.voxels), thumbnail_of(volume.voxels)))
    provenance = {case.case_id: json.loads(documents.labels_to_json(case.labels)) for case in chosen}
    try:
        write_kept(folder / CASES_FILE, case_list_text(CaseList(cases=tuple(entries))).encode())
        write_kept(folder / PROVENANCE_FILE, json.dumps(provenance, indent=1).encode())
    except OSError as error:
        raise _not_written(error) from error
    progress("Preparing cases", 1.0)
    return laid


def _write(engine: Engine, manifest: Manifest, case: TrainingCase, volume: Volume, folder: Path) -> CaseEntry:
    place = folder / case.case_id
    place.mkdir(parents=True, exist_ok=True)
    write_nifti(place / IMAGE_FILE, volume.geometry, volume.voxels)
    mask = label = None
    if manifest.task == "classification":
        label = case.labels[0].value
    else:
        write_nifti(place / LABELS_FILE, volume.geometry, _labels(engine, case, volume), intent_label=True)
        mask = f"{case.case_id}/{LABELS_FILE}"
    assert case.part is not None
    return CaseEntry(
        id=case.case_id,
        patient=case.patient,
        study=engine.vault.reference(case.study_uid)[:16],
        images={CHANNEL: (f"{case.case_id}/{IMAGE_FILE}",)},
        mask=mask,
        label=label,
        attributes={VOLUME_FACTS: json.dumps(volume_facts(volume))},
        part=Part(str(case.part)),
    )


def volume_facts(volume: Volume) -> dict[str, object]:
    """Return what a NIfTI doesn't hold of a volume and preprocessing needs; no identifier, no free text."""
    padding = volume.padding_value
    return {
        "modality": volume.modality,
        "units": volume.units,
        "body_part": volume.body_part,
        "padding_value": float(padding) if padding is not None and np.isfinite(padding) else None,
        "inverted": volume.inverted,
        "windows": [[float(window.center), float(window.width)] for window in volume.windows],
    }


def _labels(engine: Engine, case: TrainingCase, volume: Volume) -> NDArray[np.uint8]:
    """Return the label map as the reader left it, on the grid of the series."""
    segmentation = load_segmentation(engine, case.result_id)
    if segmentation is None:
        raise SafetyError(
            "training.no_labels",
            "A result that was accepted has no label map any more.",
            "Run the model again.",
        )
    result = load_result(engine, case.result_id)
    wanted = {label.decision_id for label in case.labels}
    decisions = {k: d for k, d in decisions_for(engine, case.result_id).items() if d.decision_id in wanted}
    if len(decisions) != len(wanted):
        raise SafetyError(
            "training.decisions_changed",
            "A verdict was changed while the training was being prepared.",
            "Look at the list of cases again and start anew.",
        )
    edited, _ = edited_labels(engine, result, segmentation, decisions)
    if not edited.geometry.same_grid_as(volume.geometry):
        raise SafetyError(
            "training.grid",
            f"Case {case.case_id}: the series no longer has the grid on which its labels were made.",
            "Leave the case out, or run the model on the series again.",
        )
    return edited.labels.astype(np.uint8)


def _not_written(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        "training.not_written",
        f"The cases can't be written ({error.strerror or type(error).__name__}).",
        "Free space on the disk of the data folder.",
    )
