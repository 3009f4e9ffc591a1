"""Opening series: nothing of an earlier one is ever drawn, and each panel gets what it needs."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from app.presenters.explanation import ExplanationPresenter
from app.presenters.exporting import ExportPresenter
from app.presenters.findings import FindingsPresenter
from app.presenters.models import ModelsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import JobRow
from app.presenters.reading import ReadingPresenter
from app.presenters.session import Panels, SessionPresenter
from app.presenters.status import StatusPresenter
from core.domain.errors import InputError
from tests.fakes.review_engine import DeferredTasks, FakeReviewEngine, explanation, result, summary


class Desk:
    """A session with all its presenters, on deferred tasks."""

    def __init__(self) -> None:
        self.engine, self.tasks = FakeReviewEngine(), DeferredTasks()
        self.notices, self.status = NoticesPresenter(), StatusPresenter()
        self.reading = MagicMock(spec=ReadingPresenter)
        self.findings = FindingsPresenter(self.engine, self.tasks, self.notices, self.reading)
        self.models = ModelsPresenter(self.engine, self.tasks, self.notices)
        self.explanation = ExplanationPresenter(self.engine, self.tasks, self.notices, self.reading)
        self.export = ExportPresenter(self.engine, self.tasks, self.notices, self.status)
        panels = Panels(
            self.reading, self.findings, self.models, self.explanation, self.export, self.status, self.notices
        )
        self.session = SessionPresenter(self.engine, self.tasks, panels)

    def open(self, key: str = "s1") -> None:
        self.session.open_series(summary(key))
        self.tasks.run_all()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_slices_come_before_the_volume(desk: Desk) -> None:
    desk.open()
    names = [call[0] for call in desk.reading.method_calls]
    assert names.index("begin_series") < names.index("show_slice") < names.index("show_volume")
    assert desk.models.state.can_run
    assert desk.status.state.geometry.level == "verified"
    assert desk.status.state.activity == ""


def test_the_stack_for_arriving_slices_is_made_where_they_are_read(desk: Desk) -> None:
    desk.open()
    rooms = [call.args[4] for call in desk.reading.show_slice.call_args_list]
    assert rooms
    assert all(room is rooms[0] for room in rooms)
    geometry, pixels = desk.reading.show_slice.call_args.args[2:4]
    assert rooms[0].shape == geometry.shape_kji
    assert rooms[0].dtype == pixels.dtype
    assert (rooms[0] == np.iinfo(pixels.dtype).min).all()


def test_what_answers_for_an_earlier_series_is_dropped(desk: Desk) -> None:
    desk.engine.results = [result("r1", "s1")]
    desk.session.open_series(summary("s1"))
    desk.session.open_series(summary("s2"))
    desk.tasks.run_all()
    shown = [call.args[0].series_uid for call in desk.reading.show_volume.call_args_list]
    assert shown == ["s2"]
    assert all(call.args[0] == 2 for call in desk.reading.show_slice.call_args_list)
    desk.reading.set_segmentation.assert_not_called()
    assert desk.findings.state.rows == ()


def test_a_series_that_cannot_be_read_says_why(desk: Desk) -> None:
    desk.engine.errors["load_volume"] = InputError("pixels.codec", "JPEG XL can't be decoded.", "Convert it.")
    desk.open()
    desk.reading.fail.assert_called_once()
    assert desk.notices.state.notices[-1].what == "JPEG XL can't be decoded."
    assert not desk.models.state.can_run


def test_the_label_map_is_drawn_again_on_the_complete_volume(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.open()
    names = [call[0] for call in desk.reading.method_calls]
    assert "set_segmentation" in names
    desk.findings.redraw_overlays()
    assert desk.reading.set_segmentation.call_args.args[0] is not None


def test_a_new_result_of_the_open_series_is_shown(desk: Desk) -> None:
    desk.open()
    desk.engine.results = [result("r7")]
    desk.session.on_job_finished(JobRow("j1", "run", "Thorax", "succeeded", result_id="r7", series_key="s1"))
    desk.tasks.run_all()
    assert desk.findings.state.result_id == "r7"


def test_a_result_of_another_series_waits(desk: Desk) -> None:
    desk.open()
    desk.session.on_job_finished(JobRow("j1", "run", "Thorax", "succeeded", result_id="r7", series_key="s2"))
    desk.tasks.run_all()
    assert desk.findings.state.result_id == ""
    assert "ready" in desk.notices.state.notices[-1].what


def test_only_models_that_fit_are_offered_and_the_others_say_why(desk: Desk) -> None:
    desk.open()
    assert [(row.title, row.detail) for row in desk.models.state.rows] == [
        ("Thorax organs", "fits · ~14 s · MIT")
    ]
    assert desk.models.state.others == (("Body part 1.0.0", "It needs a single picture."),)
    desk.models.run("mednist")
    desk.tasks.run_all()
    assert not [call for call in desk.engine.calls if call[0] == "submit_run"]


def test_a_model_runs_once_at_a_time(desk: Desk) -> None:
    desk.open()
    desk.models.run("thorax-ct")
    desk.models.run("thorax-ct")
    desk.tasks.run_all()
    desk.models.set_jobs((JobRow("j1", "run", "Thorax", "running", series_key="s1", model_id="thorax-ct"),))
    desk.models.run("thorax-ct")
    desk.tasks.run_all()
    assert [call[0] for call in desk.engine.calls].count("submit_run") == 1
    job = desk.models.state.rows[0].job
    assert job is not None and job.job_id == "j1"


def test_a_failing_catalogue_is_said_and_stays_said(desk: Desk) -> None:
    desk.engine.errors["list_models"] = InputError(
        "models.broken", "The catalogue can't be read.", "Repair it."
    )
    desk.open()
    assert desk.models.state.message == "The catalogue can't be read."


def test_why_computes_shows_and_hides(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.open()
    state = desk.explanation.state
    assert (state.methods, state.classes) == (("gradcam", "gradcam++"), ("left lung", "heart"))
    desk.explanation.ask()
    desk.tasks.run_all()
    assert ("submit_explain", "r1", "gradcam", "left lung") in desk.engine.calls
    desk.engine.explanations = [explanation()]
    desk.explanation.set_jobs((JobRow("e1", "explain", "Why", "running", fraction=0.5),))
    assert desk.explanation.state.job is not None
    desk.explanation.set_jobs((JobRow("e1", "explain", "Why", "succeeded"),))
    desk.tasks.run_all()
    assert desk.explanation.state.shown
    assert "16 × 16 × 20 mm" in desk.explanation.state.resolution
    assert desk.explanation.state.sanity_passed is True
    desk.explanation.ask()
    assert not desk.explanation.state.shown
    assert desk.reading.set_heatmap.call_args.args[0] is None


def test_a_map_is_never_shown_unasked(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.engine.explanations = [explanation()]
    desk.open()
    assert desk.explanation.state.has_map and not desk.explanation.state.shown
    desk.explanation.choose(class_label="heart")
    assert not desk.explanation.state.has_map
    desk.explanation.choose(class_label="left lung")
    desk.explanation.ask()
    assert desk.explanation.state.shown


def test_a_failed_question_can_be_asked_again(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.open()
    desk.engine.errors["submit_explain"] = InputError("explain.layer", "No such layer.", "Choose another.")
    desk.explanation.ask()
    desk.tasks.run_all()
    del desk.engine.errors["submit_explain"]
    desk.explanation.ask()
    desk.tasks.run_all()
    assert [call[0] for call in desk.engine.calls].count("submit_explain") == 2


def test_export_says_what_was_verified(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.open()
    assert desk.export.state.available == {"seg", "sr", "nifti", "pdf"}
    desk.export.toggle("pdf")
    desk.export.export(Path("out"))
    assert desk.export.state.running
    desk.tasks.run_all()
    assert desk.export.state.words == "SEG ✓ · SR ✓ · PDF ✓"
    assert ("export", "r1", ("seg", "sr", "pdf"), Path("out")) in desk.engine.calls


def test_export_that_is_refused_says_why(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.open()
    desk.engine.errors["export"] = InputError(
        "export.folder", "The folder can't be written.", "Choose another."
    )
    desk.export.export(Path("out"))
    desk.tasks.run_all()
    assert not desk.export.state.running
    assert desk.notices.state.notices[-1].remedy == "Choose another."


def test_the_wish_to_see_survives_the_answer_to_an_earlier_question(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.session.open_series(summary("s1"))
    for _ in range(40):
        if desk.explanation.state.available:
            break
        desk.tasks.run_some(1)
    desk.explanation.ask()
    desk.tasks.run_all()
    assert not desk.explanation.state.shown
    desk.engine.explanations = [explanation()]
    desk.explanation.set_jobs((JobRow("e1", "explain", "Why", "succeeded"),))
    desk.tasks.run_all()
    assert desk.explanation.state.shown


def test_why_is_about_the_finding_that_is_looked_at(desk: Desk) -> None:
    desk.engine.results = [result()]
    desk.open()
    desk.explanation.suggest("heart")
    assert desk.explanation.state.class_label == "heart"
    desk.explanation.suggest("no such class")
    assert desk.explanation.state.class_label == "heart"
    desk.engine.explanations = [explanation(label="heart")]
    desk.explanation.ask()
    desk.explanation.suggest("left lung")
    assert desk.explanation.state.class_label == "heart", "changed while the question is being answered"
