"""Imports, elements and the library's upkeep in the window: questions, panels, drops, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit

from app.bootstrap import Application, Start
from app.presenters.ports_library import ConflictRow, QuarantineRow
from app.views.main_window import IMPORT_TAB, LIBRARY_TAB, TAGS_TAB
from app.views.tags.tag_model import NAME, VALUE
from core.domain.browse import BackupInfo, CheckFinding, LibraryCheck
from core.domain.study import SkippedFile
from core.domain.tags import TagLine
from tests.fakes.library_engine import RULE, FakeTagDocument, study_line
from tests.fakes.review_engine import FakeReviewEngine, study, summary

pytestmark = pytest.mark.gui
Wait = Callable[..., None]


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    fake.studies = [study("t1", "P-1", summary("s1", "t1"), summary("s2", "t1", description="Lung kernel"))]
    return fake


@pytest.fixture
def application(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> Iterator[Application]:
    running = Application(qt_application, Start(), lambda _start, _publish: engine)
    running.window.resize(1280, 800)
    running.show()
    running.window.activateWindow()
    wait_until(lambda: running.worklist.state.loaded, "the worklist")
    yield running
    running.window.close()
    running.window.deleteLater()


@pytest.fixture
def reading(application: Application, wait_until: Wait) -> Application:
    """Return the window with a series open."""
    application.opener.open_study("t1")
    wait_until(lambda: application.reading.volume is not None, "the volume")
    application.reading_area.setFocus()
    return application


def press(
    application: Application, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    QTest.keyClick(application.window.focusWidget() or application.window, key, modifier)


def orders(engine: FakeReviewEngine) -> list[tuple[object, ...]]:
    return [call[1:] for call in engine.calls if call[0] == "import_paths"]


# -- drops -------------------------------------------------------------------------------------------


def files(*paths: str) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(path) for path in paths])
    return data


BOTH = Qt.DropAction.MoveAction | Qt.DropAction.CopyAction


def enter(data: QMimeData, possible: Qt.DropAction = BOTH) -> QDragEnterEvent:
    return QDragEnterEvent(
        QPoint(400, 300), possible, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )


def test_a_drag_covers_the_window_and_is_always_a_copy(
    application: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    target, data = application.window.drop_target, files("/cd/DICOMDIR", "/x/a.zip")
    entering = enter(data)
    QApplication.sendEvent(application.window, entering)
    assert entering.isAccepted() and entering.dropAction() is Qt.DropAction.CopyAction
    assert target.isVisible() and target.size() == application.window.size()
    drop = QDropEvent(
        QPointF(400, 300),
        BOTH,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(target, drop)
    assert drop.dropAction() is Qt.DropAction.CopyAction and not target.isVisible()
    wait_until(lambda: bool(orders(engine)), "the import")
    assert orders(engine)[0][0] == (Path("/cd/DICOMDIR"), Path("/x/a.zip"))


def test_what_can_only_be_moved_is_not_taken(application: Application) -> None:
    data = files("/cd/DICOMDIR")
    QApplication.sendEvent(application.window, enter(data, Qt.DropAction.MoveAction))
    assert not application.window.drop_target.isVisible()


def test_text_is_no_drop_and_a_drag_that_vanished_leaves_no_veil(application: Application) -> None:
    text = QMimeData()
    text.setText("no file")
    entering = enter(text)
    QApplication.sendEvent(application.window, entering)
    assert not application.window.drop_target.isVisible()
    data = files("/cd")
    QApplication.sendEvent(application.window, enter(data))
    moved = QMouseEvent(
        QMouseEvent.Type.MouseMove,
        QPointF(10, 10),
        QPointF(10, 10),
        Qt.MouseButton.NoButton,
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(application.window.drop_target, moved)
    assert not application.window.drop_target.isVisible()


def test_no_text_field_takes_a_drop_for_text(application: Application) -> None:
    fields = application.window.findChildren(QLineEdit)
    assert fields and not [field for field in fields if field.acceptDrops()]


# -- questions ---------------------------------------------------------------------------------------


def test_a_medium_is_asked_about_beside_the_pictures_and_answered_by_keyboard(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.medium = "removable"
    reading.imports.import_paths([Path("/media/cd")])
    wait_until(lambda: bool(reading.questions.state.questions), "the question")
    assert reading.reading_area.hasFocus(), "a question takes no focus"
    assert QApplication.activeModalWidget() is None
    assert reading.status_bar.questions.isVisible()
    press(reading, Qt.Key.Key_F6)
    assert not reading.question_stack.isVisible()
    press(reading, Qt.Key.Key_Q)
    assert reading.question_stack.isVisible(), "the way to the question unfolds the panel"
    (card,) = reading.question_stack.cards.values()
    assert card.buttons["copy"].hasFocus()
    press(reading, Qt.Key.Key_Tab)
    assert card.buttons["link"].hasFocus()
    press(reading, Qt.Key.Key_Space)
    wait_until(lambda: bool(orders(engine)), "the import")
    assert orders(engine) == [((Path("/media/cd"),), "link", None)]
    assert reading.reading_area.hasFocus(), "the focus is back where it was"
    assert not reading.status_bar.questions.isVisible()


def test_a_password_is_typed_unseen(reading: Application, engine: FakeReviewEngine, wait_until: Wait) -> None:
    engine.skipped = (SkippedFile("/in/a.zip:1.dcm", "zip.encrypted", "The entry is encrypted."),)
    reading.imports.import_paths([Path("/in/a.zip")])
    wait_until(lambda: bool(reading.questions.state.questions), "the question")
    press(reading, Qt.Key.Key_Q)
    (card,) = reading.question_stack.cards.values()
    assert card.secret.hasFocus() and card.secret.echoMode() is QLineEdit.EchoMode.Password
    engine.skipped = ()
    QTest.keyClicks(card.secret, "open sesame y n")
    QTest.keyClick(card.secret, Qt.Key.Key_Return)
    wait_until(lambda: len(orders(engine)) == 2, "the second try")
    assert orders(engine)[1] == ((Path("/in/a.zip"),), "link", "open sesame y n")
    assert not engine.recorded, "no letter of it was a key"


# -- import panel ------------------------------------------------------------------------------------


def test_the_panel_lists_what_was_skipped_and_why(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    texts = [
        SkippedFile(f"/cd/Mueller/{n}.txt", "dicom.not_dicom", "This is no picture.") for n in range(5000)
    ]
    engine.skipped = (*texts, SkippedFile("/cd/x.dcm", "dicom.truncated", "It ends early."))
    reading.imports.import_paths([Path("/cd")])
    wait_until(lambda: reading.status_bar.imports.isVisible(), "the badge")
    assert reading.status_bar.imports.text() == "5001 skipped"
    QTest.mouseClick(reading.status_bar.imports, Qt.MouseButton.LeftButton)
    assert reading.window.shows_tab(IMPORT_TAB)
    panel = reading.import_panel
    assert panel.skipped.rowCount() == 5001 and not reading.status_bar.imports.isVisible()
    panel.reason.setCurrentIndex(2)
    panel.reason.activated.emit(2)
    assert panel.skipped.rowCount() == 1
    assert panel.skipped.data(panel.skipped.index(0, 0)) == "x.dcm · /cd"
    panel.copy.click()
    assert QApplication.clipboard().text() == "/cd/x.dcm\tdicom.truncated\tIt ends early."
    reading.identity.set_hidden(True)
    assert panel.skipped.data(panel.skipped.index(0, 0)) == "•••••.dcm"
    assert panel.runs.data(panel.runs.index(0, 0)) == "A folder or file"
    reading.identity.set_hidden(False)


def test_conflicts_and_quarantine_are_decided_on_lines(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.conflict_rows = [ConflictRow("c1", "t1", "/lib/1", "/cd/1")]
    engine.quarantine_rows = [QuarantineRow("q1", "/cd/2", "dicom.truncated", "It ends early.")]
    press(reading, Qt.Key.Key_F8, Qt.KeyboardModifier.ShiftModifier)
    panel = reading.import_panel
    wait_until(lambda: panel.conflicts.rowCount() == 1, "the conflict")
    QTest.mouseClick(panel.pages.buttons["conflicts"], Qt.MouseButton.LeftButton)
    assert not panel.keep_new.isEnabled()
    panel.conflict_table.selectRow(0)
    QTest.mouseClick(panel.keep_new, Qt.MouseButton.LeftButton)
    wait_until(lambda: ("resolve_conflict", "c1", "new") in engine.calls, "the decision")
    QTest.mouseClick(panel.pages.buttons["quarantine"], Qt.MouseButton.LeftButton)
    panel.quarantine_table.selectRow(0)
    QTest.mouseClick(panel.forget, Qt.MouseButton.LeftButton)
    wait_until(lambda: panel.quarantine.rowCount() == 0, "the empty quarantine")


def test_a_watched_folder_is_added_and_removed_in_the_settings(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    reading.watch.add(Path("/inbox"))
    press(reading, Qt.Key.Key_F10)
    section = reading.settings_panel.findChild(type(reading.watch_section))
    assert section is reading.watch_section
    wait_until(lambda: section.list.count() == 1, "the folder")
    section.list.setCurrentRow(0)
    QTest.mouseClick(section.remove, Qt.MouseButton.LeftButton)
    wait_until(lambda: engine.folders == (), "no folder")


# -- care --------------------------------------------------------------------------------------------


def test_the_library_is_looked_after_when_asked_and_idle(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.library_check = LibraryCheck(False, (CheckFinding("x", "2 files are missing.", "Insert it."),))
    running = Application(qt_application, Start(care_after_ms=50), lambda _start, _publish: engine)
    try:
        running.show()
        wait_until(lambda: bool(running.notices.state.notices), "the notice")
        assert running.notices.state.notices[-1].remedy == "Insert it."
        assert ("daily_backup",) in engine.calls
    finally:
        running.window.close()
        running.window.deleteLater()


def test_the_library_is_left_alone_unless_asked(application: Application, engine: FakeReviewEngine) -> None:
    assert not application._care_soon.isActive() and ("daily_backup",) not in engine.calls


# -- elements ----------------------------------------------------------------------------------------


def test_one_key_opens_the_elements_with_the_search_and_closes_them(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_T)
    panel = reading.tags_panel
    wait_until(lambda: panel.model.rowCount() == 4, "the elements")
    assert reading.window.shows_tab(TAGS_TAB) and panel.search.hasFocus()
    QTest.keyClicks(panel.search, "item")
    wait_until(lambda: panel.model.rowCount() == 3, "what was found")
    QTest.keyClick(panel.search, Qt.Key.Key_Return)
    assert panel.tree.hasFocus()
    panel.search.clear()
    wait_until(lambda: panel.model.rowCount() == 4, "the whole tree")
    press(reading, Qt.Key.Key_Escape)
    assert reading.reading_area.hasFocus()
    press(reading, Qt.Key.Key_T)
    assert not reading.window.bottom_panel.isVisible() and reading.reading_area.hasFocus()


def test_elements_follow_the_picture_and_keep_what_is_unfolded(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_T)
    panel = reading.tags_panel
    wait_until(lambda: panel.model.rowCount() == 4, "the elements")
    panel.tree.expand(panel.model.index(0, 0))
    place = reading.tags.state.position
    changed = FakeTagDocument()
    rows = changed.lines_at[()][3]
    changed.lines_at[()] = (
        *changed.lines_at[()][:3],
        TagLine(rows.path, rows.tag, rows.keyword, rows.name, rows.vr, "256"),
    )
    engine.document = changed
    reading.reading_area.setFocus()
    press(reading, Qt.Key.Key_Down)
    wait_until(lambda: reading.tags.state.position != place, "the next file")
    wait_until(lambda: panel.model.data(panel.model.index(3, VALUE)) == "256", "the new value")
    assert panel.tree.isExpanded(panel.model.index(0, 0))


def test_elements_carry_the_number_of_the_picture(reading: Application, wait_until: Wait) -> None:
    press(reading, Qt.Key.Key_T)
    wait_until(lambda: reading.tags.state.document is not None, "the elements")
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Up):
        reading.reading_area.setFocus()
        press(reading, key)
        number, count = reading.reading.number
        wait_until(lambda n=number: reading.tags.state.number == n, "the file of the picture")
        assert reading.tags.state.place == f"Image {number + 1} of {count}"
    QTest.mouseClick(reading.tags_panel.next, Qt.MouseButton.LeftButton)
    wait_until(lambda: reading.tags.state.number == number + 1, "the file of the next picture")


def test_the_menu_of_a_line_shows_the_elements_of_its_series(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    tree = reading.worklist_panel.tree
    wait_until(lambda: tree.model().index_of("series:s2").isValid(), "the series")
    tree.setCurrentIndex(tree.model().index_of("series:s2"))
    reading.worklist_panel._show_menu(QPoint(100, 100))
    menu = reading.worklist_panel._menu
    try:
        next(a for a in menu.actions() if a.text() == "DICOM elements").trigger()
    finally:
        menu.close()
    wait_until(lambda: ("open_tags", "s2", 23, 0) in engine.calls, "its elements")
    assert reading.session.summary is not None and reading.session.summary.key == "s1", "the picture stays"
    assert reading.window.shows_tab(TAGS_TAB)
    wait_until(lambda: "Lung kernel" in reading.tags_panel._note.text(), "which series it is")


def test_elements_are_masked_with_the_identity(reading: Application, wait_until: Wait) -> None:
    press(reading, Qt.Key.Key_T)
    model = reading.tags_panel.model
    wait_until(lambda: model.rowCount() == 4, "the elements")
    assert model.data(model.index(2, VALUE)) == "山田^太郎"
    assert model.data(model.index(1, NAME)) == "[Shim] · VENDOR HEADER"
    reading.identity.set_hidden(True)
    assert [model.data(model.index(row, VALUE)) for row in (1, 2, 3)] == ["•••••", "•••••", "≠ 512"]
    reading.tags_panel.tree.setCurrentIndex(model.index(2, 0))
    reading.tags_panel.copy(values_only=True)
    assert QApplication.clipboard().text() == "•••••"
    reading.identity.set_hidden(False)


def test_a_long_sequence_is_read_piece_by_piece(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    sequence = 0x52009230
    line = TagLine((sequence,), "(5200,9230)", "X", "Per-Frame", "SQ", "50000 items", 50_000)
    items = tuple(TagLine((sequence, n), "", "", f"Item {n + 1}", "", "", 1) for n in range(50_000))
    engine.document = FakeTagDocument({(): (line,), (sequence,): items})
    press(reading, Qt.Key.Key_T)
    model = reading.tags_panel.model
    wait_until(lambda: model.rowCount() == 1, "the sequence")
    top = model.index(0, 0)
    reading.tags_panel.tree.expand(top)
    QTest.qWait(50)
    assert 0 < model.rowCount(top) < 2000 and model.canFetchMore(top)


# -- the library -------------------------------------------------------------------------------------


def test_deleting_asks_first_and_takes_the_picture_off_the_screen(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(reading, Qt.Key.Key_Delete, Qt.KeyboardModifier.ControlModifier)
    wait_until(lambda: bool(reading.questions.state.questions), "the question")
    (card,) = reading.question_stack.cards.values()
    assert card.buttons["no"].hasFocus(), "the harmless answer has the focus"
    press(reading, Qt.Key.Key_Space)
    assert not any(call[0] == "remove_studies" for call in engine.calls)
    press(reading, Qt.Key.Key_Delete, Qt.KeyboardModifier.ControlModifier)
    wait_until(lambda: bool(reading.questions.state.questions), "the question again")
    (card,) = reading.question_stack.cards.values()
    QTest.mouseClick(card.buttons["yes"], Qt.MouseButton.LeftButton)
    wait_until(lambda: ("remove_studies", ("t1",)) in engine.calls, "the removal")
    wait_until(lambda: reading.session.summary is None, "no series open")
    assert reading.reading.volume is None, "a picture of a study that is gone is not shown"


def test_rules_are_added_previewed_and_applied(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.due = [study_line("t9")]
    press(reading, Qt.Key.Key_F9, Qt.KeyboardModifier.ShiftModifier)
    assert reading.window.shows_tab(LIBRARY_TAB)
    panel = reading.library_panel
    QTest.keyClicks(panel.rule_name, RULE.name)
    panel.kept.setText("teaching, audit")
    panel.days.setText("90")
    QTest.mouseClick(panel.add, Qt.MouseButton.LeftButton)
    wait_until(lambda: panel.rules.rowCount() == 1, "the rule")
    assert engine.rules[0].tags_kept == ("teaching", "audit") and engine.rules[0].older_than_days == 90
    panel.rule_table.selectRow(0)
    QTest.mouseClick(panel.preview, Qt.MouseButton.LeftButton)
    wait_until(lambda: panel.due.rowCount() == 1, "the preview")
    QTest.mouseClick(panel.apply, Qt.MouseButton.LeftButton)
    wait_until(lambda: bool(reading.questions.state.questions), "the question")
    reading.questions.answer(reading.questions.state.questions[0].id, "yes")
    wait_until(lambda: ("apply_rule", RULE.name) in engine.calls, "the removal")
    assert reading.reading.volume is not None, "another study stays on screen"


def test_backups_and_the_check_are_one_key_away(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.backup_rows = [BackupInfo(Path("/b/0"), "2026-01-01T00:00:00", 1, "0002", "daily")]
    engine.library_check = LibraryCheck(True, (CheckFinding("x", "1 orphan.", "It goes.", 1, False),))
    both = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    press(reading, Qt.Key.Key_B, both)
    panel = reading.library_panel
    wait_until(lambda: panel.backups.rowCount() == 2, "the backup")
    press(reading, Qt.Key.Key_K, both)
    wait_until(lambda: panel.findings.rowCount() == 1, "the finding")
    assert reading.housekeeping.state.check_words.startswith("Usable, 1 finding")
    QTest.mouseClick(panel.pages.buttons["backup"], Qt.MouseButton.LeftButton)
    panel.backup_table.selectRow(0)
    QTest.mouseClick(panel.restore, Qt.MouseButton.LeftButton)
    wait_until(lambda: bool(reading.questions.state.questions), "the question")
    reading.questions.answer(reading.questions.state.questions[0].id, "no")
    assert not any(call[0] == "restore_backup" for call in engine.calls)


def test_every_action_of_the_desk_has_a_key(application: Application) -> None:
    desk = [
        action.id for action in application.registry if action.id.startswith(("library.", "tags.", "import."))
    ]
    assert desk and not [name for name in desk if not application.registry.keys_of(name)]
