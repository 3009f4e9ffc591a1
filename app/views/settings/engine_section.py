"""Engines on other computers in the settings: connect one, test it, remove it, and what is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QSignalBlocker
from PySide6.QtWidgets import QGridLayout, QLineEdit, QListWidget, QPushButton, QWidget

from app.presenters.ports_remote import EngineForm, EngineOffer
from app.presenters.remote_engines import SENT, RemoteEnginesPresenter, RemoteEnginesState
from app.views.widgets.controls import Label, column, plain_tip, row

_WIDTH = 400
_LIST_HEIGHT = 56
_LONGEST_NAME, _LONGEST_URL, _LONGEST_TOKEN, _LONGEST_PATH = 40, 300, 512, 1000
ChooseFile = Callable[[Callable[[Path], None]], None]


class EngineSection(QWidget):
    """Draws the connected servers and the form for another one.

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
        self.list = QListWidget()
        self.list.setAccessibleName("Connected engines")
        self.list.setFixedHeight(_LIST_HEIGHT)
        self.list.currentRowChanged.connect(self._show_chosen)
        self.name = _field("Name", "reading-room", _LONGEST_NAME)
        self.url = _field("Address", "https://reading-room.example:8000", _LONGEST_URL)
        self.token = _field("Token", "from the server's administrator", _LONGEST_TOKEN)
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self.ca_file = _field("CA file", "only if your house has an authority of its own", _LONGEST_PATH)
        choose = QPushButton("Choose…")
        choose.clicked.connect(lambda: choose_ca(lambda file: self.ca_file.setText(str(file))))
        self.connect_button = QPushButton("Connect")
        self.connect_button.setToolTip(
            "Ask the server for its model and list it beside those of this computer"
        )
        self.connect_button.clicked.connect(self._connect)
        self.test = QPushButton("Test")
        self.test.setToolTip(
            "Ask the chosen server whether it is ready, knows the token and has the listed model"
        )
        self.test.clicked.connect(lambda: presenter.test(self._chosen_name()))
        self.remove = QPushButton("Remove")
        self.remove.setToolTip("Forget the chosen server and its token; results that it made stay")
        self.remove.clicked.connect(lambda: presenter.remove(self._chosen_name()))
        self.words = Label("", "dim", wrap=True)
        self.setMinimumWidth(_WIDTH)
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
        self.setLayout(
            column(
                Label("Engine on another computer", "section"),
                self.list,
                grid,
                row(self.connect_button, self.test, self.remove, 1, gap=8),
                self.words,
                Label(SENT, "faint", wrap=True),
                1,
                gap=4,
            )
        )
        presenter.attach(self)

    def show_state(self, state: RemoteEnginesState) -> None:
        """Draw the state; what the reader types stays."""
        self._busy = state.busy
        if state.engines != self._engines:
            self._fill(state)
        self.list.setVisible(bool(state.engines))
        self.words.setText(state.words)
        self.words.set_role(state.level)
        self._update_buttons()

    def _fill(self, state: RemoteEnginesState) -> None:
        chosen = self._chosen_name() or self.name.text().strip()
        self._engines = state.engines
        with QSignalBlocker(self.list):
            self.list.clear()
            for place, engine in enumerate(state.engines):
                self.list.addItem(f"{engine.name}: {engine.model}")
                self.list.item(place).setToolTip(plain_tip(f"{engine.model}\n{engine.url}"))
                if engine.name == chosen:
                    self.list.setCurrentRow(place)
        if not self._chosen_name() and not any(engine.name == chosen for engine in state.engines):
            self._clear_form()
        else:
            self._show_chosen()

    def _show_chosen(self, _: int = 0) -> None:
        """Put the chosen server into the form; its token is kept, not shown."""
        place = self.list.currentRow()
        if 0 <= place < len(self._engines):
            engine = self._engines[place]
            self.name.setText(engine.name)
            self.url.setText(engine.url)
            self.ca_file.setText(engine.ca_file)
            self.token.clear()
            self.token.setPlaceholderText("kept; enter another to replace it")
        self._update_buttons()

    def _clear_form(self) -> None:
        for field in (self.name, self.url, self.token, self.ca_file):
            field.clear()
        self.token.setPlaceholderText("from the server's administrator")

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
        self._presenter.connect(form)

    def _update_buttons(self) -> None:
        chosen = bool(self._chosen_name())
        self.connect_button.setEnabled(not self._busy)
        self.test.setEnabled(chosen and not self._busy)
        self.remove.setEnabled(chosen and not self._busy)


def _field(name: str, example: str, longest: int) -> QLineEdit:
    field = QLineEdit()
    field.setAccessibleName(name)
    field.setPlaceholderText(example)
    field.setMaxLength(longest)
    return field
