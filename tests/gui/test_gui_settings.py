"""Settings, read-first mode, the audit badge and long notices in the window."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton

from app.bootstrap import Application, Start
from app.presenters.ports import AuditCheck, Preferences
from core.domain.errors import EnvironmentFault
from tests.fakes.review_engine import FakeReviewEngine, result, study, summary

pytestmark = pytest.mark.gui
Wait = Callable[..., None]


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    fake.studies = [study("t1", "P-1", summary("s1", "t1"), summary("s2", "t1", description="Lung kernel"))]
    fake.results = [result()]
    return fake


@pytest.fixture
def start(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> Iterator[Callable[[], Application]]:
    """Return a function that starts the window; it is closed at the end."""
    started: list[Application] = []

    def begin() -> Application:
        application = Application(qt_application, Start(), lambda _start, _publish: engine)
        application.window.resize(1280, 800)
        application.show()
        application.window.activateWindow()
        started.append(application)
        wait_until(lambda: application.worklist.state.loaded, "the worklist")
        return application

    yield begin
    for application in started:
        application.window.close()
        application.window.deleteLater()


def open_first(application: Application, wait_until: Wait) -> None:
    wait_until(lambda: application.worklist.series("s1") is not None, "the series")
    summary_of_first = application.worklist.series("s1")
    assert summary_of_first is not None
    application.session.open_series(summary_of_first)
    wait_until(lambda: application.reading.volume is not None, "the volume")


def test_read_first_hides_everything_until_the_key(
    start: Callable[[], Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.chosen = Preferences(read_first=True)
    running = start()
    wait_until(lambda: running.read_first.state.on, "the mode")
    open_first(running, wait_until)
    wait_until(lambda: running.findings.state.withheld, "the hidden result")
    assert running.findings_panel.show_ai.isVisible()
    assert (
        not running.findings_panel.results.isVisible() and running.findings_panel.list.model().rowCount() == 0
    )
    assert running.reading._loaded is not None and running.reading._loaded.segmentation is None
    running.reading_area.setFocus()
    QTest.keyClick(running.reading_area, Qt.Key.Key_Y)
    QTest.keyClick(running.reading_area, Qt.Key.Key_V)
    wait_until(lambda: bool(running.findings.state.rows), "the findings")
    assert running.reading._loaded.segmentation is not None
    assert not running.findings_panel.show_ai.isVisible()
    assert engine.recorded == []
    assert [call[0] for call in engine.calls if call[0] in ("note_first_look", "note_reveal")] == [
        "note_first_look",
        "note_reveal",
    ]


def test_the_button_shows_them_too(
    start: Callable[[], Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.chosen = Preferences(read_first=True)
    running = start()
    wait_until(lambda: running.read_first.state.on, "the mode")
    open_first(running, wait_until)
    wait_until(lambda: running.findings.state.withheld, "the hidden result")
    QTest.mouseClick(running.findings_panel.show_ai, Qt.MouseButton.LeftButton)
    wait_until(lambda: bool(running.findings.state.rows), "the findings")


def test_each_setting_takes_effect_at_once_and_is_kept(
    start: Callable[[], Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    running = start()
    panel = running.settings_panel
    QTest.keyClick(running.window, Qt.Key.Key_F10)
    assert panel.isVisible()
    light = panel.theme.findData("light")
    panel.theme.setCurrentIndex(light)
    panel.theme.activated.emit(light)
    assert running.commands.theme.name == "light"
    QTest.mouseClick(panel.texts, Qt.MouseButton.LeftButton, pos=QPoint(8, panel.texts.height() // 2))
    assert not running.reading.intent.texts
    QTest.mouseClick(panel.read_first, Qt.MouseButton.LeftButton, pos=QPoint(8, panel.texts.height() // 2))
    assert running.read_first.state.on
    panel.reader.setFocus()
    QTest.keyClicks(panel.reader, "Dr. Bo")
    QTest.keyClick(panel.reader, Qt.Key.Key_Return)
    assert running.top_bar._reader.text() == "reader: Dr. Bo"
    wait_until(lambda: engine.chosen.reader_name == "Dr. Bo", "the settings on disk")
    assert engine.chosen == Preferences("light", "default", True, False, "Dr. Bo")
    QTest.keyClick(running.window, Qt.Key.Key_F10)
    assert not panel.isVisible()


def test_another_key_scheme_binds_and_names_other_keys(
    start: Callable[[], Application], wait_until: Wait
) -> None:
    running = start()
    open_first(running, wait_until)
    running.settings.change(key_scheme="horos-like")
    running.reading_area.setFocus()
    before = running.reading.intent
    QTest.keyClick(running.reading_area, Qt.Key.Key_I, Qt.KeyboardModifier.ControlModifier)
    assert running.reading.intent.inverted != before.inverted
    QTest.keyClick(running.reading_area, Qt.Key.Key_I)
    assert running.reading.intent.inverted != before.inverted, "the key of the former scheme still works"
    QTest.keyClick(running.reading_area, Qt.Key.Key_Right)
    assert running.reading.intent.cursor_ijk != before.cursor_ijk
    running.settings.change(key_scheme="default")
    QTest.keyClick(running.reading_area, Qt.Key.Key_I)
    assert running.reading.intent.inverted == before.inverted


def test_the_key_for_texts_and_the_setting_agree(
    start: Callable[[], Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    running = start()
    open_first(running, wait_until)
    running.reading.toggle_texts()
    assert not running.settings_panel.texts.isChecked()
    wait_until(lambda: not engine.chosen.corner_texts, "the setting")


def test_what_cannot_be_kept_is_taken_back(
    start: Callable[[], Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    running = start()
    engine.errors["save_preferences"] = EnvironmentFault("disk.full", "The disk is full.", "Free some.")
    running.settings.change(theme="light")
    wait_until(lambda: running.commands.theme.name == "dark", "the former theme")
    assert running.settings_panel.theme.currentData() == "dark"
    assert running.notices.state.notices[-1].what == "The disk is full."


def test_the_remembered_settings_hold_from_the_first_paint(
    start: Callable[[], Application], engine: FakeReviewEngine, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    document = {"theme": "light", "ai_hidden_until_asked": True, "overlay": {"corner_texts": False}}
    (home / "settings.json").write_text(json.dumps(document), "utf-8")
    engine.chosen = Preferences("light", "default", True, False)
    running = start()
    assert running.commands.theme.name == "light"
    assert running.read_first.state.on and not running.reading.intent.texts


def test_a_broken_chain_is_red_with_its_reason_and_opens_the_trail(
    start: Callable[[], Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.check = AuditCheck(12, False, 7, "the record was changed")
    running = start()
    badge = running.status_bar.audit
    wait_until(lambda: badge.text() == "audit ✗", "the verification")
    assert badge.property("role") == "danger"
    assert "broken at event 7: the record was changed" in badge.toolTip()
    assert [call[0] for call in engine.calls].count("verify_audit") == 1
    QTest.mouseClick(badge, Qt.MouseButton.LeftButton)
    assert running.audit_panel.isVisible()
    QTest.mouseClick(badge, Qt.MouseButton.LeftButton)
    assert running.audit_panel.isVisible()


def test_a_long_notice_unfolds_on_request(start: Callable[[], Application]) -> None:
    running = start()
    running.notices.tell("caution", "The key lies in a file. Whoever copies the folder can read it.")
    stack = running.window.left_panel
    more = next(b for b in stack.findChildren(QPushButton) if b.text() == "More")
    QTest.mouseClick(more, Qt.MouseButton.LeftButton)
    words = [label.text() for label in stack.findChildren(type(running.top_bar._reader))]
    assert "Whoever copies the folder can read it." in words
