"""A scroll area that is as high as its content, up to a limit."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QScrollArea, QSizePolicy, QWidget


class ContentHeight(QScrollArea):
    """As high as its content, up to ``highest`` pixels; scrolls beyond it and when there is no room."""

    def __init__(self, content: QWidget, highest: int, lowest: int) -> None:
        super().__init__()
        self._highest, self._lowest = highest, lowest
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(content)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def sizeHint(self) -> QSize:
        """Return the height of the content, not above the limit."""
        content = self.widget()
        if content is None:
            return QSize(0, 0)
        height = content.heightForWidth(self.viewport().width()) if content.hasHeightForWidth() else -1
        wanted = max(height, content.minimumSizeHint().height())
        return QSize(0, min(wanted, self._highest))

    def minimumSizeHint(self) -> QSize:
        """Return the least height that is useful."""
        return QSize(0, min(self.sizeHint().height(), self._lowest))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Ask for another height when the content wraps otherwise."""
        super().resizeEvent(event)
        self.updateGeometry()
