"""The section “Engine on another computer”, and models of servers in the panel, in a real window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit

from app.bootstrap import Application, Start
from core.domain.errors import EnvironmentFault
from tests.fakes.remote_engines import READING_ROOM
from tests.fakes.review_engine import OFFER, FakeReviewEngine

pytestmark = pytest.mark.gui
Wait = Callable[..., None]
REMOTE = replace(OFFER, id="server:reading-room/thorax-ct", server="reading-room", estimate_s=None)


@pytest.fixture
def engine() -> FakeReviewEngine:
    return FakeReviewEngine()


@pytest.fixture
def running(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> Iterator[Application]:
    application = Application(qt_application, Start(), lambda _start, _publish: engine)
    application.window.resize(1280, 800)
    application.show()
    application.window.activateWindow()
    wait_until(lambda: application.worklist.state.loaded, "the worklist")
    yield application
    application.window.close()
    application.window.deleteLater()


def test_a_server_is_connected_tested_and_removed(
    running: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    QTest.keyClick(running.window, Qt.Key.Key_F10)
    section = running.engine_section
    assert section.isVisible() and not section.list.isVisible()
    assert (
        section.words.text().startswith("Off.")
        and not section.test.isVisible()
        and not section.form.isVisible()
    )
    QTest.mouseClick(section.add, Qt.MouseButton.LeftButton)
    assert section.form.isVisible() and section._sent.isVisible()
    assert section.token.echoMode() == QLineEdit.EchoMode.Password
    for field, text in (
        (section.name, "reading-room"),
        (section.url, "https://reading-room.example:8000"),
        (section.token, "t" * 32),
    ):
        field.setFocus()
        QTest.keyClicks(field, text)
    engine.errors["connect_engine"] = EnvironmentFault("engine.unreachable", "It can't be reached.", "Check.")
    QTest.mouseClick(section.connect_button, Qt.MouseButton.LeftButton)
    wait_until(lambda: section.words.text() == "It can't be reached. Check.", "the refusal")
    assert section.form.isVisible() and section.url.text() and section.token.text() == "", (
        "the token stays in no field"
    )
    del engine.errors["connect_engine"]
    QTest.keyClicks(section.token, "t" * 32)
    QTest.mouseClick(section.connect_button, Qt.MouseButton.LeftButton)
    wait_until(lambda: section.list.count() == 1, "the server")
    assert engine.forms[-1].token == "t" * 32
    assert section.list.currentRow() == 0 and section.test.isEnabled() and not section.form.isVisible()
    QTest.mouseClick(section.change, Qt.MouseButton.LeftButton)
    assert section.url.text() == "https://reading-room.example:8000" and section.token.text() == ""
    QTest.mouseClick(section.back, Qt.MouseButton.LeftButton)
    QTest.mouseClick(section.test, Qt.MouseButton.LeftButton)
    wait_until(lambda: section.words.text().startswith("Ready:"), "how it is")
    assert section.words.property("role") == "verified"
    QTest.mouseClick(section.remove, Qt.MouseButton.LeftButton)
    wait_until(lambda: not section.list.isVisible(), "the removal")
    assert engine.servers == []


def test_a_model_of_a_server_is_marked_in_the_panel(
    running: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.servers, engine.offers = [READING_ROOM], [OFFER, REMOTE]
    engine.troubles = {"reading-room": "reading-room can't be reached."}
    wait_until(lambda: running.worklist.series("s1") is not None, "the series")
    series = running.worklist.series("s1")
    assert series is not None
    running.session.open_series(series)
    wait_until(lambda: running.models.state.can_run and len(running.models.state.rows) == 2, "the models")
    wait_until(lambda: bool(running.models.state.rows[1].trouble), "the server's absence")
    here, there = running.models_panel.cards[OFFER.id], running.models_panel.cards[REMOTE.id]
    assert (
        there._detail.text() == "reading-room can't be reached."
        and there._detail.property("role") == "caution"
    )
    assert here._detail.property("role") == "faint"
    assert "no identity" in there.run_button.toolTip() and "no identity" not in here.run_button.toolTip()
    engine.troubles = {}
    running.models.set_series(series)
    wait_until(lambda: bool(running.models.state.rows), "the models again")
    shown = running.models_panel.cards[REMOTE.id]
    wait_until(lambda: "on reading-room" in shown._detail.text(), "where it runs")
