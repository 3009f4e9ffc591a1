"""Read first: nothing of a result is seen before it is asked for, and both moments are recorded."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from app.presenters.explanation import ExplanationPresenter
from app.presenters.exporting import ExportPresenter
from app.presenters.findings import FindingsPresenter
from app.presenters.models import ModelsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.read_first import ReadFirstPresenter
from app.presenters.reading import ReadingPresenter
from app.presenters.session import Panels, SessionPresenter
from app.presenters.status import StatusPresenter
from core.domain.errors import EnvironmentFault
from core.domain.result import Verdict
from tests.fakes.review_engine import DeferredTasks, FakeReviewEngine, result, summary


class Desk:
    """A session in read-first mode, wired as the window wires it."""

    def __init__(self) -> None:
        self.engine, self.tasks = FakeReviewEngine(), DeferredTasks()
        self.engine.results = [result(), result("r2", "s2")]
        self.seconds = 100.0
        notices, status = NoticesPresenter(), StatusPresenter()
        self.notices = notices
        self.reading = MagicMock(spec=ReadingPresenter)
        self.findings = FindingsPresenter(self.engine, self.tasks, notices, self.reading)
        self.explanation = ExplanationPresenter(self.engine, self.tasks, notices, self.reading)
        self.export = ExportPresenter(self.engine, self.tasks, notices, status)
        self.read_first = ReadFirstPresenter(
            self.engine, self.tasks, notices, self.findings, self.reading, lambda: self.seconds
        )
        models = ModelsPresenter(self.engine, self.tasks, notices)
        self.session = SessionPresenter(
            self.engine,
            self.tasks,
            Panels(self.reading, self.findings, models, self.explanation, self.export, status, notices),
        )
        self.session.opened = lambda opened: self.read_first.begin(opened.key)
        self.session.seen = self.read_first.looked
        self.read_first.set_on(True)

    def open(self, key: str = "s1") -> None:
        self.session.open_series(summary(key))
        self.tasks.run_all()

    def drawn(self) -> list[object]:
        """Label maps that were handed to the pictures."""
        calls = self.reading.set_segmentation.call_args_list
        return [call.args[0] for call in calls if call.args[0] is not None]

    def noted(self) -> list[str]:
        return [call[0] for call in self.engine.calls if call[0].startswith(("note_first", "note_reveal"))]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_nothing_of_the_result_is_seen_before_it_is_asked_for(desk: Desk) -> None:
    desk.open()
    assert desk.read_first.state.withheld and desk.findings.state.withheld
    assert desk.findings.state.rows == () and desk.findings.state.results == ()
    assert desk.findings.result is None
    assert desk.drawn() == []
    assert not desk.explanation.state.available and not desk.export.state.can_export
    desk.findings.decide(Verdict.ACCEPT)
    desk.tasks.run_all()
    assert desk.engine.recorded == []
    assert desk.noted() == ["note_first_look"]


def test_asking_shows_it_and_records_when(desk: Desk) -> None:
    desk.engine.note_reveal = MagicMock()  # type: ignore[method-assign]
    desk.open()
    desk.seconds += 62.5
    desk.read_first.toggle(desk.reading.toggle_ai)
    desk.read_first.toggle(desk.reading.toggle_ai)
    desk.reading.toggle_ai.assert_not_called()
    assert desk.drawn() == [], "shown before the audit trail had it"
    desk.tasks.run_all()
    desk.engine.note_reveal.assert_called_once_with("s1", 62.5)
    assert [row.label for row in desk.findings.state.rows] == ["left lung", "heart"]
    assert len(desk.drawn()) == 1 and desk.explanation.state.available
    desk.reading.show_ai.assert_called_once()
    desk.read_first.toggle(desk.reading.toggle_ai)
    desk.reading.toggle_ai.assert_called_once()


def test_each_series_is_asked_for_on_its_own_and_once(desk: Desk) -> None:
    desk.open()
    desk.read_first.reveal()
    desk.tasks.run_all()
    desk.open("s2")
    assert desk.findings.state.withheld
    desk.open("s1")
    assert not desk.findings.state.withheld and desk.findings.state.rows
    assert desk.noted() == ["note_first_look", "note_reveal", "note_first_look"]


def test_what_cannot_be_recorded_stays_hidden(desk: Desk) -> None:
    desk.engine.errors["note_reveal"] = EnvironmentFault("disk.full", "The disk is full.", "Free some.")
    desk.open()
    desk.read_first.reveal()
    desk.tasks.run_all()
    assert desk.findings.state.withheld and desk.drawn() == []
    assert desk.notices.state.notices[-1].what == "The disk is full."


def test_an_answer_for_an_earlier_series_reveals_nothing_of_the_next(desk: Desk) -> None:
    desk.open()
    desk.read_first.reveal()
    desk.session.open_series(summary("s2"))
    desk.tasks.run_all()
    assert desk.findings.state.withheld and desk.drawn() == []


def test_a_new_result_waits_too(desk: Desk) -> None:
    desk.engine.results = []
    desk.open()
    desk.engine.results = [result()]
    desk.session.reload_results("r1")
    desk.tasks.run_all()
    assert desk.findings.state.withheld and desk.findings.state.rows == ()


def test_switching_the_mode_on_hides_nothing_that_was_seen_and_off_reveals(desk: Desk) -> None:
    desk.read_first.set_on(False)
    desk.open()
    desk.read_first.set_on(True)
    assert not desk.findings.state.withheld
    desk.open("s2")
    assert desk.findings.state.withheld
    desk.read_first.set_on(False)
    desk.tasks.run_all()
    assert not desk.findings.state.withheld and desk.noted()[-1] == "note_reveal"
