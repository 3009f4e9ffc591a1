"""Engines on other computers in the settings: connect one, test it, change it, remove it, and what is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QPoint, QSignalBlocker, QTimer
from PySide6.QtWidgets import QGridLayout, QLineEdit, QListWidget, QPushButton, QScrollArea, QWidget

from app.presenters.ports_remote import EngineForm, EngineOffer
from app.presenters.remote_engines import SENT, RemoteEnginesPresenter, RemoteEnginesState
from app.views.widgets.controls import Label, column, plain_tip, row

_WIDTH = 320
_LINE_HEIGHT, _LINES, _FRAME = 22, 3, 4
_LONGEST_NAME, _LONGEST_URL, _LONGEST_TOKEN, _LONGEST_PATH = 40, 300, 512, 1000
_NEW_TOKEN, _KEPT_TOKEN = "from the server's administrator", "kept; enter another to replace it"
ChooseFile = Callable[[Callable[[Path], None]], None]


class EngineSection(QWidget):
    """Draws the connected servers; the form for one unfolds when it is asked for.

    Parameters
    ----------
    choose_ca : callable
        Lets the reader choose a certificate file and passes it on.
    """

    def __init__(self, presenter: RemoteEnginesPresenter, choose_ca: ChooseFile) -> None:
        super().__init__()
        self._presenter = presenter
        self._engines: tuple[EngineOffer, ...] = ()
        self._busy = False
        self._sent_form = False
        self.list = QListWidget()
        self.list.setAccessibleName("Connected engines")
        self.list.setMinimumWidth(_WIDTH)
        self.list.currentRowChanged.connect(lambda _: self._update_buttons())
        self.words = Label("", "dim", wrap=True)
        self.words.setMinimumWidth(_WIDTH)
        self._sent = Label(SENT, "faint", wrap=True)
        self.add = _button("Connect an engine…", "Let a server of your house run its model", self._open_empty)
        self.test = _button(
            "Test",
            "Ask the chosen server whether it is ready, knows the token and has the listed model",
            lambda: presenter.test(self._chosen_name()),
        )
        self.change = _button(
            "Change…", "Enter the chosen server anew, or take the model that it has now", self._open_chosen
        )
        self.remove = _button(
            "Remove",
            "Forget the chosen server and its token; results that it made stay",
            lambda: presenter.remove(self._chosen_name()),
        )
        self.form = self._make_form(choose_ca)
        self._acts = QWidget()
        self._acts.setLayout(row(self.add, self.test, self.change, self.remove, 1, gap=4))
        self.setLayout(
            column(
                Label("Engine on another computer", "section"),
                self.list,
                self.form,
                self.words,
                self._acts,
                self._sent,
                1,
                gap=4,
            )
        )
        self.form.hide()
        presenter.attach(self)

    def _make_form(self, choose_ca: ChooseFile) -> QWidget:
        self.name = _field("Name", "reading-room", _LONGEST_NAME)
        self.url = _field("Address", "https://reading-room.example:8000", _LONGEST_URL)
        self.token = _field("Token", _NEW_TOKEN, _LONGEST_TOKEN)
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self.ca_file = _field("CA file", "of your house, if any", _LONGEST_PATH)
        self.ca_file.setToolTip("PEM file of the authority that signed the server's certificate")
        choose = _button(
            "Choose…", "Choose the PEM file", lambda: choose_ca(lambda file: self.ca_file.setText(str(file)))
        )
        self.connect_button = _button(
            "Connect", "Ask the server for its model and list it beside those of this computer", self._connect
        )
        self.connect_button.setProperty("role", "primary")
        self.back = _button("Back", "Leave everything as it is", lambda: self._unfold(False))
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        for line, field in enumerate((self.name, self.url, self.token)):
            grid.addWidget(Label(field.accessibleName(), "dim"), line, 0)
            grid.addWidget(field, line, 1, 1, 2)
        grid.addWidget(Label("CA file", "dim"), 3, 0)
        grid.addWidget(self.ca_file, 3, 1)
        grid.addWidget(choose, 3, 2)
        form = QWidget()
        form.setLayout(column(grid, row(self.connect_button, self.back, 1, gap=4), gap=4))
        return form

    def show_state(self, state: RemoteEnginesState) -> None:
        """Draw the state; what the reader types stays."""
        answered = self._busy and not state.busy
        self._busy = state.busy
        if state.engines != self._engines:
            self._fill(state)
        self.words.setText(state.words)
        self.words.set_role(state.level)
        if answered and self._sent_form:
            self._sent_form = False
            if state.level != "danger":
                self._unfold(False)
        self._update_buttons()
        if answered:
            QTimer.singleShot(0, self, self._show_answer)

    def _fill(self, state: RemoteEnginesState) -> None:
        chosen = self.name.text().strip() if self._sent_form else self._chosen_name()
        self._engines = state.engines
        with QSignalBlocker(self.list):
            self.list.clear()
            for engine in state.engines:
                self.list.addItem(f"{engine.name}: {engine.model}")
                self.list.item(self.list.count() - 1).setToolTip(plain_tip(f"{engine.model}\n{engine.url}"))
            names = [engine.name for engine in state.engines]
            self.list.setCurrentRow(names.index(chosen) if chosen in names else 0)
        self.list.setFixedHeight(_FRAME + _LINE_HEIGHT * min(max(len(names), 1), _LINES))

    def _open_empty(self) -> None:
        for field in (self.name, self.url, self.token, self.ca_file):
            field.clear()
        self.token.setPlaceholderText(_NEW_TOKEN)
        self._unfold(True)

    def _open_chosen(self) -> None:
        """Put the chosen server into the form; its token is kept, not shown."""
        place = self.list.currentRow()
        if not 0 <= place < len(self._engines):
            return
        engine = self._engines[place]
        self.name.setText(engine.name)
        self.url.setText(engine.url)
        self.ca_file.setText(engine.ca_file)
        self.token.clear()
        self.token.setPlaceholderText(_KEPT_TOKEN)
        self._unfold(True)

    def _unfold(self, on: bool) -> None:
        self.form.setVisible(on)
        self._update_buttons()
        if on:
            self.name.setFocus()
            QTimer.singleShot(0, self, self._show_whole)

    def _show_answer(self) -> None:
        """Scroll the settings to what a server answered."""
        if (scroll := self._scroll()) is not None:
            scroll.ensureWidgetVisible(self.words, 0, 2 * _LINE_HEIGHT)

    def _show_whole(self) -> None:
        """Scroll the settings so that the section begins at their top."""
        scroll = self._scroll()
        content = None if scroll is None else scroll.widget()
        if scroll is not None and content is not None:
            scroll.verticalScrollBar().setValue(self.mapTo(content, QPoint(0, 0)).y())

    def _scroll(self) -> QScrollArea | None:
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        return parent

    def _chosen_name(self) -> str:
        place = self.list.currentRow()
        return self._engines[place].name if 0 <= place < len(self._engines) else ""

    def _connect(self) -> None:
        form = EngineForm(
            self.name.text().strip(),
            self.url.text().strip(),
            self.token.text().strip(),
            self.ca_file.text().strip(),
        )
        self.token.clear()
        self._sent_form = bool(form.name and form.url)
        self._presenter.connect(form)

    def _update_buttons(self) -> None:
        known, unfolded = bool(self._engines), not self.form.isHidden()
        self.list.setVisible(known)
        self._acts.setVisible(not unfolded)
        self._sent.setVisible(known or unfolded)
        self.add.setText("Add…" if known else "Connect an engine…")
        chosen = bool(self._chosen_name()) and not self._busy
        for button in (self.test, self.change, self.remove):
            button.setVisible(known)
            button.setEnabled(chosen)
        self.add.setEnabled(not self._busy)
        self.connect_button.setEnabled(not self._busy)


def _button(text: str, tip: str, pressed: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda: pressed())
    return button


def _field(name: str, example: str, longest: int) -> QLineEdit:
    field = QLineEdit()
    field.setAccessibleName(name)
    field.setPlaceholderText(example)
    field.setMaxLength(longest)
    return field
