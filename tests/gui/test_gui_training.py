"""Training in the window with an engine in memory: choose, start, watch, compare, decide; nothing stops the reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLineEdit, QTableView, QWidget

from app.bootstrap import Application, Start
from app.presenters.ports_training import CandidateOffer
from app.presenters.training_desk import CANDIDATE, MONITOR, PROGRESS, SETUP
from app.presenters.training_setup import NO_CASES
from app.views.main_window import TRAINING_TAB
from core.domain.training import CurvePoint, TrainingState
from tests.fakes.review_engine import FakeReviewEngine, result, study, summary
from tests.fakes.training_engine import NOTES, candidate, curve, failed_candidate, monitor, training

pytestmark = pytest.mark.gui
Wait = Callable[..., None]
NONE = Qt.KeyboardModifier.NoModifier
CTRL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    fake.studies = [
        study(f"t{n}", f"P-{n}", summary(f"s{n}", f"t{n}", description=f"Thorax {n}")) for n in range(1, 5)
    ]
    fake.results = [result()]
    return fake


@pytest.fixture
def application(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> Iterator[Application]:
    running = Application(qt_application, Start(), lambda _start, _publish: engine)
    running.window.resize(1280, 800)
    running.show()
    running.window.activateWindow()
    wait_until(lambda: running.worklist.state.loaded and running.training.runs.state.loaded, "the start")
    yield running
    running.window.close()
    running.window.deleteLater()


@pytest.fixture
def reading(application: Application, wait_until: Wait) -> Application:
    """Return the window with a series open and its result shown."""
    application.opener.open_study("t1")
    wait_until(lambda: application.reading.volume is not None, "the volume")
    wait_until(lambda: bool(application.findings.state.rows), "the findings")
    application.reading_area.setFocus()
    return application


def press(application: Application, key: Qt.Key, modifier: Qt.KeyboardModifier = NONE) -> None:
    QTest.keyClick(application.window.focusWidget() or application.window, key, modifier)


def click(widget: QWidget) -> None:
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def click_cell(table: QTableView, row: int, column: int, at_left: bool = False) -> None:
    area = table.visualRect(table.model().index(row, column))
    place = QPoint(area.left() + 16, area.center().y()) if at_left else area.center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)


def called(engine: FakeReviewEngine, name: str) -> list[tuple[object, ...]]:
    return [call[1:] for call in engine.calls if call[0] == name]


def retype(edit: QLineEdit, text: str) -> None:
    edit.setFocus()
    edit.selectAll()
    QTest.keyClicks(edit, text)


def test_the_panel_is_built_when_it_is_first_looked_at(application: Application) -> None:
    import sys

    assert not application.training_page.built
    before = "pyqtgraph" in sys.modules
    press(application, Qt.Key.Key_T, CTRL | SHIFT)
    assert application.training_page.built and application.window.shows_tab(TRAINING_TAB)
    assert ("pyqtgraph" in sys.modules) == before, "curves alone need the drawing library"
    press(application, Qt.Key.Key_T, CTRL | SHIFT)
    assert not application.window.bottom_panel.isVisible()


def test_a_training_is_chosen_and_started_while_the_picture_stays(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    if reading.models_panel.section.folded:
        click(reading.models_panel.section._chevron)
    wait_until(lambda: reading.models_panel.improve.isVisible(), "the models")
    click(reading.models_panel.improve)
    page = reading.training_commands.panel.setup
    wait_until(lambda: page.cases.rowCount() == 5, "the cases")
    wait_until(lambda: page.start.isEnabled(), "Start")
    assert QApplication.activeModalWidget() is None
    assert page.cases.data(page.cases.index(4, 3)) == "2 of 4 findings have no verdict."
    click_cell(page.table, 1, 0, at_left=True)
    wait_until(lambda: reading.training.setup.state.left_out == {"c2"}, "the case left out")
    epochs = page.form.editors["epochs"]
    assert isinstance(epochs, QLineEdit)
    retype(epochs, "zero")
    assert not page.start.isEnabled() and page.form.problems["epochs"].isVisible()
    retype(epochs, "3")
    wait_until(lambda: page.start.isEnabled(), "Start again")
    press(reading, Qt.Key.Key_Escape)
    before = reading.reading.intent.cursor_ijk
    press(reading, Qt.Key.Key_Down)
    assert reading.reading.intent.cursor_ijk != before, "the pictures scroll while the panel is open"
    click(page.start)
    wait_until(lambda: bool(called(engine, "start_training")), "the training")
    ((settings,),) = called(engine, "start_training")
    assert isinstance(settings, dict) and settings["excluded"] == ["c2"] and settings["epochs"] == 3
    wait_until(lambda: reading.training_commands.panel.progress.isVisible(), "the progress")
    assert reading.status_bar.training.text() == "training: waits"


def test_the_night_hours_are_asked_for_only_at_night(reading: Application, wait_until: Wait) -> None:
    reading.training_commands.improve()
    form = reading.training_commands.panel.setup.form
    wait_until(lambda: "start" in form.editors, "the form")
    assert not form.editors["night_from"].isVisible()
    start = form.editors["start"]
    assert isinstance(start, QComboBox)
    start.setFocus()
    press(reading, Qt.Key.Key_Down)
    wait_until(lambda: form.editors["night_from"].isVisible(), "the hours")


def test_without_cases_the_page_says_what_to_do(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.train_cases = []
    reading.training_commands.improve()
    page = reading.training_commands.panel.setup
    wait_until(lambda: page._message.text() == NO_CASES, "the words")
    assert page._message.isVisible() and not page.start.isEnabled()


def test_a_training_is_watched_paused_and_cancelled(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.move(training())
    bar = reading.status_bar
    wait_until(lambda: bar.training.isVisible(), "the status")
    assert bar.training.text() == "training: epoch 3/10 · 12 min left"
    click(bar.training)
    page = reading.training_commands.panel.progress
    wait_until(lambda: page.pause.isVisible(), "the page")
    engine.put_on_record("run1", *curve())
    wait_until(lambda: bool(page.curves.plots), "the plots", 60)
    wait_until(lambda: "validation_dice" in page.curves._lines, "the curves")
    line = page.curves._lines["train_loss"]
    engine.put_on_record("run1", CurvePoint("train_loss", 61, 0.2))
    wait_until(lambda: len(line.getData()[0]) == 61, "the newest value")
    click(page.pause)
    wait_until(lambda: page.resume.isVisible() and not page.pause.isVisible(), "the pause")
    assert bar.training.text() == "training: paused · epoch 3/10"
    click(bar.training_act)
    wait_until(lambda: page.pause.isVisible(), "the resume")
    press(reading, Qt.Key.Key_P, CTRL | SHIFT)
    wait_until(lambda: page.resume.isVisible(), "the pause by key")
    click(page.cancel)
    wait_until(lambda: bar.training.text() == "training: stopping", "the end")
    engine.move(training(state=TrainingState.CANCELLED))
    wait_until(lambda: not bar.training.isVisible(), "an empty status")


def test_curves_of_an_earlier_start_are_drawn_again(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.training_runs = [
        training(state=TrainingState.INTERRUPTED, error="The program ended.", notes=NOTES)
    ]
    engine.curve_points["run1"] = list(curve())
    running = Application(qt_application, Start(), lambda _start, _publish: engine)
    try:
        running.show()
        wait_until(lambda: running.training.runs.state.loaded, "the trainings")
        running.training_commands.open_page(PROGRESS)
        page = running.training_commands.panel.progress
        wait_until(lambda: "train_loss" in page.curves._lines, "the curves", 60)
        assert page.resume.isVisible() and "early" not in page._state.text()
        click(page.resume)
        wait_until(lambda: ("run1",) in called(engine, "resume_training"), "the resume")
    finally:
        running.window.close()
        running.window.deleteLater()


def test_a_candidate_is_compared_promoted_and_rolled_back(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.candidate_offers = [CandidateOffer(candidate())]
    reading.training_commands.open_page(CANDIDATE)
    page = reading.training_commands.panel.candidate
    wait_until(lambda: page.scores.rowCount() == 9, "the cases")
    order = page.scores_table.model()
    assert order.data(order.index(0, 0)) == "P-1", "the case on which it lost most is at the top"
    assert page.gates.data(page.gates.index(0, 0)) == "passed"
    assert page.person.text() == "A. B." and not page.promote.isEnabled()
    retype(page.reason, "better on small lesions")
    assert page.promote.isEnabled()
    click(page.promote)
    wait_until(lambda: page.history.rowCount() == 1, "the history")
    assert called(engine, "promote_candidate") == [("k1", "A. B.", "better on small lesions")]
    assert not page.promote.isEnabled() and page.reason.text() == ""
    retype(page.person, "C. D.")
    retype(page.reason, "misses nodules")
    wait_until(lambda: page.roll_back.isEnabled(), "the way back")
    click(page.roll_back)
    wait_until(lambda: page.history.rowCount() == 2, "the longer history")
    assert called(engine, "roll_back_model") == [("thorax-ct", "C. D.", "misses nodules")]
    assert reading.notices.state.notices[-1].what == "Thorax organs 1.0.0 is in use again."


def test_a_worst_case_is_one_click_away(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.candidate_offers = [CandidateOffer(candidate())]
    reading.training_commands.open_page(CANDIDATE)
    page = reading.training_commands.panel.candidate
    wait_until(lambda: page.scores.rowCount() == 9, "the cases")
    click_cell(page.scores_table, 1, 0)
    wait_until(
        lambda: reading.session.summary is not None and reading.session.summary.key == "s2", "the case"
    )
    header = page.scores_table.horizontalHeader()
    x = header.sectionViewportPosition(2) + 20
    QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(x, header.height() // 2))
    press(reading, Qt.Key.Key_Escape)
    click_cell(page.scores_table, 8, 0)
    QTest.qWait(50)


def test_a_worse_candidate_can_not_be_promoted(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.candidate_offers = [CandidateOffer(failed_candidate())]
    reading.training_commands.open_page(CANDIDATE)
    page = reading.training_commands.panel.candidate
    wait_until(lambda: page.gates.rowCount() == 2, "the gates")
    retype(page.reason, "I like it")
    assert page.gates.data(page.gates.index(1, 0)) == "not passed"
    assert not page.promote.isEnabled() and "Not worse" in page.promote.toolTip()
    click(page.promote)
    press(reading, Qt.Key.Key_Return)
    QTest.qWait(50)
    assert called(engine, "promote_candidate") == []


def test_agreement_is_a_table_with_a_curve_and_words(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.monitor = monitor()
    reading.training_commands.open_page(MONITOR)
    page = reading.training_commands.panel.monitor
    wait_until(lambda: page.rows.rowCount() == 2 and bool(page.curves._lines), "the table and curve", 60)
    assert "fell" in page._alerts.text() and page._alerts.isVisible()
    click_cell(page.table, 1, 0)
    wait_until(lambda: reading.training.monitor.state.chosen == 1, "the other model")


def test_reading_is_told_to_a_training_that_goes_on(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_Down)
    assert engine.reading_notes == 0
    engine.move(training())
    wait_until(lambda: reading.training.activity.training, "the training")
    for _ in range(10):
        press(reading, Qt.Key.Key_Down)
    assert engine.reading_notes == 1


def test_keys_of_the_reading_are_no_text_and_text_is_no_key(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.candidate_offers = [CandidateOffer(candidate())]
    reading.training_commands.open_page(CANDIDATE)
    page = reading.training_commands.panel.candidate
    wait_until(lambda: page.scores.rowCount() == 9, "the cases")
    retype(page.reason, "yes y n j")
    assert engine.recorded == [] and page.reason.text() == "yes y n j"


@pytest.mark.parametrize("page", [SETUP, PROGRESS, CANDIDATE, MONITOR])
def test_every_button_of_the_panel_has_a_name_and_both_themes_draw(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait, page: str
) -> None:
    engine.candidate_offers = [CandidateOffer(candidate()), CandidateOffer(failed_candidate())]
    engine.monitor = monitor()
    engine.move(training(notes=NOTES))
    reading.training_commands.open_page(page)
    QTest.qWait(50)
    panel = reading.training_commands.panel
    nameless = [
        b for b in panel.findChildren(QAbstractButton) if b.isVisible() and not (b.text() or b.toolTip())
    ]
    assert nameless == []
    assert not [edit for edit in panel.findChildren(QLineEdit) if edit.acceptDrops()]
    press(reading, Qt.Key.Key_L, CTRL | SHIFT)
    assert reading.commands.theme.name == "light"
    picture = panel.grab().toImage()
    assert picture.pixelColor(2, picture.height() - 2).lightness() > 200


def test_a_failed_training_says_why_and_what_to_do(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.move(training())
    wait_until(lambda: reading.training.runs.state.run is not None, "the training")
    failed = training(state=TrainingState.FAILED, error="Memory ran out.", remedy="Lower the memory limit.")
    engine.move(failed)
    wait_until(lambda: bool(reading.notices.state.notices), "the notice")
    reading.training_commands.open_page(PROGRESS)
    page = reading.training_commands.panel.progress
    assert (
        page._state.text() == "Failed: Memory ran out." and page._remedy.text() == "Lower the memory limit."
    )
    assert page.resume.isVisible()
    engine.move(replace(failed, state=TrainingState.RUNNING, error="", remedy=""))
    wait_until(lambda: page.pause.isVisible(), "it goes on")
