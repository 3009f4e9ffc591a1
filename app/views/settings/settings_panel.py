"""The settings panel: looks, keys, read-first mode and the reader's name; each change takes effect at once."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLineEdit, QWidget

from app.actions.action import ActionRegistry
from app.presenters.settings import SettingsPresenter, SettingsState
from app.views.theme import Theme
from app.views.widgets.controls import ElidedCombo, IconPushButton, Label, column, follow_keys, row

_FIELD_WIDTH = 240
_NAME_LENGTH = 100


class SettingsPanel(QWidget):
    """Draws the settings and passes on what the reader changes."""

    def __init__(self, presenter: SettingsPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self._presenter = presenter
        self.theme = _choice("Theme", lambda name: presenter.change(theme=name))
        self.keys = _choice("Keys", lambda name: presenter.change(key_scheme=name))
        self.reader = QLineEdit()
        self.reader.setMaxLength(_NAME_LENGTH)
        self.reader.setFixedWidth(_FIELD_WIDTH)
        self.reader.setAccessibleName("Reader's name")
        self.reader.setPlaceholderText("Name of this computer's account")
        self.reader.setToolTip("Stands beside your verdicts and in the audit trail from now on")
        self.reader.editingFinished.connect(lambda: presenter.change(reader_name=self.reader.text().strip()))
        self.read_first = QCheckBox("Read first: hide what models found until I ask for it")
        self.read_first.setToolTip(
            "When a series was first seen and when its results were asked for goes to the audit trail"
        )
        self.read_first.clicked.connect(lambda on: presenter.change(read_first=on))
        self.texts = QCheckBox("Corner texts on the pictures")
        self.texts.clicked.connect(lambda on: presenter.change(corner_texts=on))
        follow_keys(self.texts, registry, "view.text")
        show_keys = IconPushButton(theme, "keyboard", "Show the keys")
        follow_keys(show_keys, registry, "help.keys")
        show_keys.clicked.connect(lambda: registry.trigger("help.keys"))
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        keys = QWidget()
        keys.setLayout(row(self.keys, show_keys))
        fields: tuple[tuple[str, QWidget], ...] = (
            ("Theme", self.theme),
            ("Keys", keys),
            ("Reader", self.reader),
        )
        for line, (name, field) in enumerate(fields):
            grid.addWidget(Label(name, "dim"), line, 0)
            grid.addWidget(field, line, 1)
        checks = column(self.read_first, self.texts, 1, gap=8)
        self.setLayout(column(row(grid, checks, 1, gap=32), 1, margins=(12, 12, 12, 8)))
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
