"""A viewport that shows one plane."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QEnterEvent, QHelpEvent, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import Slot, Tool, ViewportState
from app.views.theme import Theme
from app.views.viewport.annotate import Annotator
from app.views.viewport.base_picture import BasePicture
from app.views.viewport.gestures import Drag, Gestures
from app.views.viewport_text import draw_notice
from core.render.placement import Placement, place

_CURSORS = {
    Drag.PAN: Qt.CursorShape.ClosedHandCursor,
    Drag.ZOOM: Qt.CursorShape.SizeVerCursor,
    Drag.WINDOW: Qt.CursorShape.SizeAllCursor,
    Drag.CROSSHAIR: Qt.CursorShape.CrossCursor,
}


class SliceView(QWidget):
    """Paints a ``ViewportState`` and tells the presenter what the mouse does.

    ``menu_requested`` carries the global position of a right click; ``painted`` is emitted at the end of
    each paint event, for measurements.
    """

    menu_requested = Signal(QPoint)
    painted = Signal()

    def __init__(
        self, slot: Slot, presenter: ReadingPresenter, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._slot = slot
        self._presenter = presenter
        self._theme = theme
        self._state = ViewportState(slot)
        self._readout = ""
        self._base = BasePicture(theme.qcolor("picture"))
        self._annotator = Annotator(theme)
        self._gestures = Gestures(presenter, slot)
        self.setMouseTracking(True)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.setMinimumSize(QSize(96, 96))
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setAccessibleName(f"{slot.value} viewport")

    @property
    def state(self) -> ViewportState:
        """What is shown."""
        return self._state

    def set_state(self, state: ViewportState) -> None:
        """Show a state; painting happens once, when Qt next paints."""
        self._state = state
        self._update_cursor()
        self.update()

    def set_readout(self, text: str) -> None:
        """Show the value under the cursor."""
        if text != self._readout:
            self._readout = text
            self.update()

    def placement(self) -> Placement | None:
        """Where the picture lies, in device-independent pixels."""
        if self._state.grid is None:
            return None
        return place(self._state.grid, self._size(), self._state.camera)

    def sizeHint(self) -> QSize:
        return QSize(400, 400)

    def paintEvent(self, event: QPaintEvent) -> None:
        ratio = self.devicePixelRatioF()
        size = (max(1, round(self.width() * ratio)), max(1, round(self.height() * ratio)))
        painter = QPainter(self)
        image = self._base.image(self._state, size, ratio)
        area = QRectF(self.rect())
        painter.drawImage(area, image)
        placement = self.placement()
        if placement is not None:
            self._annotator.draw(painter, self._state, placement, area, self._readout)
        elif self._state.notice is not None:
            draw_notice(painter, self._theme, self._state.notice, area)
        painter.end()
        self.painted.emit()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._gestures.press(event, self._picture_position(event))
        self._update_cursor()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        position = self._picture_position(event)
        if self._gestures.drag is not None:
            self._gestures.move(event, position, self._size())
        self._presenter.hover(self._slot, *position)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._gestures.release():
            self.menu_requested.emit(event.globalPosition().toPoint())
        self._update_cursor()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._gestures.release()
            self._presenter.maximise(self._slot)

    def wheelEvent(self, event: QWheelEvent) -> None:
        self._gestures.wheel(event, self._size())
        event.accept()

    def enterEvent(self, event: QEnterEvent) -> None:
        self._update_cursor()

    def leaveEvent(self, event: QEvent) -> None:
        self._presenter.leave(self._slot)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            self._show_badges(event)
            return True
        return super().event(event)

    def _show_badges(self, event: QHelpEvent) -> None:
        """Explain the badges when the mouse rests in their corner."""
        badges = self._state.badges
        if badges and event.pos().x() > self.width() * 0.6 and event.pos().y() < 30 * len(badges) + 12:
            QToolTip.showText(event.globalPos(), "\n".join(f"{b.text}: {b.why}" for b in badges), self)
        else:
            QToolTip.hideText()

    def _size(self) -> tuple[int, int]:
        return max(1, self.width()), max(1, self.height())

    def _picture_position(self, event: QMouseEvent) -> tuple[float, float]:
        placement = self.placement()
        if placement is None:
            return -1.0, -1.0
        return placement.to_picture(event.position().x(), event.position().y())

    def _update_cursor(self) -> None:
        drag = self._gestures.drag
        idle = (
            Qt.CursorShape.CrossCursor if self._state.tool is Tool.CROSSHAIR else Qt.CursorShape.ArrowCursor
        )
        shape = _CURSORS[drag] if drag is not None else idle
        if self.cursor().shape() != shape:
            self.setCursor(shape)
