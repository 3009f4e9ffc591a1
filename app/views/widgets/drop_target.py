"""The whole window as a target for files: seen while something is dragged over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QEvent, QMimeData, QObject, QRectF, Qt, QTimer
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QFont,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QLineEdit, QTextEdit, QWidget

from app.views.theme import Theme

_INSET = 12
_VEIL = 236
_TITLE, _HINT = (
    "Drop to import",
    "Folders, CDs (DICOMDIR), ZIPs, files. What you are reading stays on screen.",
)


class DropTarget(QWidget):
    """Covers the window during a drag and takes the drop; ``take`` gets the local files.

    Text fields would take the name of a file for text, so that they don't take drops at all.
    """

    def __init__(self, window: QWidget, theme: Theme, take: Callable[[list[Path]], None]) -> None:
        super().__init__(window)
        self._theme = theme
        self._take = take
        self.setAcceptDrops(True)
        self.setMouseTracking(True)
        self.setAccessibleName(_TITLE)
        self.hide()
        window.setAcceptDrops(True)
        window.installEventFilter(self)
        for field in (*window.findChildren(QLineEdit), *window.findChildren(QTextEdit)):
            field.setAcceptDrops(False)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Cover the window as soon as files are dragged into it, and grow with it."""
        if watched is self.parent():
            if isinstance(event, QDragEnterEvent) and _may_take(event):
                _take_as_copy(event)
                self._cover()
                return True
            if event.type() == QEvent.Type.Drop and isinstance(event, QDropEvent):
                self.dropEvent(event)
                return True
            if event.type() == QEvent.Type.Resize and not self.isHidden():
                self._cover()
        return super().eventFilter(watched, event)

    def _cover(self) -> None:
        self.setGeometry(self.window().rect())
        self.show()
        self.raise_()

    def mouseMoveEvent(self, _: QMouseEvent) -> None:
        # No mouse moves here during a drag: whoever dragged is gone without a word.
        self.hide()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if _may_take(event):
            _take_as_copy(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        _take_as_copy(event)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.hide()
        super().dragLeaveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        files = files_of(event.mimeData())
        self.hide()
        _take_as_copy(event)
        if files:
            # The drag's source waits until this returns.
            QTimer.singleShot(0, lambda: self._take(files))

    def paintEvent(self, _: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), self._theme.qcolor("panel", _VEIL))
        pen = QPen(self._theme.qcolor("accent"), 2.0, Qt.PenStyle.DashLine)
        painter.setPen(pen)
        frame = QRectF(self.rect()).adjusted(_INSET, _INSET, -_INSET, -_INSET)
        painter.drawRoundedRect(frame, self._theme.size("radius") * 2, self._theme.size("radius") * 2)
        size = self._theme.size("icon_large")
        picture = self._theme.pixmap("drop", "accent", size, self.devicePixelRatioF())
        middle = frame.center()
        painter.drawPixmap(round(middle.x() - size / 2), round(middle.y() - size - 12), picture)
        painter.setPen(self._theme.qcolor("text"))
        painter.setFont(self._theme.font("font_title", QFont.Weight.DemiBold))
        title = QRectF(frame.left(), middle.y(), frame.width(), 28)
        painter.drawText(title, int(Qt.AlignmentFlag.AlignCenter), _TITLE)
        painter.setPen(self._theme.qcolor("text_dim"))
        painter.setFont(self._theme.font())
        painter.drawText(title.translated(0, 28), int(Qt.AlignmentFlag.AlignCenter), _HINT)


def _may_take(event: QDropEvent) -> bool:
    return bool(event.possibleActions() & Qt.DropAction.CopyAction) and bool(files_of(event.mimeData()))


def _take_as_copy(event: QDropEvent) -> None:
    """Accept, as a copy whatever is proposed: after a move, a file manager deletes what was dragged."""
    event.setDropAction(Qt.DropAction.CopyAction)
    event.accept()


def files_of(data: QMimeData) -> list[Path]:
    """Return the local files of a drag."""
    return [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile() and url.toLocalFile()]
