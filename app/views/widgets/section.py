"""A titled part of a side panel that folds away."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QFrame, QSizePolicy, QVBoxLayout, QWidget

from app.views.theme import Theme
from app.views.widgets.controls import IconButton, Label, row


class _Header(QFrame):
    """The title line; a click anywhere folds."""

    pressed = Signal()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self.pressed.emit()


class Section(QWidget):
    """Header with title, count and buttons; content below. ``folded`` is remembered by the window."""

    folded_changed = Signal()

    def __init__(self, theme: Theme, title: str, content: QWidget, *buttons: QWidget) -> None:
        super().__init__()
        self._content = content
        self._chevron = IconButton(theme, "chevron-down", f"Fold {title}", compact=True)
        self._chevron.clicked.connect(self.toggle)
        self._count = Label("", "faint")
        header = _Header()
        header.setObjectName("panelHeader")
        header.setFixedHeight(theme.size("header"))
        header.setLayout(
            row(self._chevron, Label(title, "section"), self._count, 1, *buttons, gap=4, margins=(4, 0, 8, 0))
        )
        header.pressed.connect(self.toggle)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(header)
        layout.addWidget(content, 1)
        self._header_height = theme.size("header")

    @property
    def folded(self) -> bool:
        """Whether the content is hidden."""
        return self._content.isHidden()

    def set_folded(self, folded: bool) -> None:
        """Hide or show the content."""
        self._content.setVisible(not folded)
        self._chevron.set_icon("chevron-right" if folded else "chevron-down")
        policy = QSizePolicy.Policy.Fixed if folded else QSizePolicy.Policy.Preferred
        self.setSizePolicy(QSizePolicy.Policy.Preferred, policy)
        self.setMaximumHeight(self._header_height if folded else 16777215)
        self.folded_changed.emit()

    def toggle(self) -> None:
        """Fold or unfold."""
        self.set_folded(not self.folded)

    def set_count(self, words: str) -> None:
        """Show a count beside the title."""
        self._count.setText(words)


class Accordion:
    """While there is little room, opening one of some sections folds the others."""

    def __init__(self, sections: list[Section]) -> None:
        self._sections = sections
        self._compact = False
        for section in sections:
            section.folded_changed.connect(lambda section=section: self._on_changed(section))

    def set_compact(self, compact: bool) -> None:
        """Say whether there is little room; the first open section then stays open."""
        if compact == self._compact:
            return
        self._compact = compact
        unfolded = [section for section in self._sections if not section.folded]
        if compact:
            for section in unfolded[1:]:
                section.set_folded(True)
        else:
            for section in self._sections:
                section.set_folded(False)

    def _on_changed(self, changed: Section) -> None:
        if not self._compact or changed.folded:
            return
        for section in self._sections:
            if section is not changed and not section.folded:
                section.set_folded(True)
