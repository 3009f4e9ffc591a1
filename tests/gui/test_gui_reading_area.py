"""The reading area as a real window: what is painted, and what mouse and wheel do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu, QWidget

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import Slot
from app.views.reading_area import ReadingArea
from app.views.theme import Theme
from core.domain.window import Window
from tests.fakes.pictures import explanation_of, segmentation_of, stored_as

pytestmark = pytest.mark.gui

Wait = Callable[..., None]
LEFT, MIDDLE, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton, Qt.MouseButton.RightButton


@pytest.fixture
def area(qt_application: object) -> Iterator[ReadingArea]:
    presenter = ReadingPresenter()
    window = ReadingArea(presenter, Theme.load("dark"))
    window.resize(1000, 700)
    window.show()
    assert QTest.qWaitForWindowExposed(window)
    yield window
    window.shutdown()
    window.close()
    window.deleteLater()


def presenter_of(area: ReadingArea) -> ReadingPresenter:
    return area._presenter


def opened(area: ReadingArea) -> ReadingPresenter:
    presenter = presenter_of(area)
    presenter.show_volume(stored_as("LPS"))
    QTest.qWait(20)
    return presenter


def drag(
    widget: QWidget, button: Qt.MouseButton, dx: int, dy: int, keys: Qt.KeyboardModifier | None = None
) -> None:
    keys = keys or Qt.KeyboardModifier.NoModifier
    start = widget.rect().center()
    QTest.mousePress(widget, button, keys, start)
    for share in (0.5, 1.0):
        at = QPointF(start) + QPointF(dx, dy) * share
        event_position = at.toPoint()
        QTest.mouseMove(widget, event_position)
        QTest.qWait(15)
    QTest.mouseRelease(widget, button, keys, start + QPoint(dx, dy))


def wheel(
    widget: QWidget, notches: float, keys: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    at = QPointF(widget.rect().center())
    event = QWheelEvent(
        at,
        QPointF(widget.mapToGlobal(at.toPoint())),
        QPoint(),
        QPoint(0, round(120 * notches)),
        Qt.MouseButton.NoButton,
        keys,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def pixels(widget: QWidget) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width() * 3].reshape(image.height(), image.width(), 3).astype(int)


def test_the_empty_area_says_what_to_do(area: ReadingArea) -> None:
    assert "Ctrl+O" in area._notice.accessibleName()
    assert pixels(area).std() > 1


def test_the_picture_shows_the_left_bar_where_the_letter_l_stands(area: ReadingArea) -> None:
    presenter = opened(area)
    presenter.set_window(Window(50, 100))
    presenter.show_crosshair(False)
    presenter.toggle_texts()
    view = area.viewport(Slot.AXIAL)
    placement = view.placement()  # type: ignore[attr-defined]
    x, y = (round(v) for v in placement.to_viewport(13, 7))
    painted = pixels(view)
    assert painted[y, x].min() > 200
    assert painted[y, round(placement.to_viewport(4, 7)[0])].max() < 60


def test_outline_and_heat_appear_and_go(area: ReadingArea) -> None:
    presenter = opened(area)
    view = area.viewport(Slot.AXIAL)
    plain = pixels(view)
    presenter.set_segmentation(segmentation_of(presenter.volume))  # type: ignore[arg-type]
    outlined = pixels(view)
    assert np.abs(outlined - plain).max() > 40
    presenter.set_heatmap(explanation_of(presenter.volume))  # type: ignore[arg-type]
    assert np.abs(pixels(view) - outlined).max() > 40
    presenter.hold_overlays(True)
    np.testing.assert_array_equal(pixels(view), plain)


def test_the_wheel_scrolls_whole_notches_and_ctrl_zooms(area: ReadingArea) -> None:
    presenter = opened(area)
    view = area.viewport(Slot.AXIAL)
    k = presenter.intent.cursor_ijk[2]
    wheel(view, -1)
    assert presenter.intent.cursor_ijk[2] == k - 1
    wheel(view, 0.5)
    assert presenter.intent.cursor_ijk[2] == k - 1
    wheel(view, 0.5)
    assert presenter.intent.cursor_ijk[2] == k
    wheel(view, 2, Qt.KeyboardModifier.ControlModifier)
    assert presenter.intent.camera(Slot.AXIAL).zoom == pytest.approx(1.15**2)
    wheel(area.viewport(Slot.CORONAL), -1)
    assert presenter.intent.active is Slot.CORONAL


def test_left_drag_windows_middle_pans_and_right_zooms(area: ReadingArea) -> None:
    presenter = opened(area)
    view = area.viewport(Slot.AXIAL)
    width = presenter.intent.window.width
    drag(view, LEFT, 60, 0)
    assert presenter.intent.window.width > width
    drag(view, MIDDLE, 40, 20)
    assert presenter.intent.camera(Slot.AXIAL).pan_x == pytest.approx(40 / view.width(), abs=0.01)
    drag(view, RIGHT, 0, -60)
    assert presenter.intent.camera(Slot.AXIAL).zoom > 1.2
    assert not QApplication.activePopupWidget()


def test_shift_and_the_crosshair_tool_point(area: ReadingArea) -> None:
    presenter = opened(area)
    view = area.viewport(Slot.AXIAL)
    before = presenter.intent.window
    QTest.mouseClick(
        view, LEFT, Qt.KeyboardModifier.ShiftModifier, QPoint(view.width() // 2 - 60, view.height() // 2)
    )
    assert presenter.intent.cursor_ijk[0] < 9 and presenter.intent.window == before
    presenter.toggle_crosshair()
    QTest.mouseClick(
        view, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(view.width() // 2 + 60, view.height() // 2)
    )
    assert presenter.intent.cursor_ijk[0] > 9
    assert view.cursor().shape() == Qt.CursorShape.CrossCursor


def test_a_right_click_opens_the_menu_with_presets(area: ReadingArea, wait_until: Wait) -> None:
    presenter = opened(area)
    QTest.mouseClick(area.viewport(Slot.AXIAL), RIGHT)
    wait_until(lambda: QApplication.activePopupWidget() is not None, "the menu")
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    texts = [action.text() for action in menu.actions()]
    assert "Bone\t4" in texts and "Invert" in texts and "Copy picture" in texts
    next(action for action in menu.actions() if action.text().startswith("Bone")).trigger()
    assert presenter.intent.window.name == "Bone"
    menu.close()


def test_a_double_click_maximises_and_restores_without_touching_the_window(area: ReadingArea) -> None:
    presenter = opened(area)
    view = area.viewport(Slot.CORONAL)
    before = presenter.intent.window
    QTest.mouseDClick(view, LEFT)
    QTest.qWait(30)
    assert view.width() > 900 and not area.viewport(Slot.AXIAL).isVisible()
    QTest.mouseDClick(view, LEFT)
    QTest.qWait(30)
    assert view.width() < 600 and area.viewport(Slot.AXIAL).isVisible()
    assert presenter.intent.window == before


def test_the_value_under_the_mouse_is_shown(area: ReadingArea) -> None:
    opened(area)
    view = area.viewport(Slot.AXIAL)
    x, y = view.placement().to_viewport(13, 7)  # type: ignore[attr-defined]
    QTest.mouseMove(view, QPoint(5, 5))
    QTest.mouseMove(view, QPoint(round(x), round(y)))
    QTest.qWait(20)
    assert view._readout == "100 HU"  # type: ignore[attr-defined]


def test_viewports_of_a_layout_share_the_area_evenly(area: ReadingArea) -> None:
    presenter = opened(area)
    sizes = [area.viewport(slot).size() for slot in (Slot.AXIAL, Slot.CORONAL, Slot.SAGITTAL, Slot.SCENE)]
    assert max(s.width() for s in sizes) - min(s.width() for s in sizes) <= 2
    assert max(s.height() for s in sizes) - min(s.height() for s in sizes) <= 2
    presenter.set_layout("mpr")
    QTest.qWait(30)
    assert area.viewport(Slot.AXIAL).width() == pytest.approx(2 * area.viewport(Slot.CORONAL).width(), abs=6)


def test_vtk_is_loaded_by_the_first_3d_view_which_turns_with_the_mouse(
    area: ReadingArea, wait_until: Wait
) -> None:
    presenter = opened(area)
    view = area.viewport(Slot.SCENE)
    QTest.mouseClick(view, LEFT)
    wait_until(lambda: view._image is not None, "the first 3-D picture", 60.0)  # type: ignore[attr-defined]
    assert presenter.intent.scene_wanted
    before = view.viewpoint  # type: ignore[attr-defined]
    drag(view, LEFT, 50, 10)
    assert view.viewpoint != before  # type: ignore[attr-defined]
    wait_until(
        lambda: view._picture.look.quick is False and view._picture.look.view == view.viewpoint,
        "the fine picture",
    )  # type: ignore[attr-defined]


def test_a_picture_of_the_previous_series_is_never_shown(area: ReadingArea, wait_until: Wait) -> None:
    presenter = opened(area)
    presenter.want_scene()
    view = area.viewport(Slot.SCENE)
    wait_until(lambda: view._image is not None, "the first 3-D picture", 60.0)  # type: ignore[attr-defined]
    from app.views.volume3d.render_thread import Picture

    stale = view._picture  # type: ignore[attr-defined]
    presenter.begin_series(_summary(), 9)
    presenter.show_volume(stored_as("RAI"), 9)
    assert view._image is None  # type: ignore[attr-defined]
    view._show_picture(Picture(stale.pixels, stale.look, stale.content))  # type: ignore[attr-defined]
    assert view._image is None  # type: ignore[attr-defined]


def _summary() -> object:
    from core.domain.study import SeriesKind, SeriesSummary

    return SeriesSummary(
        "k", "1.2.840.1", "1.2", "CT", "Thorax", "CHEST", 10, 10, SeriesKind.VOLUME, (10, 14, 18), None, True
    )
