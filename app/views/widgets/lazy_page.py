"""A page that is built when it is first looked at, so that a start doesn't wait for it."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget


class LazyPage(QWidget):
    """Calls ``build`` once, on the GUI thread, before it is shown for the first time."""

    def __init__(self, build: Callable[[], QWidget]) -> None:
        super().__init__()
        self._build = build
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._content: QWidget | None = None

    @property
    def built(self) -> bool:
        """Whether the content exists."""
        return self._content is not None

    @property
    def content(self) -> QWidget:
        """The content; it is built if need be."""
        if self._content is None:
            self._content = self._build()
            self._layout.addWidget(self._content)
        return self._content

    def showEvent(self, event: QShowEvent) -> None:
        self.content.show()
        super().showEvent(event)
