"""The window with an engine in memory: keys, mouse, focus, drops, palette, states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from app.bootstrap import Application, Start
from app.presenters.ports import JobRow
from core.domain.errors import EnvironmentFault
from core.domain.result import Verdict
from core.jobs.messages import JobProgress, JobStarted
from tests.fakes.review_engine import FakeReviewEngine, explanation, result, study, summary

pytestmark = pytest.mark.gui
Wait = Callable[..., None]


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    fake.studies = [study("t1", "P-1", summary("s1", "t1"), summary("s2", "t1", description="Lung kernel"))]
    fake.results = [result()]
    return fake


@pytest.fixture
def start(qt_application: QApplication, engine: FakeReviewEngine) -> Iterator[Callable[..., Application]]:
    """Return a function that starts the window; it is closed at the end."""
    started: list[Application] = []

    def begin(asked: Start | None = None) -> Application:
        application = Application(qt_application, asked or Start(), lambda _start, _publish: engine)
        application.window.resize(1280, 800)
        application.show()
        application.window.activateWindow()
        started.append(application)
        return application

    yield begin
    for application in started:
        application.window.close()
        application.window.deleteLater()


@pytest.fixture
def application(start: Callable[..., Application], wait_until: Wait) -> Application:
    running = start()
    wait_until(lambda: running.worklist.state.loaded, "the worklist")
    return running


@pytest.fixture
def reading(application: Application, wait_until: Wait) -> Application:
    """Return the window with a series open and its result shown."""
    tree = application.worklist_panel.tree
    wait_until(lambda: tree.model().index_of("series:s1").isValid(), "the series")
    index = tree.model().index_of("series:s1")
    QTest.mouseClick(tree.viewport(), Qt.MouseButton.LeftButton, pos=tree.visualRect(index).center())
    wait_until(lambda: application.reading.volume is not None, "the volume")
    wait_until(lambda: bool(application.findings.state.rows), "the findings")
    application.reading_area.setFocus()
    return application


def press(
    application: Application, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    """Press a key where the focus is, as a keyboard does."""
    QTest.keyClick(application.window.focusWidget() or application.window, key, modifier)


def test_the_window_opens_before_the_engine(
    start: Callable[..., Application], engine: FakeReviewEngine
) -> None:
    running = start()
    assert engine.calls == []
    assert running.window.isVisible()


def test_clicking_a_series_reads_it(reading: Application, engine: FakeReviewEngine) -> None:
    assert ("load_volume", "s1") in engine.calls
    assert reading.top_bar._study.text() == "Muster, Erika · Thorax 5.0"
    assert reading.worklist.state.current_series == "s1"


def test_keys_decide_jump_and_undo(reading: Application, engine: FakeReviewEngine, wait_until: Wait) -> None:
    press(reading, Qt.Key.Key_Y)
    wait_until(lambda: len(engine.recorded) == 1, "the verdict")
    press(reading, Qt.Key.Key_N)
    assert reading.findings.state.selected == 1
    press(reading, Qt.Key.Key_J)
    wait_until(lambda: len(engine.recorded) == 2, "the second verdict")
    press(reading, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert reading.findings.state.selected == 0
    press(reading, Qt.Key.Key_U)
    wait_until(lambda: len(engine.recorded) == 3, "the third verdict")
    press(reading, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    wait_until(lambda: len(engine.recorded) == 4, "the undo")
    verdicts = [(d.finding_id, d.verdict) for d in engine.recorded]
    accepted, unsure = Verdict.ACCEPT, Verdict.UNSURE
    assert verdicts == [("f1", accepted), ("f2", Verdict.REJECT), ("f1", unsure), ("f1", accepted)]


def test_edit_asks_for_the_reason_without_a_dialog(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_H)
    assert reading.findings_panel.reason.hasFocus()
    assert QApplication.activeModalWidget() is None
    wait_until(lambda: reading.findings.state.rows[0].verdict == "edit", "the verdict")
    QTest.keyClicks(reading.findings_panel.reason, "border y n")
    press(reading, Qt.Key.Key_Return)
    wait_until(lambda: len(engine.recorded) == 2, "the reason")
    assert (engine.recorded[1].verdict, engine.recorded[1].reason) == (Verdict.EDIT, "border y n")
    press(reading, Qt.Key.Key_Escape)
    assert reading.reading_area.hasFocus()


def test_an_edit_takes_a_corrected_mask_by_keyboard(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    line = reading.findings_panel.mask_line
    assert not line.isVisible()
    press(reading, Qt.Key.Key_H)
    wait_until(lambda: line.isVisible(), "the line for a mask")
    press(reading, Qt.Key.Key_Tab)
    assert line.path.hasFocus()
    QTest.keyClicks(line.path, "/masks/y n j.nii.gz")
    press(reading, Qt.Key.Key_Return)
    wait_until(lambda: reading.findings.state.rows[0].corrected, "the mask")
    assert engine.recorded[-1].mask_file == "/masks/y n j.nii.gz" and line.path.text() == ""
    press(reading, Qt.Key.Key_Escape)
    assert reading.reading_area.hasFocus()
    press(reading, Qt.Key.Key_N)
    wait_until(lambda: not line.isVisible(), "no line for an undecided finding")


def test_verdict_buttons_are_pressed_with_the_mouse(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    QTest.mouseClick(reading.findings_panel.buttons["reject"], Qt.MouseButton.LeftButton)
    wait_until(lambda: bool(engine.recorded), "the verdict")
    wait_until(lambda: reading.findings_panel.buttons["reject"].isChecked(), "the pressed button")
    assert not reading.findings_panel.buttons["accept"].isChecked()


def test_the_eye_hides_one_segment(reading: Application) -> None:
    view = reading.findings_panel.list
    row = view.visualRect(view.model().index(1, 0))
    QTest.mouseClick(
        view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(row.right() - 16, row.center().y())
    )
    assert [r.visible for r in reading.findings.state.rows] == [True, False]
    assert reading.reading.intent.hidden_segments == frozenset({2})


def test_space_held_uncovers_the_pictures(reading: Application) -> None:
    QTest.keyPress(reading.reading_area, Qt.Key.Key_Space)
    assert reading.reading.intent.held
    QTest.keyRelease(reading.reading_area, Qt.Key.Key_Space)
    assert not reading.reading.intent.held


def test_arrows_scroll_pictures_but_move_in_lists(reading: Application) -> None:
    before = reading.reading.intent.cursor_ijk
    press(reading, Qt.Key.Key_Down)
    assert reading.reading.intent.cursor_ijk != before
    settled = reading.reading.intent.cursor_ijk
    press(reading, Qt.Key.Key_W)
    assert reading.worklist_panel.tree.hasFocus()
    press(reading, Qt.Key.Key_Down)
    assert reading.reading.intent.cursor_ijk == settled


def test_enter_in_the_worklist_opens_and_page_keys_walk(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_Right)
    wait_until(lambda: ("load_volume", "s2") in engine.calls, "the next series")
    press(reading, Qt.Key.Key_W)
    tree = reading.worklist_panel.tree
    tree.setCurrentIndex(tree.model().index_of("series:s1"))
    press(reading, Qt.Key.Key_Return)
    wait_until(lambda: reading.worklist.state.current_series == "s1", "the first series again")


def test_typing_in_the_search_filters_and_triggers_nothing(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    assert reading.top_bar.search.hasFocus()
    QTest.keyClicks(reading.top_bar.search, "nobody yjn1")
    wait_until(lambda: reading.worklist.state.rows == (), "the empty list")
    assert engine.recorded == []
    press(reading, Qt.Key.Key_Escape)
    assert reading.reading_area.hasFocus()
    wait_until(lambda: reading.worklist.state.query == "" and bool(reading.worklist.state.rows), "the list")


def test_identity_is_hidden_with_a_key(reading: Application) -> None:
    press(reading, Qt.Key.Key_P)
    assert reading.top_bar._study.text() == "P-1 · Thorax 5.0"


def test_panels_fold_with_one_key_and_keep_their_width(reading: Application) -> None:
    width = reading.window.left_panel.width()
    press(reading, Qt.Key.Key_F6)
    assert not reading.window.left_panel.isVisible()
    press(reading, Qt.Key.Key_F6)
    QTest.qWait(20)
    assert reading.window.left_panel.width() == width
    press(reading, Qt.Key.Key_F9)
    assert reading.audit_panel.isVisible()
    press(reading, Qt.Key.Key_F9)
    assert not reading.window.bottom_panel.isVisible()


def test_the_palette_runs_an_action_and_gives_the_focus_back(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    assert reading.window.palette_overlay.isVisible()
    QTest.keyClicks(reading.window.focusWidget(), "accept")
    press(reading, Qt.Key.Key_Return)
    assert not reading.window.palette_overlay.isVisible()
    wait_until(lambda: len(engine.recorded) == 1, "the verdict")
    assert reading.reading_area.hasFocus()
    press(reading, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    press(reading, Qt.Key.Key_Escape)
    assert not reading.window.palette_overlay.isVisible()


def test_the_cheat_sheet_opens_and_closes(reading: Application) -> None:
    QTest.keyClick(reading.window.focusWidget(), Qt.Key.Key_Question, Qt.KeyboardModifier.ShiftModifier)
    assert reading.window.cheat_sheet.isVisible()
    press(reading, Qt.Key.Key_Escape)
    assert not reading.window.cheat_sheet.isVisible()


def test_files_are_dropped_anywhere(
    application: Application, engine: FakeReviewEngine, tmp_path: Path, wait_until: Wait
) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    event = QDropEvent(
        QPointF(400, 300),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    application.window.drop_target.dropEvent(event)
    wait_until(lambda: ("import_paths", (tmp_path,), "link", None) in engine.calls, "the import")
    wait_until(lambda: application.session.summary is not None, "the imported study on screen")


def test_an_import_never_takes_the_picture_away(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    focused = reading.window.focusWidget()
    reading.imports.import_paths([Path("elsewhere")])
    wait_until(lambda: not reading.imports.busy, "the import")
    QTest.qWait(50)
    assert reading.session.summary is not None and reading.session.summary.key == "s1"
    assert reading.window.focusWidget() is focused


def test_files_of_the_command_line_are_opened(
    start: Callable[..., Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    running = start(Start(files=(Path("study"),)))
    wait_until(lambda: running.session.summary is not None, "the study of the command line")
    assert ("import_paths", (Path("study"),), "link", None) in engine.calls


def test_running_shows_progress_everywhere_and_can_be_cancelled(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    wait_until(lambda: "thorax-ct" in reading.models_panel.cards, "the model")
    card = reading.models_panel.cards["thorax-ct"]
    engine.job_rows = [
        JobRow(
            "j1",
            "run",
            "Thorax organs",
            "running",
            "resampling",
            0.4,
            9.0,
            series_key="s1",
            model_id="thorax-ct",
        )
    ]
    QTest.mouseClick(card.run_button, Qt.MouseButton.LeftButton)
    wait_until(lambda: ("submit_run", "thorax-ct", "s1") in engine.calls, "the submission")
    reading.events.publish(JobStarted("j1", 1, "cpu"))
    reading.events.publish(JobProgress("j1", "resampling", 0.4, 9.0))
    wait_until(lambda: "9 s left" in reading.status.state.activity, "the progress")
    assert not card.run_button.isVisible()
    press(reading, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    wait_until(lambda: ("cancel_job", "j1") in engine.calls, "the cancellation")


def test_why_shows_a_heat_map(reading: Application, engine: FakeReviewEngine, wait_until: Wait) -> None:
    engine.explanations = [explanation()]
    wait_until(lambda: reading.explanation.state.available, "the explanation panel")
    press(reading, Qt.Key.Key_G)
    wait_until(lambda: ("submit_explain", "r1", "gradcam", "left lung") in engine.calls, "the question")
    engine.job_rows = [JobRow("e1", "explain", "Why", "succeeded")]
    reading.jobs.refresh()
    wait_until(lambda: reading.explanation.state.shown, "the heat map")
    assert reading.explanation.state.sanity_passed is True


def test_an_error_is_an_inline_notice(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.errors["record_decision"] = EnvironmentFault("disk.full", "The disk is full.", "Free some space.")
    press(reading, Qt.Key.Key_Y)
    wait_until(lambda: bool(reading.notices.state.notices), "the notice")
    assert QApplication.activeModalWidget() is None
    assert reading.findings.state.rows[0].verdict == ""
    press(reading, Qt.Key.Key_D, Qt.KeyboardModifier.ControlModifier)
    assert reading.notices.state.notices == ()


def test_a_library_that_cannot_be_opened_says_why(
    start: Callable[..., Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.errors["open"] = EnvironmentFault(
        "library.key", "The key is another one.", "Restore the keys folder."
    )
    running = start()
    wait_until(lambda: bool(running.notices.state.notices), "the reason")
    assert running.notices.state.notices[0].remedy == "Restore the keys folder."


def test_the_layout_is_kept_for_the_next_start(reading: Application, engine: FakeReviewEngine) -> None:
    reading.window.across.setSizes([300, 600, 380])
    QTest.qWait(20)
    press(reading, Qt.Key.Key_F6)
    kept = reading.window.layout_state()
    press(reading, Qt.Key.Key_F6)
    reading.window.restore_layout(kept)
    assert not reading.window.left_panel.isVisible()
    reading.window.restore_layout("not json")
    reading.window.close()
    assert engine.saved and engine.saved[0][1] == "dark"
    assert engine.calls[-1] == ("close",)


def test_both_themes_draw_everything(reading: Application) -> None:
    press(reading, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert reading.commands.theme.name == "light"
    assert reading.window.grab().toImage().pixelColor(4, 300).lightness() > 200


def test_every_button_has_a_name_and_a_tool_tip(reading: Application) -> None:
    from PySide6.QtWidgets import QAbstractButton

    nameless = [
        button
        for button in reading.window.findChildren(QAbstractButton)
        if button.isVisible() and not (button.text() or button.toolTip())
    ]
    assert nameless == []


def test_hit_targets_are_large_enough(reading: Application) -> None:
    from PySide6.QtWidgets import QPushButton

    small = [
        (button.text(), button.height())
        for button in reading.window.findChildren(QPushButton)
        if button.isVisible() and button.height() < 24
    ]
    assert small == []


def test_progress_is_painted_with_everything_else(reading: Application, wait_until: Wait) -> None:
    """Qt's own bar paints the window at once at each step: a series of 500 slices took seconds of them."""
    painted: list[str] = []
    bar = reading.status_bar
    reading.status.set_task("load", "Loading", 0.1)
    wait_until(lambda: bar._progress.isVisible(), "the bar")
    QTest.qWait(50)
    area = reading.reading_area
    area.viewport_painted.connect(painted.append)
    try:
        for step in range(2, 9):
            area.update()
            for child in area.findChildren(QWidget):
                child.update()
            reading.status.set_task("load", "Loading", step / 10)
        assert not painted, "nothing is painted before the event loop runs"
        assert bar._progress.value() == 800
        wait_until(lambda: bool(painted), "the painting")
    finally:
        area.viewport_painted.disconnect(painted.append)
        reading.status.end_task("load")
