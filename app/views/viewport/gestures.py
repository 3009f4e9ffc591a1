"""What the hands do on a viewport, told to the presenter."""

from __future__ import annotations

from enum import Enum, auto

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QMouseEvent, QWheelEvent

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import Slot, Tool

#: A press that moves less than this is a click.
CLICK_SLACK_PX = 4.0
WHEEL_NOTCH = 120
FAST_STEPS = 10
WHEEL_ZOOM = 1.15


class Drag(Enum):
    """What a pressed button does while the mouse moves."""

    WINDOW = auto()
    CROSSHAIR = auto()
    PAN = auto()
    ZOOM = auto()


class Gestures:
    """Mouse and wheel of one viewport: left window/level, middle pan, right zoom, wheel scroll."""

    def __init__(self, presenter: ReadingPresenter, slot: Slot) -> None:
        self._presenter = presenter
        self._slot = slot
        self._drag: Drag | None = None
        self._began = QPointF()
        self._last = QPointF()
        self._moved = False
        self._notches = 0.0

    @property
    def drag(self) -> Drag | None:
        """What is being dragged."""
        return self._drag

    def press(self, event: QMouseEvent, picture_position: tuple[float, float]) -> None:
        """A button went down over a position of the picture."""
        self._began = self._last = event.position()
        self._moved = False
        self._presenter.activate(self._slot)
        button = event.button()
        if button == Qt.MouseButton.LeftButton:
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            pointing = shift != (self._presenter.intent.tool is Tool.CROSSHAIR)
            self._drag = Drag.CROSSHAIR if pointing else Drag.WINDOW
            if pointing:
                self._presenter.point_at(self._slot, *picture_position)
        elif button == Qt.MouseButton.MiddleButton:
            self._drag = Drag.PAN
        elif button == Qt.MouseButton.RightButton:
            self._drag = Drag.ZOOM

    def move(self, event: QMouseEvent, picture_position: tuple[float, float], size: tuple[int, int]) -> None:
        """The mouse moved with a button held."""
        step = event.position() - self._last
        if not self._moved and (event.position() - self._began).manhattanLength() < CLICK_SLACK_PX:
            return
        self._moved, self._last = True, event.position()
        if self._drag is Drag.WINDOW:
            self._presenter.drag_window(step.x(), step.y())
        elif self._drag is Drag.CROSSHAIR:
            self._presenter.point_at(self._slot, *picture_position)
        elif self._drag is Drag.PAN:
            self._presenter.pan(self._slot, step.x(), step.y(), size)
        elif self._drag is Drag.ZOOM:
            at = (self._began.x(), self._began.y())
            self._presenter.drag_zoom(self._slot, step.y(), size, at)

    def release(self) -> bool:
        """A button went up; returns whether it was a right click without a drag (a menu is wanted)."""
        menu = self._drag is Drag.ZOOM and not self._moved
        self._drag = None
        return menu

    def wheel(self, event: QWheelEvent, size: tuple[int, int]) -> None:
        """The wheel turned: one picture per notch, Shift ten, Alt one time point, Ctrl zooms.

        No momentum, no skipped notch.
        """
        delta = event.angleDelta().y() or event.angleDelta().x()
        modifiers = event.modifiers()
        self._presenter.activate(self._slot)
        if modifiers & Qt.KeyboardModifier.ControlModifier:
            at = (event.position().x(), event.position().y())
            self._presenter.zoom(self._slot, WHEEL_ZOOM ** (delta / WHEEL_NOTCH), size, at)
            return
        if (delta > 0) != (self._notches > 0):
            self._notches = 0.0
        self._notches += delta / WHEEL_NOTCH
        whole = int(self._notches)
        self._notches -= whole
        if whole and modifiers & Qt.KeyboardModifier.AltModifier:
            self._presenter.time_step(-whole)
        elif whole:
            steps = FAST_STEPS if modifiers & Qt.KeyboardModifier.ShiftModifier else 1
            self._presenter.scroll(-whole * steps, self._slot)
