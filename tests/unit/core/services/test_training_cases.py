"""Which series can teach, who is tested, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.config.sealed_file import is_sealed
from core.domain.errors import InputError, SafetyError
from core.domain.training import CasePart, LabelOrigin
from core.domain.window import Window
from core.formats.nifti import read_nifti
from core.recipes.finetune import FineTuneSettings
from core.recipes.sources.library_cases import LibraryCasesSource, read_case_list, restored
from core.recipes.sources_schema import LibraryCases
from core.services import verify_audit
from core.services.engine import Engine
from core.services.frozen_split import assign_sides, size_of_test_set, validation_patients
from core.services.image_likeness import are_alike, thumbnail_of
from core.services.lay_cases import volume_facts
from core.services.load_volume import load_volume
from core.services.record_decision import record_decision
from core.services.start_training import start_training
from core.services.training_cases import preview_cases, trainable_models
from tests.fakes.bundles import make_segmentation_bundle, make_volume
from tests.fakes.engines import make_engine
from tests.fakes.verdicts import (
    CLASSIFICATION,
    SEGMENTATION,
    SHAPE,
    add_class_result,
    add_classification_model,
    add_segmentation_model,
    add_segmentation_result,
    add_series,
    read_pictures,
    read_segmentations,
    truth_of,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    yield engine
    engine.close()


def settings(**changes: object) -> FineTuneSettings:
    return FineTuneSettings.model_validate({"model_id": SEGMENTATION, "epochs": 2, **changes})


def test_accepted_labels_are_the_models_and_corrected_ones_the_readers(
    engine: Engine, tmp_path: Path
) -> None:
    bundle = add_segmentation_model(engine)
    read_segmentations(engine, bundle, tmp_path / "in", 4, corrected=[2])
    preview = preview_cases(engine, SEGMENTATION)
    assert preview.can_start and len(preview.included) == 4
    corrected = [case for case in preview.cases if case.is_corrected]
    assert [case.result_id.startswith("r-2-") for case in corrected] == [True]
    origins = {label.origin for case in preview.cases for label in case.labels if case not in corrected}
    assert origins == {LabelOrigin.MODEL}
    assert {label.origin for label in corrected[0].labels} == {LabelOrigin.READER}
    assert all(
        label.reader == "reader" and label.decided_utc for case in preview.cases for label in case.labels
    )


@pytest.mark.parametrize(
    ("verdicts", "code", "words"),
    [
        ({}, "undecided", "Nobody"),
        ({"f1": "accept"}, "undecided", "1 of 2 findings not decided yet: “Bone”"),
        ({"f1": "accept", "f2": "reject"}, "rejected", "“Bone” was rejected"),
        ({"f1": "unsure", "f2": "accept"}, "unsure", "unsure about “Soft tissue”"),
        ({"f1": "edit", "f2": "accept"}, "no_mask", "no corrected mask"),
    ],
)
def test_a_series_with_an_open_question_is_left_out_and_says_why(
    engine: Engine, tmp_path: Path, verdicts: dict[str, str], code: str, words: str
) -> None:
    bundle = add_segmentation_model(engine)
    series = add_series(engine, tmp_path / "in", 1)
    result = add_segmentation_result(engine, bundle, series, truth_of(engine, series))
    for finding, verdict in verdicts.items():
        record_decision(engine, result.result_id, finding, verdict)
    (case,) = preview_cases(engine, SEGMENTATION).cases
    assert (case.usable, case.included, case.code) == (False, False, code)
    assert words in case.reason
    assert case.part is None


@pytest.mark.parametrize(
    ("verdict", "reason", "code", "value"),
    [
        ("accept", "", "", 1),
        ("edit", "dark", "", 0),
        ("edit", "seen with Dr. X", "no_class", None),
        ("reject", "", "rejected", None),
        ("unsure", "", "unsure", None),
    ],
)
def test_a_class_is_accepted_or_named_by_the_reader(
    engine: Engine, tmp_path: Path, verdict: str, reason: str, code: str, value: int | None
) -> None:
    bundle = add_classification_model(engine)
    series = add_series(engine, tmp_path / "in", 1)
    result = add_class_result(engine, bundle, series, "Bright")
    record_decision(engine, result.result_id, "f1", verdict, reason)
    (case,) = preview_cases(engine, CLASSIFICATION).cases
    assert case.code == code
    assert [label.value for label in case.labels] == ([] if value is None else [value])


def test_the_last_verdict_counts(engine: Engine, tmp_path: Path) -> None:
    bundle = add_classification_model(engine)
    (result, *_) = read_pictures(engine, bundle, tmp_path / "in", 3)
    record_decision(engine, result.result_id, "f1", "reject")
    preview = preview_cases(engine, CLASSIFICATION)
    assert [case.code for case in preview.excluded] == ["rejected"]
    assert preview.refusal_code == "training.too_few"
    assert "2 patients have" in preview.refusal


def test_a_model_without_a_network_is_not_trained_and_says_so(engine: Engine) -> None:
    make_segmentation_bundle(engine.paths.bundles / "onnx-only", id="onnx-only")
    rows = {row.id: row.why for row in trainable_models(engine)}
    assert "ONNX" in rows["onnx-only"] and rows["thorax-ct"] == ""
    with pytest.raises(InputError) as caught:
        start_training(engine, settings(model_id="onnx-only"))
    assert caught.value.code == "training.onnx_only"


def test_all_series_of_a_patient_are_on_one_side(engine: Engine, tmp_path: Path) -> None:
    bundle = add_segmentation_model(engine)
    for number in range(1, 9):
        series = add_series(engine, tmp_path / "in", number, patient=f"PID-{number % 4}")
        result = add_segmentation_result(engine, bundle, series, truth_of(engine, series))
        for finding in result.findings:
            record_decision(engine, result.result_id, finding.id, "accept")
    cases = preview_cases(engine, SEGMENTATION).included
    assert len({case.patient for case in cases}) == 4
    assert len({(case.patient, case.part) for case in cases}) == 4
    assert {case.part for case in cases} == set(CasePart)


def test_size_of_test_set_stay_tested_when_others_join() -> None:
    order = str
    first = assign_sides({}, ["a", "b", "c", "d", "e", "f"], order)
    assert [p for p in "abcdef" if first[p] == "test"] == ["a", "b", "c"]
    later = assign_sides(first, [*"abcdef", "A", "B", "C", "D", "E", "F"], order)
    assert {p: later[p] for p in first} == first
    assert sum(side == "test" for side in later.values()) == 3
    assert [size_of_test_set(n) for n in (3, 4, 6, 10, 20, 100)] == [1, 2, 3, 3, 6, 30]
    assert validation_patients(["d", "e", "f"], order) == {"d"}


def test_a_start_lays_sealed_cases_without_identity_and_freezes_the_test_set(
    engine: Engine, tmp_path: Path
) -> None:
    bundle = add_segmentation_model(engine)
    read_segmentations(engine, bundle, tmp_path / "in", 6, corrected=[1, 2, 3])
    run = start_training(engine, settings())
    folder = engine.paths.training / run.run_id / "cases"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 14 and all(is_sealed(path) for path in files)
    entries = read_case_list(folder / "cases.json").cases
    parts = [str(entry.part) for entry in entries]
    assert (parts.count("test"), parts.count("validation"), parts.count("train")) == (3, 1, 2)
    assert run.cases == {"test": 3, "validation": 1, "train": 2}
    preview = {case.case_id: case for case in preview_cases(engine, SEGMENTATION).cases}
    for entry in entries:
        assert entry.mask is not None
        labels = read_nifti(folder / entry.mask).voxels
        image = read_nifti(folder / entry.images["image"][0]).voxels
        assert np.array_equal(labels > 0, image > -500), "the label is the reader's, on the image's grid"
        assert preview[entry.id].part is not None and str(preview[entry.id].part) == str(entry.part)
    with engine.unit_of_work(writes=False) as uow:
        assert sorted(uow.frozen.of_model(SEGMENTATION).values()) == ["test"] * 3 + ["train"] * 3
    event = [e for e in verify_audit.list_events(engine) if e.event_code == "training-started"]
    assert len(event) == 1 and '"test_cases":3' in event[0].detail_json


def test_the_same_image_under_two_patients_is_refused_when_one_is_tested(
    engine: Engine, tmp_path: Path
) -> None:
    bundle = add_segmentation_model(engine)
    volume = make_volume(SHAPE, seed=99)
    for number in (1, 3, 5, 7, 9, 11):
        series = add_series(engine, tmp_path / "in", number, volume)
        result = add_segmentation_result(engine, bundle, series, truth_of(engine, series))
        for finding in result.findings:
            record_decision(engine, result.result_id, finding.id, "accept")
    with pytest.raises(SafetyError) as caught:
        start_training(engine, settings())
    assert caught.value.code == "training.leak"
    assert "the same image" in caught.value.user_message
    assert list(engine.paths.training.iterdir()) == []
    with engine.unit_of_work(writes=False) as uow:
        assert uow.frozen.of_model(SEGMENTATION) == {} and uow.trainings.all() == []
    refused = [e for e in verify_audit.list_events(engine) if e.event_code == "training-refused"]
    assert [e.reason for e in refused] == ["training.leak"]


def test_almost_the_same_image_is_recognised_and_another_patient_is_not() -> None:
    one = make_volume((24, 32, 32), seed=1).voxels.astype(np.float32)
    noisy = one + np.random.default_rng(0).normal(0, 5, one.shape).astype(np.float32)
    other = np.roll(make_volume((24, 32, 32), seed=2).voxels, 3, axis=2)
    assert are_alike(thumbnail_of(one), thumbnail_of(noisy))
    assert not are_alike(thumbnail_of(one), thumbnail_of(other))
    assert not are_alike(thumbnail_of(one), thumbnail_of(one[:1]))


def test_a_case_left_out_is_neither_laid_nor_assigned(engine: Engine, tmp_path: Path) -> None:
    bundle = add_segmentation_model(engine)
    read_segmentations(engine, bundle, tmp_path / "in", 5)
    left_out = preview_cases(engine, SEGMENTATION).cases[0]
    run = start_training(engine, settings(excluded=(left_out.case_id,)))
    laid = {path.name for path in (engine.paths.training / run.run_id / "cases").iterdir()}
    assert left_out.case_id not in laid
    with engine.unit_of_work(writes=False) as uow:
        assert left_out.patient not in uow.frozen.of_model(SEGMENTATION)
    again = preview_cases(engine, SEGMENTATION, [left_out.case_id])
    assert next(case for case in again.cases if case.case_id == left_out.case_id).code == "left_out"


def test_a_training_sees_a_laid_case_as_the_application_sees_its_series(
    engine: Engine, tmp_path: Path
) -> None:
    bundle = add_classification_model(engine)
    for number, result in enumerate(read_pictures(engine, bundle, tmp_path / "in", 3)):
        assert number < 3 and result.findings
    run = start_training(engine, settings(model_id=CLASSIFICATION))
    folder = engine.paths.training / run.run_id / "cases"
    for case in LibraryCasesSource().cases(LibraryCases(name="library_cases"), folder, ("image",)):
        content = LibraryCasesSource().read(case, LibraryCases(name="library_cases"), ("image",))
        assert content is not None and content.label == case.label
        seen = content.volumes["image"]
        preview = {c.case_id: c for c in preview_cases(engine, CLASSIFICATION).cases}[case.id]
        own = load_volume(engine, preview.series_key)
        assert np.array_equal(seen.voxels, own.voxels) and seen.voxels.dtype == own.voxels.dtype
        assert (seen.modality, seen.units, seen.inverted, seen.windows) == (
            own.modality,
            own.units,
            own.inverted,
            own.windows,
        )


def test_what_a_nifti_does_not_hold_comes_back() -> None:
    volume = make_volume(SHAPE)
    strange = dataclasses.replace(
        volume, inverted=True, windows=(Window(40.0, 400.0),), padding_value=-2000.0, body_part="CHEST"
    )
    bare = dataclasses.replace(volume, modality="", units="stored", body_part="")
    back = restored(bare, {"volume": json.dumps(volume_facts(strange))})
    assert (back.inverted, back.windows, back.padding_value) == (True, strange.windows, -2000.0)
    assert (back.modality, back.units, back.body_part) == ("CT", "HU", "CHEST")
    assert restored(bare, {}) is bare
