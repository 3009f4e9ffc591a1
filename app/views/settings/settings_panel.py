"""The settings panel: looks, keys, read-first mode, the reader's name; each change takes effect at once.

Further sections stand at its right, one below the other.
"""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLineEdit, QScrollArea, QWidget

from app.actions.action import ActionRegistry
from app.presenters.settings import SettingsPresenter, SettingsState
from app.views.widgets.controls import ElidedCombo, Label, column, follow_keys, panel, row

_FIELD_WIDTH = 208
_NAME_LENGTH = 100


class SettingsPanel(QWidget):
    """Draws the settings and passes on what the reader changes."""

    def __init__(self, presenter: SettingsPresenter, registry: ActionRegistry, *sections: QWidget) -> None:
        super().__init__()
        self._presenter = presenter
        self.theme = _choice("Theme", lambda name: presenter.change(theme=name))
        self.keys = _choice("Keys", lambda name: presenter.change(key_scheme=name))
        self.reader = QLineEdit()
        self.reader.setMaxLength(_NAME_LENGTH)
        self.reader.setFixedWidth(_FIELD_WIDTH)
        self.reader.setAccessibleName("Reader's name")
        self.reader.setPlaceholderText("Name of the account")
        self.reader.setToolTip("Stands beside your verdicts and in the audit trail from now on")
        self.reader.editingFinished.connect(lambda: presenter.change(reader_name=self.reader.text().strip()))
        self.read_first = QCheckBox("Read first: hide AI until I ask")
        self.read_first.setToolTip(
            "What models found stays hidden, series by series, until you press the key or “Show AI”.\n"
            "When a series was first seen, and when you asked, goes to the audit trail."
        )
        self.read_first.clicked.connect(lambda on: presenter.change(read_first=on))
        self.texts = QCheckBox("Corner texts on the pictures")
        self.texts.clicked.connect(lambda on: presenter.change(corner_texts=on))
        follow_keys(self.texts, registry, "view.text")
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        fields: tuple[tuple[str, QWidget], ...] = (
            ("Theme", self.theme),
            ("Keys", self.keys),
            ("Reader", self.reader),
        )
        for line, (name, field) in enumerate(fields):
            grid.addWidget(Label(name, "dim"), line, 0)
            grid.addWidget(field, line, 1)
        checks = column(self.read_first, self.texts, 1, gap=8)
        left = column(grid, checks, gap=12)
        right = column(*sections, 1, gap=16)
        body = panel("plain", column(row(left, 1, right, gap=24), 1, margins=(12, 12, 12, 8)))
        # A narrow window scrolls the panel: it must not push the other panels aside.
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(body)
        self.setLayout(column(scroll))
        presenter.attach(self)

    def show_state(self, state: SettingsState) -> None:
        """Draw the state."""
        _fill(self.theme, state.themes, state.chosen.theme)
        _fill(self.keys, state.schemes, state.chosen.key_scheme)
        self.read_first.setChecked(state.chosen.read_first)
        self.texts.setChecked(state.chosen.corner_texts)
        if not self.reader.hasFocus():
            self.reader.setText(state.chosen.reader_name)


def _choice(name: str, chosen: Callable[[str], None]) -> QComboBox:
    combo = ElidedCombo(name)
    combo.setFixedWidth(_FIELD_WIDTH)
    combo.activated.connect(lambda place: chosen(combo.itemData(place)))
    return combo


def _fill(combo: QComboBox, choices: tuple[tuple[str, str], ...], current: str) -> None:
    if combo.count() != len(choices):
        combo.clear()
        for name, title in choices:
            combo.addItem(title, name)
    combo.setCurrentIndex(max(0, combo.findData(current)))
