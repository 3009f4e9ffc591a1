"""Findings: jump, decide, undo; a verdict is drawn only after it was recorded."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import pytest

from app.presenters.findings import FindingsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.reading import ReadingPresenter
from core.domain.errors import EnvironmentFault
from core.domain.result import Verdict
from core.render.palette import safe_colors
from tests.fakes.review_engine import (
    DeferredTasks,
    FakeReviewEngine,
    ImmediateTasks,
    result,
    segmentation,
)


@pytest.fixture
def engine() -> FakeReviewEngine:
    return FakeReviewEngine()


@pytest.fixture
def reading() -> MagicMock:
    return MagicMock(spec=ReadingPresenter)


@pytest.fixture
def findings(engine: FakeReviewEngine, reading: MagicMock) -> FindingsPresenter:
    presenter = FindingsPresenter(engine, ImmediateTasks(), NoticesPresenter(), reading)
    presenter.set_results([result()])
    return presenter


def test_a_result_shows_its_findings_with_units_and_words(findings: FindingsPresenter) -> None:
    row = findings.state.rows[0]
    assert (row.label, row.detail) == ("left lung", "20.0 ml · very likely, 0.86")
    assert row.color_rgb == (86, 180, 233)
    assert findings.state.model == "Thorax organs 1.0.0"
    assert findings.state.undecided == 2


def test_stepping_goes_around_and_jumps(findings: FindingsPresenter, reading: MagicMock) -> None:
    findings.step(1)
    assert findings.state.selected == 1
    findings.step(1)
    assert findings.state.selected == 0
    findings.step(-1)
    assert findings.state.selected == 1
    reading.jump_to.assert_called_with((-14.0, 0.0, 50.0))


def test_a_verdict_is_recorded_then_drawn(findings: FindingsPresenter, engine: FakeReviewEngine) -> None:
    findings.decide(Verdict.ACCEPT)
    assert [(d.finding_id, d.verdict) for d in engine.recorded] == [("f1", Verdict.ACCEPT)]
    assert findings.state.rows[0].verdict == "accept"
    assert findings.state.undecided == 1


def test_a_verdict_that_could_not_be_recorded_is_not_drawn(engine: FakeReviewEngine) -> None:
    notices = NoticesPresenter()
    presenter = FindingsPresenter(engine, ImmediateTasks(), notices, MagicMock(spec=ReadingPresenter))
    presenter.set_results([result()])
    engine.errors["record_decision"] = EnvironmentFault("disk.full", "The disk is full.", "Free some space.")
    presenter.decide(Verdict.REJECT)
    assert presenter.state.rows[0].verdict == ""
    assert not presenter.state.can_undo
    assert notices.state.notices[0].what == "The disk is full."


def test_a_verdict_is_not_drawn_before_the_answer(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    presenter = FindingsPresenter(engine, tasks, NoticesPresenter(), MagicMock(spec=ReadingPresenter))
    presenter.set_results([result()])
    tasks.run_all()
    presenter.decide(Verdict.ACCEPT)
    assert presenter.state.rows[0].verdict == ""
    tasks.run_all()
    assert presenter.state.rows[0].verdict == "accept"


def test_undo_records_a_decision_that_supersedes(
    findings: FindingsPresenter, engine: FakeReviewEngine
) -> None:
    findings.decide(Verdict.ACCEPT)
    findings.decide(Verdict.REJECT, "motion")
    findings.undo()
    assert findings.state.rows[0].verdict == "accept"
    findings.undo()
    assert findings.state.rows[0].verdict == "unsure"
    assert findings.state.rows[0].reason == "Withdrawn (was accept)"
    assert len(engine.recorded) == 4
    assert not findings.state.can_undo
    findings.redo()
    assert findings.state.rows[0].verdict == "accept"


def test_a_new_verdict_ends_what_could_be_redone(findings: FindingsPresenter) -> None:
    findings.decide(Verdict.ACCEPT)
    findings.undo()
    assert findings.state.can_redo
    findings.decide(Verdict.REJECT)
    assert not findings.state.can_redo


def test_a_reason_is_kept_with_the_verdict(findings: FindingsPresenter, engine: FakeReviewEngine) -> None:
    findings.set_reason("too early")
    assert engine.recorded == []
    findings.decide(Verdict.EDIT)
    findings.set_reason("border too wide")
    assert engine.recorded[-1].verdict is Verdict.EDIT
    assert findings.state.rows[0].reason == "border too wide"
    findings.set_reason("border too wide")
    assert len(engine.recorded) == 2


def test_a_segment_is_hidden_alone(findings: FindingsPresenter, reading: MagicMock) -> None:
    findings.toggle_visible(1)
    reading.set_segment_visible.assert_called_with(2, False)
    assert [row.visible for row in findings.state.rows] == [True, False]
    findings.redraw_overlays()
    reading.set_segment_visible.assert_called_with(2, False)


def test_an_answer_for_an_earlier_result_is_dropped(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    reading = MagicMock(spec=ReadingPresenter)
    presenter = FindingsPresenter(engine, tasks, NoticesPresenter(), reading)
    presenter.set_results([result("r1")])
    presenter.clear("another series")
    tasks.run_all()
    reading.set_segmentation.assert_not_called()
    assert presenter.state.rows == ()


def test_a_failed_check_is_said(engine: FakeReviewEngine) -> None:
    presenter = FindingsPresenter(
        engine, ImmediateTasks(), NoticesPresenter(), MagicMock(spec=ReadingPresenter)
    )
    broken = result()
    broken.checks["read-back"] = "centroid moved by 3.1 voxels"
    presenter.set_results([broken])
    assert presenter.state.checks == ("read-back: centroid moved by 3.1 voxels",)


def test_no_results_say_the_next_step(engine: FakeReviewEngine) -> None:
    presenter = FindingsPresenter(
        engine, ImmediateTasks(), NoticesPresenter(), MagicMock(spec=ReadingPresenter)
    )
    presenter.set_results([])
    assert "Run a model" in presenter.state.message
    presenter.step(1)
    presenter.decide(Verdict.ACCEPT)
    presenter.undo()
    assert engine.recorded == []


def test_means_are_shown_of_ct_only_and_with_a_true_minus(findings: FindingsPresenter) -> None:
    assert "HU" not in findings.state.rows[0].detail
    findings.set_modality("CT")
    findings.set_results([result()])
    assert findings.state.rows[0].detail == "20.0 ml · mean −800 HU · very likely, 0.86"


def test_segments_without_a_voxel_are_said_as_not_found(findings: FindingsPresenter) -> None:
    found = result()
    airway = replace(found.segments[0], value=9, label="Airway", voxels=0, volume_ml=0.0, mean_hu=None)
    findings.set_results([replace(found, segments=(*found.segments, airway))])
    assert findings.state.not_found == ("Airway",)


def test_a_check_that_does_not_apply_is_no_failure(findings: FindingsPresenter) -> None:
    checks = {"laterality": "not applicable", "voxels": "ok", "centroids": "off by 9 mm"}
    findings.set_results([replace(result(), checks=checks)])
    assert findings.state.checks == ("centroids: off by 9 mm",)


def test_colours_of_the_list_are_those_of_the_pictures(findings: FindingsPresenter) -> None:
    drawn = safe_colors(segmentation().segments)
    assert [row.color_rgb for row in findings.state.rows] == [drawn[1], drawn[2]]


def masks(engine: FakeReviewEngine) -> list[str | None]:
    return [decision.mask_file for decision in engine.recorded]


def test_a_corrected_mask_makes_an_edit_and_outlives_a_later_reason(
    findings: FindingsPresenter, engine: FakeReviewEngine
) -> None:
    findings.decide(Verdict.EDIT, "border")
    assert not findings.state.rows[0].corrected
    findings.give_mask(" /masks/lung.nii.gz ")
    assert findings.state.rows[0].corrected and findings.state.rows[0].reason == "border"
    findings.set_reason("upper border")
    assert masks(engine) == [None, "/masks/lung.nii.gz", "/masks/lung.nii.gz"]
    findings.decide(Verdict.ACCEPT)
    assert not findings.state.rows[0].corrected and masks(engine)[-1] is None


def test_undo_and_redo_bring_the_mask_back(findings: FindingsPresenter, engine: FakeReviewEngine) -> None:
    findings.give_mask("/masks/lung.nii.gz")
    findings.decide(Verdict.REJECT)
    findings.undo()
    assert (findings.state.rows[0].verdict, findings.state.rows[0].corrected) == ("edit", True)
    findings.redo()
    assert (findings.state.rows[0].verdict, findings.state.rows[0].corrected) == ("reject", False)


def test_a_mask_that_is_refused_changes_nothing(
    findings: FindingsPresenter, engine: FakeReviewEngine
) -> None:
    engine.errors["record_decision"] = EnvironmentFault("decisions.mask_grid", "Another grid.", "Export it.")
    findings.give_mask("/masks/other.nii")
    findings.give_mask("   ")
    assert findings.state.rows[0].verdict == "" and engine.recorded == []
