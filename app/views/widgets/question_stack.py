"""Questions in the side panel: they wait there, and take the focus only when the reader led to them."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QLineEdit, QPushButton, QVBoxLayout, QWidget

from app.presenters.questions import Question, QuestionsPresenter, QuestionsState
from app.views.theme import Theme
from app.views.widgets.controls import Label, column, row

_ICONS = {"info": ("help", "accent"), "caution": ("warning", "caution"), "danger": ("warning", "danger")}
_LONGEST_SECRET = 200


class QuestionCard(QFrame):
    """One question with its buttons; Enter in the field gives the first answer."""

    def __init__(self, question: Question, theme: Theme, answer: Callable[[int, str, str], None]) -> None:
        super().__init__()
        self.setObjectName("notice")
        self.setProperty("level", question.level if question.level in ("caution", "danger") else "question")
        self.setAccessibleName(question.what)
        self._question = question
        self._icon = Label()
        self.secret = QLineEdit()
        self.secret.setEchoMode(QLineEdit.EchoMode.Password)
        self.secret.setMaxLength(_LONGEST_SECRET)
        self.secret.setAcceptDrops(False)
        self.secret.setAccessibleName("Password")
        self.secret.setPlaceholderText("Password")
        self.secret.setVisible(question.secret)
        self.buttons: dict[str, QPushButton] = {}
        words = column(Label(question.what, wrap=True), gap=4, margins=(0, 4, 0, 4))
        if question.why:
            words.addWidget(Label(question.why, "dim", wrap=True))
        words.addWidget(self.secret)
        for choice in question.choices:
            button = QPushButton(choice.title)
            button.setProperty("role", choice.role)
            button.setToolTip(choice.tip or choice.title)
            button.setAutoDefault(True)
            button.clicked.connect(
                lambda _=False, name=choice.id: answer(question.id, name, self.secret.text())
            )
            self.buttons[choice.id] = button
            words.addWidget(button)
        if question.choices:
            first = question.choices[0].id
            self.secret.returnPressed.connect(lambda: answer(question.id, first, self.secret.text()))
        layout = row(column(self._icon, 1, margins=(0, 4, 0, 0)), words, gap=8, margins=(8, 4, 8, 8))
        layout.setStretch(1, 1)
        self.setLayout(layout)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        name, token = _ICONS.get(self._question.level, _ICONS["info"])
        self._icon.setPixmap(theme.pixmap(name, token, scale=self.devicePixelRatioF()))

    def take_focus(self) -> None:
        """Put the focus on the field, else on the first answer."""
        target: QWidget | None = self.secret if self._question.secret else None
        if target is None:
            target = next(iter(self.buttons.values()), None)
        if target is not None:
            target.setFocus(Qt.FocusReason.ShortcutFocusReason)


class QuestionStack(QWidget):
    """The questions, oldest on top. ``make_room`` unfolds the panel when the reader goes to one.

    What had the focus before gets it back when the last question is answered.
    """

    def __init__(self, presenter: QuestionsPresenter, theme: Theme) -> None:
        super().__init__()
        self._presenter = presenter
        self._theme = theme
        self._focused = 0
        self._before: QWidget | None = None
        self.cards: dict[int, QuestionCard] = {}
        self.make_room: Callable[[], None] = lambda: None
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(8, 8, 8, 8)
        self._layout.setSpacing(8)
        presenter.attach(self)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme

    def show_state(self, state: QuestionsState) -> None:
        """Draw the questions; a card that is being filled in stays as it is."""
        asked = {question.id for question in state.questions}
        held = any(
            card.isAncestorOf(self.focusWidget()) for card in self.cards.values() if self.focusWidget()
        )
        for number in [n for n in self.cards if n not in asked]:
            card = self.cards.pop(number)
            self._layout.removeWidget(card)
            card.hide()
            card.deleteLater()
        for question in state.questions:
            if question.id not in self.cards:
                card = QuestionCard(question, self._theme, self._presenter.answer)
                self.cards[question.id] = card
                self._layout.addWidget(card)
        self.setVisible(bool(state.questions))
        self._move_focus(state, held)

    def _move_focus(self, state: QuestionsState, held: bool) -> None:
        if state.focus and state.focus != self._focused:
            if not held:
                self._before = self.window().focusWidget()
            self.make_room()
            self.cards[state.focus].take_focus()
        elif held and not state.focus and self._before is not None:
            self._before.setFocus(Qt.FocusReason.OtherFocusReason)
            self._before = None
        self._focused = state.focus
