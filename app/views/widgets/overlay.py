"""Things that float over the window while the reader asks for them: command palette and cheat sheet."""

from __future__ import annotations

import re

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QFrame,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.actions.action import ActionRegistry
from app.presenters.palette import Command, PalettePresenter, PaletteState
from app.views.widgets.controls import Label, clear_layout, column, panel, row

_PALETTE_WIDTH = 560
_ROW_HEIGHT = 32
_ROWS = 10
_COLUMN_WIDTH = 272
_COLUMNS_AT_MOST = 4
_PRESET = re.compile(r"window\.[1-9]")


class PaletteOverlay(QFrame):
    """The command palette: a search line and the actions that match."""

    def __init__(self, presenter: PalettePresenter, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("palette")
        self._presenter = presenter
        self._before: QWidget | None = None
        self._query = QLineEdit()
        self._query.setProperty("role", "palette")
        self._query.setPlaceholderText("What do you want to do?")
        self._query.textEdited.connect(presenter.search)
        self._query.installEventFilter(self)
        self._list = QListWidget()
        self._list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.itemClicked.connect(self._on_clicked)
        self.setLayout(column(self._query, self._list, gap=8, margins=(12, 12, 12, 12)))
        self.hide()
        presenter.attach(self)

    def show_state(self, state: PaletteState) -> None:
        """Draw the state; opening takes the focus, closing gives it back."""
        if not state.open:
            self._close()
            return
        if self.isHidden():
            self._open()
        self._fill(state)

    def _open(self) -> None:
        window = self.window()
        self._before = window.focusWidget()
        self._query.clear()
        self.place()
        self.show()
        self.raise_()
        self._query.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def _close(self) -> None:
        if self.isHidden():
            return
        self.hide()
        if self._before is not None:
            self._before.setFocus(Qt.FocusReason.OtherFocusReason)

    def place(self) -> None:
        """Lie in the upper third of the window."""
        parent = self.window()
        width = min(_PALETTE_WIDTH, parent.width() - 48)
        height = min(36 + 24 + 8 + _ROW_HEIGHT * _ROWS, parent.height() - 96)
        self.setGeometry((parent.width() - width) // 2, 56, width, height)

    def _fill(self, state: PaletteState) -> None:
        self._list.clear()
        for command in state.commands:
            item = QListWidgetItem()
            item.setSizeHint(
                self._list.sizeHint().scaled(0, _ROW_HEIGHT, Qt.AspectRatioMode.IgnoreAspectRatio)
            )
            self._list.addItem(item)
            self._list.setItemWidget(item, _command_row(command))
        self._list.setCurrentRow(state.selected)

    def _on_clicked(self, item: QListWidgetItem) -> None:
        self._presenter.select(self._list.row(item))
        self._presenter.run()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            steps = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: 8, Qt.Key.Key_PageUp: -8}
            key = Qt.Key(event.key())
            if key in steps:
                self._presenter.move(steps[key])
                return True
            if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._presenter.run()
                return True
            if key is Qt.Key.Key_Escape:
                self._presenter.close()
                return True
        if event.type() == QEvent.Type.FocusOut and not self.isHidden():
            self._presenter.close()
        return super().eventFilter(watched, event)


def _command_row(command: Command) -> QWidget:
    title = Label(command.title, "" if command.enabled else "faint")
    keys = _keys(command)
    line = panel("plain", row(title, Label(command.group, "faint"), 1, *keys, gap=8, margins=(8, 0, 8, 0)))
    line.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    return line


class CheatSheet(QFrame):
    """All keys on one sheet; any key or click closes it."""

    def __init__(self, registry: ActionRegistry, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("cheatSheet")
        self._registry = registry
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._before: QWidget | None = None
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(16, 16, 16, 16)
        self.hide()

    def toggle(self) -> None:
        """Show or hide the sheet."""
        if self.isVisible():
            self.close_sheet()
            return
        self._before = self.window().focusWidget()
        # Written anew each time: keys may have changed, and the window may be wider.
        clear_layout(self._layout)
        self.place()
        self._build()
        self.show()
        self.raise_()
        self.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def forget(self) -> None:
        """Write the sheet anew when it is next shown."""
        self.hide()
        clear_layout(self._layout)

    def close_sheet(self) -> None:
        """Hide the sheet and give the focus back."""
        self.hide()
        if self._before is not None:
            self._before.setFocus(Qt.FocusReason.OtherFocusReason)

    def place(self) -> None:
        """Fill the window up to a margin, but no more than the text needs."""
        parent = self.window()
        width, height = min(1240, parent.width() - 48), min(720, parent.height() - 80)
        self.setGeometry((parent.width() - width) // 2, (parent.height() - height) // 2, width, height)

    def _build(self) -> None:
        self._layout.addLayout(row(Label("Keys", "title"), 1, Label("Esc closes", "faint")))
        number = max(1, min(_COLUMNS_AT_MOST, self.width() // _COLUMN_WIDTH))
        columns = [column(gap=16) for _ in range(number)]
        heights = [0] * number
        for group, commands in self._groups():
            shortest = heights.index(min(heights))
            columns[shortest].addLayout(_group(group, commands))
            heights[shortest] += len(commands) + 2
        for lines in columns:
            lines.addStretch(1)
        across = row(*columns, gap=24, margins=(0, 0, 8, 0))
        for place in range(number):
            across.setStretch(place, 1)
        body = panel("plain", across)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(body)
        self._layout.addWidget(scroll, 1)

    def _groups(self) -> list[tuple[str, list[Command]]]:
        groups: dict[str, list[Command]] = {}
        for command in self._registry.commands():
            if command.keys and not _PRESET.match(command.id):
                groups.setdefault(command.group, []).append(command)
        presets = Command("window", "Grey scale presets", "", "1 … 9", True)
        groups.setdefault("Grey scale", []).append(presets)
        return sorted(groups.items(), key=lambda item: -len(item[1]))

    def mousePressEvent(self, _: object) -> None:
        self.close_sheet()


def _keys(command: Command) -> list[Label]:
    labels = [Label(key, "key") for key in command.keys.split(" or ")[:2] if key]
    for label in labels:
        label.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    return labels


def _group(title: str, commands: list[Command]) -> QVBoxLayout:
    lines = [row(Label(command.title), 1, *_keys(command), gap=4) for command in commands]
    return column(Label(title, "section"), *lines, gap=4)
