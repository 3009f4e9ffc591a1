from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.config.sealed_file import is_sealed, open_plain
from core.domain.coding import CodedConcept
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.result import Verdict
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.services import results, verify_audit
from core.services.engine import Engine, open_engine
from core.services.record_decision import record_decision
from tests.fakes.engines import SERIES_UID, STUDY_UID, insert_study, make_engine, model_result

TILTED = VolumeGeometry(
    (4, 5, 6),
    np.array([[0.7, 0.1, 0.2, -3.1], [0, 0.9, 1 / 3, 8], [0, -0.3, 2.5, 1e3 / 7], [0, 0, 0, 1]]),
    "1.2.3.4.5",
)
SEGMENTS = (
    SegmentDefinition(
        1,
        "left lung",
        CodedConcept("44029006", "SCT", "Left lung"),
        CodedConcept("123037004", "SCT", "Anatomical Structure"),
        (10, 20, 30),
    ),
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    insert_study(engine)
    yield engine
    engine.close()


def segmentation() -> Segmentation:
    labels = (np.arange(120, dtype=np.uint8) % 3 == 0).astype(np.uint8).reshape(4, 5, 6)
    return Segmentation(TILTED, labels, SEGMENTS)


def test_a_result_comes_back_as_it_was_stored(engine: Engine) -> None:
    changes = results.store_result(engine, model_result(), segmentation())
    assert changes.results == {"r1"}
    stored = results.load_result(engine, "r1")
    assert stored == dataclasses.replace(model_result(), label_map_file="labels.nii.gz")
    found = results.load_segmentation(engine, "r1")
    assert found is not None
    np.testing.assert_array_equal(found.labels, segmentation().labels)
    np.testing.assert_array_equal(found.geometry.lps_from_ijk, TILTED.lps_from_ijk)
    assert found.geometry.frame_of_reference_uid == "1.2.3.4.5"
    assert found.segments == SEGMENTS
    run = verify_audit.list_events(engine)[1]
    assert run.event_code == "model-run"
    assert '"model_id":"thorax-ct"' in run.detail_json


def test_results_are_found_by_series_and_by_study_the_newest_first(engine: Engine) -> None:
    results.store_result(engine, model_result("r1"))
    later = dataclasses.replace(model_result("r2"), created_utc="2026-02-01T00:00:00.000+00:00")
    results.store_result(engine, later)
    for key in (SERIES_UID, STUDY_UID):
        assert [r.result_id for r in results.results_for(engine, key)] == ["r2", "r1"]
    assert results.results_for(engine, "1.2") == []
    assert results.load_segmentation(engine, "r1") is None


def test_a_label_map_that_was_changed_is_not_shown(engine: Engine) -> None:
    results.store_result(engine, model_result(), segmentation())
    path = engine.paths.results / "r1" / "labels.nii.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SafetyError) as caught:
        results.load_segmentation(engine, "r1")
    assert caught.value.code == "results.label_map_changed"
    path.unlink()
    with pytest.raises(SafetyError):
        results.load_segmentation(engine, "r1")


def test_explanations_come_back_to_half_precision(engine: Engine) -> None:
    results.store_result(engine, model_result())
    heat = np.random.default_rng(1).random((4, 5, 6), dtype=np.float32)
    told = Explanation(TILTED, heat, "gradcam", "a", "enc.3", (8.0, 8.0, 8.0), 0.1, True, None)
    results.store_explanation(engine, "r1", told)
    (found,) = results.load_explanations(engine, "r1")
    np.testing.assert_allclose(found.heat, heat, atol=5e-4)
    np.testing.assert_array_equal(found.geometry.lps_from_ijk, TILTED.lps_from_ijk)
    without = {
        f.name: getattr(found, f.name)
        for f in dataclasses.fields(found)
        if f.name not in ("heat", "geometry")
    }
    assert without == {f: getattr(told, f) for f in without}


def test_a_heat_map_that_was_changed_is_not_shown(engine: Engine) -> None:
    results.store_result(engine, model_result())
    heat = np.zeros((4, 5, 6), dtype=np.float32)
    results.store_explanation(engine, "r1", Explanation(TILTED, heat, "gradcam", "a", "l", (1.0, 1.0, 1.0)))
    (file,) = (engine.paths.results / "r1").glob("*.npz")
    file.write_bytes(b"PK")
    with pytest.raises(SafetyError):
        results.load_explanations(engine, "r1")


def test_the_last_verdict_stands_and_all_are_kept(engine: Engine) -> None:
    results.store_result(engine, model_result())
    record_decision(engine, "r1", "f1", "accept")
    decision, changes = record_decision(engine, "r1", "f1", Verdict.REJECT, "beam hardening, seen with Dr. X")
    assert changes.decisions == {decision.decision_id}
    record_decision(engine, "r1", "f2", "unsure")
    standing = results.decisions_for(engine, "r1")
    assert standing["f1"] == decision
    assert standing["f2"].verdict is Verdict.UNSURE
    assert decision.reader == "reader"
    with engine.unit_of_work(writes=False) as uow:
        assert len(uow.decisions.of_result("r1")) == 3
    events = [r for r in verify_audit.list_events(engine) if r.event_code == "decision"]
    assert len(events) == 3
    assert not any("beam" in r.detail_json for r in events)


def test_the_mask_of_an_edit_is_kept_with_the_result(engine: Engine, tmp_path: Path) -> None:
    results.store_result(engine, model_result())
    (tmp_path / "NAME.nii.gz").write_bytes(b"mask")
    decision, _ = record_decision(engine, "r1", "f1", "edit", mask_file=tmp_path / "NAME.nii.gz")
    assert decision.mask_file == f"masks/{decision.decision_id}.nii.gz"
    kept = engine.paths.results / "r1" / decision.mask_file
    assert is_sealed(kept)
    with open_plain(kept) as stream:
        assert stream.read() == b"mask"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("r1", "f1", "maybe"), "decisions.unknown_verdict"),
        (("none", "f1", "accept"), "results.unknown"),
        (("r1", "none", "accept"), "decisions.unknown_finding"),
        (("r1", "f1", "accept", "x" * 3000), "decisions.reason_too_long"),
        (("r1", "f1", "edit", "", Path("mask.png")), "decisions.mask_format"),
        (("r1", "f1", "edit", "", Path("missing.nii")), "decisions.mask_missing"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(engine: Engine, arguments: tuple, code: str) -> None:
    results.store_result(engine, model_result())
    with pytest.raises(InputError) as caught:
        record_decision(engine, *arguments)
    assert caught.value.code == code
    assert results.decisions_for(engine, "r1") == {}


def test_a_result_of_an_unknown_study_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError):
        results.store_result(engine, model_result(study_uid="1.2"))
    for load in (results.load_result, results.load_segmentation):
        with pytest.raises(InputError):
            load(engine, "none")


def test_a_result_whose_files_cannot_be_written_is_not_in_the_index(engine: Engine) -> None:
    (engine.paths.results / "r1").write_text("in the way")
    with pytest.raises(EnvironmentFault):
        results.store_result(engine, model_result(), segmentation())
    assert results.results_for(engine, STUDY_UID) == []


def test_results_survive_a_restart(engine: Engine) -> None:
    results.store_result(engine, model_result(), segmentation())
    record_decision(engine, "r1", "f1", "accept")
    engine.close()
    with open_engine(engine.paths.root) as again:
        assert results.decisions_for(again, "r1")["f1"].verdict is Verdict.ACCEPT
        assert results.load_segmentation(again, "r1") is not None
