"""The 3-D viewport: offers to build itself, then shows pictures that a render thread delivers."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import SceneState, Slot
from app.views.theme import Theme


class SceneView(QWidget):
    """Paints a ``SceneState``."""

    menu_requested = Signal(QPoint)
    painted = Signal()

    def __init__(self, presenter: ReadingPresenter, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._presenter = presenter
        self._theme = theme
        self._state = SceneState()
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.setMinimumSize(QSize(96, 96))
        self.setAccessibleName("3-D viewport")

    def set_state(self, state: SceneState) -> None:
        """Show a state."""
        self._state = state
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._theme.qcolor("picture"))
        painter.setPen(self._theme.qcolor("text_dim"))
        painter.drawText(QRectF(self.rect()), Qt.AlignmentFlag.AlignCenter, "Click to build the 3-D view")
        painter.end()
        self.painted.emit()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._presenter.activate(Slot.SCENE)
        self._presenter.want_scene()
