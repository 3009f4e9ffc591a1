"""A line that asks for one word, in its place: nothing modal, Enter answers, Esc leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QEvent, QStringListModel, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QCompleter, QLineEdit, QWidget

from app.views.theme import Theme
from app.views.widgets.controls import IconButton, Label, column, row


class _Answer(QLineEdit):
    """Tells Esc before the window's own keys hear it."""

    def __init__(self, left: Callable[[], None]) -> None:
        super().__init__()
        self._left = left

    def event(self, event: QEvent) -> bool:
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() == Qt.Key.Key_Escape
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._left()
            return
        super().keyPressEvent(event)


class InlineQuestion(QWidget):
    """Hidden until ``ask``; ``done`` gives the focus back where it was."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._answered: Callable[[str], None] = lambda _: None
        self._back: QWidget | None = None
        self._title = Label("", "dim")
        self.answer = _Answer(self.close_question)
        self.answer.returnPressed.connect(self._on_answered)
        self._words = QStringListModel(self)
        completer = QCompleter(self._words, self)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.answer.setCompleter(completer)
        leave = IconButton(theme, "close", "Leave this question (Esc)", compact=True)
        leave.clicked.connect(self.close_question)
        self.setLayout(column(self._title, row(self.answer, leave, gap=4), gap=4, margins=(12, 8, 8, 8)))
        self.hide()

    def ask(
        self,
        title: str,
        hint: str,
        known: Sequence[str],
        answered: Callable[[str], None],
        text: str = "",
    ) -> None:
        """Show the line and put the cursor into it."""
        self._answered = answered
        self._back = self.window().focusWidget()
        self._title.setText(title)
        self._words.setStringList(list(known))
        self.answer.setPlaceholderText(hint)
        self.answer.setAccessibleName(title)
        self.answer.setText(text)
        self.show()
        self.answer.setFocus(Qt.FocusReason.OtherFocusReason)
        self.answer.selectAll()

    def _on_answered(self) -> None:
        text = self.answer.text().strip()
        if text:
            self.close_question()
            self._answered(text)

    def close_question(self) -> None:
        """Leave without an answer; the focus goes back."""
        held = self.answer.hasFocus()
        self.hide()
        if held and self._back is not None:
            self._back.setFocus(Qt.FocusReason.OtherFocusReason)
        self._back = None
