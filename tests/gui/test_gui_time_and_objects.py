"""Time, cine and objects of an archive in the window, driven by keyboard and mouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from app.bootstrap import Application, Start
from app.presenters.reading_state import Slot
from core.domain.derived import (
    DerivedHeader,
    DerivedSegmentation,
    Document,
    ReportItem,
    ReportMeasurement,
    ReportPlace,
    StructuredReport,
)
from core.domain.study import ObjectKind, SeriesKind, SeriesSummary
from tests.fakes.review_engine import FakeReviewEngine, geometry, segmentation, study, summary

pytestmark = pytest.mark.gui
Wait = Callable[..., None]
ALT, CTRL, SHIFT = (
    Qt.KeyboardModifier.AltModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
)
NONE = Qt.KeyboardModifier.NoModifier


def header(kind: ObjectKind, number: int) -> DerivedHeader:
    return DerivedHeader(
        kind, f"9.{number}", "1.2", f"d{number}", "t1", "liver", "", "Lab", "2026-01-02", ("s1",)
    )


def derived_series(kind: ObjectKind, number: int) -> SeriesSummary:
    return replace(
        summary(f"d{number}"),
        kind=SeriesKind.OTHER,
        object_kind=kind,
        source_series=("s1",),
        modality="SEG",
        description="From elsewhere",
    )


def report() -> StructuredReport:
    place = ReportPlace("point", tuple(map(tuple, geometry().lps_of([(30, 31, 9)]))))  # type: ignore[arg-type]
    measured = ReportMeasurement("Diameter", 8.2, "mm", "left lung", "N1", "Nodule", (place,))
    items = (ReportItem(0, "Finding", "Nodule"), ReportItem(1, "Comment", "Follow up"))
    return StructuredReport(header(ObjectKind.REPORT, 2), "CT report", items, (measured,))


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    series = (
        replace(summary("s1", "t1"), time_points=3),
        derived_series(ObjectKind.SEGMENTATION, 1),
        derived_series(ObjectKind.REPORT, 2),
        derived_series(ObjectKind.DOCUMENT, 3),
    )
    fake.studies = [study("t1", "P-1", *series)]
    fake.objects = [
        DerivedSegmentation(header(ObjectKind.SEGMENTATION, 1), (segmentation(),)),
        report(),
        Document(header(ObjectKind.DOCUMENT, 3), "Letter", "application/pdf", 3),
    ]
    fake.sources = {f"d{n}": series[0] for n in (1, 2, 3)}
    fake.time_points = 3
    return fake


@pytest.fixture
def reading(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> Iterator[Application]:
    """Return the window with a 4-D series open and its objects listed."""
    running = Application(qt_application, Start(), lambda _start, _publish: engine)
    running.window.resize(1280, 800)
    running.show()
    running.window.activateWindow()
    wait_until(lambda: running.worklist.state.loaded, "the worklist")
    running.session.open_series(engine.studies[0].series[0])
    wait_until(lambda: len(running.derived.state.rows) == 3, "the objects")
    wait_until(lambda: running.tasks.pending == 0, "the time points")
    running.reading_area.setFocus()
    yield running
    running.window.close()
    running.window.deleteLater()


def press(application: Application, key: Qt.Key, modifier: Qt.KeyboardModifier = NONE) -> None:
    QTest.keyClick(application.window.focusWidget() or application.window, key, modifier)


def time_point(application: Application) -> int:
    assert application.reading.volume is not None
    return application.reading.volume.time_point


def pixels(widget: QWidget) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width() * 3].astype(int)


def test_keys_the_wheel_and_the_slider_change_the_time_point(reading: Application, wait_until: Wait) -> None:
    assert reading.playback_bar.isVisible() and reading.playback_bar.slider.maximum() == 2
    press(reading, Qt.Key.Key_Right, ALT)
    wait_until(lambda: time_point(reading) == 1, "t 2")
    view = reading.reading_area.viewport(Slot.AXIAL)
    middle = QPointF(view.rect().center())
    at = QPointF(view.mapToGlobal(middle.toPoint()))
    buttons, phase = Qt.MouseButton.NoButton, Qt.ScrollPhase.NoScrollPhase
    turn = QWheelEvent(middle, at, QPoint(), QPoint(0, -120), buttons, ALT, phase, False)
    number = reading.reading.number
    QApplication.sendEvent(view, turn)
    wait_until(lambda: time_point(reading) == 2, "t 3")
    assert reading.reading.number == number
    reading.playback_bar.slider.setFocus()
    press(reading, Qt.Key.Key_Home)
    wait_until(lambda: time_point(reading) == 0, "t 1")


def test_c_plays_and_says_how_fast(reading: Application, wait_until: Wait) -> None:
    seen: set[int] = set()
    reading.reading.subscribe(lambda: seen.add(time_point(reading)))
    press(reading, Qt.Key.Key_C)
    wait_until(lambda: seen == {0, 1, 2}, "all time points")
    wait_until(lambda: reading.playback.state.actual > 0, "the real rate")
    press(reading, Qt.Key.Key_C)
    assert not reading.playback.state.playing
    press(reading, Qt.Key.Key_Up, ALT)
    assert reading.playback.state.speed == 1.5


def test_an_object_of_the_worklist_is_drawn_over_its_source(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    view = reading.reading_area.viewport(Slot.AXIAL)
    plain = pixels(view)
    reading.session.open_series(engine.studies[0].series[1])
    wait_until(lambda: reading.derived.state.rows[0].shown, "the segments")
    assert reading.session.summary is not None and reading.session.summary.key == "s1"
    QTest.qWait(30)
    drawn = pixels(view)
    assert (drawn != plain).any()
    press(reading, Qt.Key.Key_S, SHIFT)
    assert reading.derived.state.hidden
    press(reading, Qt.Key.Key_S, SHIFT)
    np.testing.assert_array_equal(pixels(view), drawn)


def test_switches_of_the_section_work_with_the_space_bar(reading: Application, wait_until: Wait) -> None:
    tree = reading.objects_panel.tree
    assert reading.objects_panel.isVisible() and tree.topLevelItemCount() == 3
    tree.setFocus()
    tree.setCurrentItem(tree.topLevelItem(0))
    press(reading, Qt.Key.Key_Space)
    wait_until(lambda: reading.derived.state.rows[0].shown, "the segments")
    part = tree.topLevelItem(0).child(1)
    assert part.text(0) == "heart" and part.text(1).endswith("ml")
    tree.setCurrentItem(part)
    press(reading, Qt.Key.Key_Space)
    assert not reading.derived.state.rows[0].parts[1].visible
    press(reading, Qt.Key.Key_Return)
    i, j, k = reading.reading.intent.cursor_ijk
    assert segmentation().labels[k, j, i] == 2


def test_a_report_opens_beside_the_pictures_and_a_click_goes_to_the_place(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    reading.session.open_series(engine.studies[0].series[2])
    wait_until(lambda: reading.read_pane.isVisible(), "the report")
    QTest.qWait(30)
    assert reading.reading_area.isVisible() and reading.reading_area.width() > 250
    table = reading.read_pane.measurements
    line = table.topLevelItem(0)
    assert [line.text(n) for n in range(3)] == ["Diameter", "8.2 mm", "Nodule · left lung · N1"]
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, NONE, table.visualItemRect(line).center())
    assert reading.reading.intent.cursor_ijk == (30, 31, 9)
    press(reading, Qt.Key.Key_W, CTRL)
    assert not reading.read_pane.isVisible()


def test_pages_turn_and_grow_by_key(reading: Application, engine: FakeReviewEngine, wait_until: Wait) -> None:
    def drawn(page: int) -> bool:
        return any(call[0] == "render_page" and call[2] == page for call in engine.calls)

    reading.session.open_series(engine.studies[0].series[3])
    wait_until(lambda: drawn(0), "the first page")
    reading.read_pane.focus()
    current = reading.worklist.state.current_series
    press(reading, Qt.Key.Key_PageDown)
    wait_until(lambda: drawn(1), "the second page")
    assert reading.worklist.state.current_series == current, "page keys turn pages here, not studies"
    press(reading, Qt.Key.Key_Plus)
    assert reading.derived.state.pane is not None and reading.derived.state.pane.zoom == 1.25
    wait_until(lambda: reading.tasks.pending == 0, "the page")


def test_nothing_of_a_report_is_read_while_identity_is_hidden(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    reading.session.open_series(engine.studies[0].series[2])
    wait_until(lambda: reading.read_pane.isVisible(), "the report")
    reading.reading_area.setFocus()
    assert reading.read_pane.items.isVisible()
    press(reading, Qt.Key.Key_P)
    wait_until(lambda: reading.identity.hidden, "identity to be hidden")
    assert not reading.read_pane.items.isVisible() and not reading.read_pane.measurements.isVisible()
    press(reading, Qt.Key.Key_P)
    assert reading.read_pane.items.isVisible()


def test_an_object_without_its_pictures_says_so(
    reading: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.sources = {}
    reading.session.open_series(engine.studies[0].series[1])
    wait_until(lambda: reading.reading.volume is None, "the pictures to go")
    words = reading.reading_area._notice.accessibleName()
    assert "segmentation was made from isn't in the library" in words and "Import the study" in words
    assert not reading.playback_bar.isVisible()
    reading.session.open_series(engine.studies[0].series[2])
    wait_until(lambda: reading.read_pane.isVisible(), "the report, read alone")


def test_opening_marks_the_study_as_begun(reading: Application, engine: FakeReviewEngine) -> None:
    assert ("note_opened", "t1") in engine.calls
