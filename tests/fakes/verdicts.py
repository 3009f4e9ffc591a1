"""A home with series, results of a model and a reader's verdicts on them, made without running the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import (
    Calibration,
    Conformal,
    Inference,
    Manifest,
    Network,
    Preprocessing,
    Scale,
    Weights,
)
from core.bundles.writer import write_bundle
from core.domain.result import ClassProbability, Finding, ModelResult, SegmentMeasure
from core.domain.segmentation import Segmentation
from core.domain.study import InstanceRef, PatientIdentity, SeriesKind, SeriesSummary, StudySummary
from core.domain.volume import Volume
from core.formats.nifti import write_nifti
from core.library.files import FileStamp
from core.services.engine import Engine
from core.services.load_volume import load_volume
from core.services.record_decision import record_decision
from core.services.results import store_result
from tests.fakes.bundles import (
    CARD,
    LICENCE,
    SAFETENSORS_FILE,
    classification_manifest,
    expected_labels,
    make_image,
    make_torch_bundle,
    make_volume,
    segmentation_manifest,
)

UID_ROOT = "1.2.826.0.1.3680043.10.77"
SEGMENTATION, CLASSIFICATION = "fake-threshold", "fake-brightness"
SHAPE = (12, 16, 16)


def add_segmentation_model(engine: Engine, *, trainable: bool = False) -> Bundle:
    """Install a tiny 3-D U-Net (background, soft tissue, bone); real weights only when ``trainable``."""
    manifest = segmentation_manifest(
        id=SEGMENTATION,
        preprocessing=Preprocessing(intensity=(Scale(op="scale", from_low=-1000, from_high=1000),)),
        inference=Inference(patch_kji=(8, 16, 16), divisor=4),
    )
    params = {"in_channels": 1, "out_channels": 3, "channels": [4, 8]}
    return _installed(engine, "unet3d", params, manifest, trainable)


def add_classification_model(engine: Engine, *, trainable: bool = False) -> Bundle:
    """Install a tiny 2-D CNN of two classes; real weights only when ``trainable``."""
    manifest = classification_manifest(
        id=CLASSIFICATION, calibration=Calibration(conformal=Conformal(quantile=0.9, coverage=0.95))
    )
    return _installed(
        engine, "cnn2d", {"in_channels": 1, "out_channels": 2, "channels": [4, 8]}, manifest, trainable
    )


def _installed(
    engine: Engine, network: str, params: dict[str, Any], manifest: Manifest, trainable: bool
) -> Bundle:
    folder = engine.paths.bundles / manifest.id
    if trainable:
        return make_torch_bundle(folder, network, params, (), manifest)
    # Without torch, which takes seconds to load.
    from safetensors.numpy import save

    described = manifest.model_copy(
        update={
            "network": Network(name=network, params=params),
            "weights": (Weights(file=SAFETENSORS_FILE, format="safetensors"),),
        }
    )
    files = {SAFETENSORS_FILE: save({"weight": np.arange(8, dtype=np.float32)})}
    return write_bundle(folder, described, files=files, card=CARD, licence_text=LICENCE)


def add_series(
    engine: Engine,
    folder: Path,
    number: int,
    volume: Volume | None = None,
    *,
    patient: str = "",
    study: int | None = None,
) -> SeriesSummary:
    """Put a NIfTI series into the index; ``patient`` is the Patient ID, by default one of its own."""
    if volume is None:
        # Every patient's body lies elsewhere, or their images would count as one.
        volume = make_volume(SHAPE, seed=number)
        volume = dataclasses.replace(volume, voxels=np.roll(volume.voxels, (number % 4, number // 4), (2, 1)))
    study_uid = f"{UID_ROOT}.{study or number}"
    series_uid = f"{study_uid}.1" if study is None else f"{study_uid}.{number}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"image{number}.nii"
    write_nifti(file, volume.geometry, volume.voxels)
    identity = PatientIdentity(f"Planted^Name{number}", patient or f"PID-{number}", "19700101", "F", "", "")
    kind = SeriesKind.VOLUME if volume.geometry.shape_kji[0] > 1 else SeriesKind.IMAGE
    summary = SeriesSummary(
        key=series_uid,
        series_uid=series_uid,
        study_uid=study_uid,
        modality=volume.modality,
        description=f"Series {number}",
        body_part="CHEST",
        instances=1,
        frames=volume.geometry.shape_kji[0],
        kind=kind,
        shape_kji=volume.geometry.shape_kji,
        spacing_kji_mm=(2.0, 2.0, 2.0),
        regular=True,
        series_number=1,
        axis_codes="LPS",
    )
    row = StudySummary(
        study_uid=study_uid,
        pseudonym=engine.vault.pseudonym(identity, study_uid),
        description="CT thorax",
        modalities=(volume.modality,),
        status="unread",
        study_date="2026-01",
        imported_utc="2026-01-02T03:04:05.000+00:00",
    )
    stamp = FileStamp.of(file)
    with engine.unit_of_work() as uow:
        if not uow.studies.exists(study_uid):
            uow.studies.add(row, identity)
        uow.series.put(summary, "nifti")
        uow.instances.put(summary.key, [(InstanceRef(f"{series_uid}.9", "", file), stamp)])
    return summary


def add_segmentation_result(
    engine: Engine, bundle: Bundle, series: SeriesSummary, labels: NDArray[np.uint8], *, created_utc: str = ""
) -> ModelResult:
    """Store a result with one finding per label that occurs."""
    volume_ml = 0.008
    found = [label for label in bundle.manifest.labels if (labels == label.value).any()]
    result = ModelResult(
        result_id=f"r-{series.key.rsplit('.', 2)[-2]}-{series.key.rsplit('.', 1)[-1]}-{created_utc[:10]}",
        study_uid=series.study_uid,
        series_uid=series.key,
        model=bundle.identity,
        task="segmentation",
        device="cpu",
        segments=tuple(
            SegmentMeasure(
                label.value,
                label.name,
                None,
                int((labels == label.value).sum()),
                float((labels == label.value).sum() * volume_ml),
                (0.0, 0.0, 0.0),
                float(100 * label.value),
            )
            for label in bundle.manifest.labels
        ),
        findings=tuple(
            Finding(f"f{n}", label.name, "segment", (0.0, 0.0, 0.0), segment_value=label.value)
            for n, label in enumerate(found, start=1)
        ),
        created_utc=created_utc,
    )
    geometry = load_volume(engine, series.key).geometry
    store_result(engine, result, Segmentation(geometry, labels, bundle.segments))
    return result


def add_class_result(
    engine: Engine, bundle: Bundle, series: SeriesSummary, label: str, *, created_utc: str = ""
) -> ModelResult:
    """Store a classification with its most probable class as the finding."""
    names = [item.name for item in bundle.manifest.labels]
    classes = tuple(
        ClassProbability(name, 0.9 if name == label else 0.1 / (len(names) - 1)) for name in names
    )
    result = ModelResult(
        result_id=f"r-{series.key.rsplit('.', 2)[-2]}",
        study_uid=series.study_uid,
        series_uid=series.key,
        model=bundle.identity,
        task="classification",
        device="cpu",
        classes=classes,
        findings=(Finding("f1", label, "class", (0.0, 0.0, 0.0), score=0.9),),
        created_utc=created_utc,
    )
    store_result(engine, result)
    return result


def accept_all(engine: Engine, result: ModelResult) -> None:
    """Accept every finding."""
    for finding in result.findings:
        record_decision(engine, result.result_id, finding.id, "accept")


def correct(
    engine: Engine, result: ModelResult, finding_id: str, labels: NDArray[np.uint8], folder: Path
) -> None:
    """Correct a finding by a label map."""
    mask = folder / f"mask-{result.result_id}-{finding_id}.nii.gz"
    write_nifti(mask, load_volume(engine, result.series_uid).geometry, labels)
    record_decision(engine, result.result_id, finding_id, "edit", mask_file=mask)


def read_segmentations(
    engine: Engine, bundle: Bundle, folder: Path, patients: int, corrected: Sequence[int] = ()
) -> list[ModelResult]:
    """Give so many patients a series with a result; all findings are accepted, those of ``corrected`` corrected."""
    results = []
    for number in range(1, patients + 1):
        series = add_series(engine, folder, number)
        truth = truth_of(engine, series)
        wrong = truth.copy()
        if number in corrected:
            wrong[:, :8] = 0
        result = add_segmentation_result(engine, bundle, series, wrong)
        for finding in result.findings:
            if number in corrected:
                correct(engine, result, finding.id, truth, folder)
            else:
                record_decision(engine, result.result_id, finding.id, "accept")
        results.append(result)
    return results


def read_pictures(engine: Engine, bundle: Bundle, folder: Path, patients: int) -> list[ModelResult]:
    """Give so many patients a picture with an accepted class."""
    results = []
    for number in range(1, patients + 1):
        bright = bool(number % 2)
        image = make_image(200.0 if bright else 40.0)
        pixels = np.random.default_rng(number).integers(0, 30, image.voxels.shape).astype(np.uint8)
        image = dataclasses.replace(image, voxels=image.voxels + pixels)
        series = add_series(engine, folder, number, image)
        result = add_class_result(engine, bundle, series, "Bright" if bright else "Dark")
        accept_all(engine, result)
        results.append(result)
    return results


def truth_of(engine: Engine, series: SeriesSummary) -> NDArray[np.uint8]:
    """Return the label map of a fake volume."""
    return expected_labels(load_volume(engine, series.key).voxels)
