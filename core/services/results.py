"""Keeps what models said: the result in the index, its arrays in a folder of its own.

The files are written and flushed before the transaction that makes the result known, so a result in the index always
has its files; a crash in between leaves a folder that nothing refers to. Digests tell a file that was changed.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from core.domain.audit import AuditCode
from core.domain.changes import OperationChanges
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.explanation import Explanation
from core.domain.result import Decision, ModelResult
from core.domain.segmentation import Segmentation
from core.formats.nifti import read_nifti, write_nifti
from core.library.files import file_sha256
from core.library.grids import geometry_from_json, geometry_to_json, read_heat, write_heat
from core.library.repositories.results import ExplanationRecord
from core.services.engine import Engine

LABEL_MAP_FILE = "labels.nii.gz"


def store_result(
    engine: Engine,
    result: ModelResult,
    segmentation: Segmentation | None = None,
    *,
    check_file: Callable[[Path], Mapping[str, str]] | None = None,
) -> OperationChanges:
    """Keep a result, its label map and its findings.

    ``label_map_file`` and ``created_utc`` of the stored result are filled in here.

    Parameters
    ----------
    check_file : callable or None
        Reads the written label map again, before the result becomes known, and returns what it checked; added
        to the result's ``checks``. When it raises, nothing is kept.

    Raises
    ------
    InputError
        If the result's study isn't in the library (``results.unknown_study``).
    EnvironmentFault
        If the label map can't be written (``results.not_written``).
    """
    _require_study(engine, result)
    digest = grid = ""
    file = None
    if segmentation is not None:
        path = engine.paths.results / result.result_id / LABEL_MAP_FILE
        digest = _write_label_map(path, segmentation)
        grid, file = geometry_to_json(segmentation.geometry), LABEL_MAP_FILE
        if check_file is not None:
            result = replace(result, checks={**result.checks, **_checked(path, check_file)})
    created = result.created_utc or datetime.now(UTC).isoformat(timespec="milliseconds")
    stored = replace(result, created_utc=created, label_map_file=file)
    with engine.unit_of_work() as uow:
        definitions = segmentation.segments if segmentation is not None else ()
        uow.results.add(stored, definitions, digest, grid)
        uow.findings.add_all(stored.result_id, stored.findings)
        uow.studies.touch(stored.study_uid)
        engine.record(
            AuditCode.MODEL_RUN,
            object_kind="study",
            object_ref=stored.study_uid,
            n_objects=1,
            detail=_audit_detail(stored, digest),
        )
    return OperationChanges(
        studies=frozenset({stored.study_uid}),
        series=frozenset({stored.series_uid}),
        results=frozenset({stored.result_id}),
        audit=True,
    )


def load_result(engine: Engine, result_id: str) -> ModelResult:
    """Return a result.

    Raises
    ------
    InputError
        If there is none of that identifier (``results.unknown``).
    """
    with engine.unit_of_work(writes=False) as uow:
        found = uow.results.get(result_id)
    if found is None:
        raise InputError("results.unknown", f"There is no result {result_id}.", "Run the model again.")
    return found


def load_segmentation(engine: Engine, result_id: str) -> Segmentation | None:
    """Return a result's label map on its exact grid, None for a result without one.

    Raises
    ------
    InputError
        If there is no such result.
    SafetyError
        If the file is missing, or isn't the one that was written (``results.label_map_changed``).
    """
    with engine.unit_of_work(writes=False) as uow:
        record = uow.results.label_map(result_id)
    if record is None:
        raise InputError("results.unknown", f"There is no result {result_id}.", "Run the model again.")
    if not record.sha256:
        return None
    path = engine.paths.results / result_id / LABEL_MAP_FILE
    _require_unchanged(path, record.sha256)
    geometry = geometry_from_json(record.grid)
    volume = read_nifti(path)
    if not volume.geometry.same_grid_as(geometry):
        raise _changed()
    fits_uint8 = int(volume.voxels.max(initial=0)) < 256
    labels = volume.voxels.astype(np.uint8) if fits_uint8 else volume.voxels.astype(np.uint16)
    return Segmentation(geometry, labels, record.definitions)


def results_for(engine: Engine, series_or_study: str) -> list[ModelResult]:
    """Return the results of a series (key or UID) or of a study (UID), the newest first."""
    with engine.unit_of_work(writes=False) as uow:
        return uow.results.of(series_or_study)


def decisions_for(engine: Engine, result_id: str) -> dict[str, Decision]:
    """Return the standing verdict on each decided finding of a result, by finding identifier."""
    with engine.unit_of_work(writes=False) as uow:
        return {decision.finding_id: decision for decision in uow.decisions.of_result(result_id)}


def store_explanation(engine: Engine, result_id: str, explanation: Explanation) -> str:
    """Keep a heat map of a result; returns its identifier.

    Raises
    ------
    InputError
        If there is no such result.
    EnvironmentFault
        If the file can't be written (``results.not_written``).
    """
    result = load_result(engine, result_id)
    explanation_id = uuid.uuid4().hex
    name = f"explanation-{explanation_id}.npz"
    path = engine.paths.results / result_id / name
    try:
        write_heat(path, explanation.heat)
    except OSError as error:
        raise _not_written(error) from error
    record = ExplanationRecord(
        explanation_id=explanation_id,
        result_id=result_id,
        created_utc=datetime.now(UTC).isoformat(timespec="microseconds"),
        document=json.dumps(_explanation_document(explanation)),
        file=name,
        file_sha256=file_sha256(path),
    )
    with engine.unit_of_work() as uow:
        uow.explanations.add(record)
        engine.record(
            AuditCode.MODEL_EXPLANATION,
            object_kind="study",
            object_ref=result.study_uid,
            n_objects=1,
            detail={
                "result_id": result_id,
                "explanation_id": explanation_id,
                "method": explanation.method,
                "output_sha256": record.file_sha256,
            },
        )
    return explanation_id


def load_explanations(engine: Engine, result_id: str) -> list[Explanation]:
    """Return the heat maps of a result, the oldest first.

    Raises
    ------
    SafetyError
        If a file is missing or was changed.
    """
    with engine.unit_of_work(writes=False) as uow:
        records = uow.explanations.of_result(result_id)
    return [_explanation(engine.paths.results / result_id, record) for record in records]


def _explanation_document(explanation: Explanation) -> dict[str, Any]:
    return {
        "geometry": geometry_to_json(explanation.geometry),
        "method": explanation.method,
        "class_label": explanation.class_label,
        "layer": explanation.layer,
        "resolution_mm": list(explanation.resolution_mm),
        "randomisation_correlation": explanation.randomisation_correlation,
        "sanity_passed": explanation.sanity_passed,
        "pointing_game": explanation.pointing_game,
    }


def _explanation(folder: Path, record: ExplanationRecord) -> Explanation:
    path = folder / record.file
    _require_unchanged(path, record.file_sha256)
    document = json.loads(record.document)
    i, j, k = document.pop("resolution_mm")
    geometry = geometry_from_json(document.pop("geometry"))
    return Explanation(geometry=geometry, heat=read_heat(path), resolution_mm=(i, j, k), **document)


def _write_label_map(path: Path, segmentation: Segmentation) -> str:
    try:
        # write_nifti is atomic itself: it writes beside the target and renames.
        write_nifti(path, segmentation.geometry, segmentation.labels)
        return file_sha256(path)
    except OSError as error:
        raise _not_written(error) from error


def _checked(path: Path, check_file: Callable[[Path], Mapping[str, str]]) -> Mapping[str, str]:
    """Check a written label map; remove it when it fails."""
    try:
        return check_file(path)
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise


def _require_study(engine: Engine, result: ModelResult) -> None:
    with engine.unit_of_work(writes=False) as uow:
        if not uow.studies.exists(result.study_uid):
            raise InputError(
                "results.unknown_study",
                "The result's study isn't in the library.",
                "Import the study first.",
            )


def _require_unchanged(path: Path, sha256: str) -> None:
    try:
        unchanged = file_sha256(path) == sha256
    except SafetyError as error:
        raise _changed() from error
    except OSError as error:
        raise SafetyError(
            "results.file_missing",
            f"The file {path.name} of this result can't be read.",
            "Run the model again, or restore the results folder from a backup.",
        ) from error
    if not unchanged:
        raise _changed()


def _changed() -> SafetyError:
    return SafetyError(
        "results.label_map_changed",
        "A file of this result isn't the one that was written; it isn't shown.",
        "Run the model again, or restore the results folder from a backup.",
    )


def _not_written(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        "results.not_written",
        f"The result can't be written ({error.strerror or type(error).__name__}).",
        "Free space on the disk of the data folder.",
    )


def _audit_detail(result: ModelResult, digest: str) -> dict[str, str | int | float | bool]:
    detail: dict[str, str | int | float | bool] = {
        "result_id": result.result_id,
        "model_id": result.model.id,
        "model_version": result.model.version,
        "model_sha256": result.model.sha256,
        "task": result.task,
        "device": result.device,
        "findings": len(result.findings),
        "segments": len(result.segments),
    }
    if digest:
        detail["output_sha256"] = digest
    return detail
