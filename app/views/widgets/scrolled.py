"""Pages that scroll only where they must."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLayout, QScrollArea, QWidget


class Page(QWidget):
    """A page that gives way as far as its parts do: a scroll area else takes room for all that they wish."""

    def __init__(self, layout: QLayout | None = None) -> None:
        super().__init__()
        self.setObjectName("plain")
        if layout is not None:
            self.setLayout(layout)

    def heightForWidth(self, width: int) -> int:
        layout = self.layout()
        return layout.minimumHeightForWidth(width) if layout is not None else -1


def scrolled(page: QWidget) -> QScrollArea:
    """Return a page that scrolls where there is too little room for it."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(page)
    return area
