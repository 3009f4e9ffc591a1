"""The tag viewer: the elements of the file on screen, searched while one types."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QHideEvent, QKeyEvent, QKeySequence, QShowEvent
from PySide6.QtWidgets import QCheckBox, QLineEdit, QMenu, QTreeView, QVBoxLayout, QWidget

from app.actions.action import ActionRegistry
from app.presenters.tags import (
    COMPARE_NEXT,
    COMPARE_NOT,
    COMPARE_PREVIOUS,
    TagsPresenter,
    TagsState,
    text_to_copy,
)
from app.views.tags.tag_model import TagModel
from app.views.theme import Theme
from app.views.widgets.controls import ElidedCombo, ElidedLabel, IconButton, Label, column, follow_keys, row

_WIDTHS = (168, 240, 40)
_COMPARE_WIDTH = 216
_PAUSE_MS = 120
_COMPARISONS = (
    (COMPARE_NOT, "Don't compare"),
    (COMPARE_PREVIOUS, "Compare with the file before"),
    (COMPARE_NEXT, "Compare with the file after"),
)


class TagTree(QTreeView):
    """The tree; letters go on to the search, Ctrl+C copies."""

    def __init__(self, copy: Callable[[bool], None], search: Callable[[str], None]) -> None:
        super().__init__()
        self._copy = copy
        self._search = search
        self.setObjectName("elements")
        self.setUniformRowHeights(True)
        self.setAlternatingRowColors(False)
        self.setSelectionMode(QTreeView.SelectionMode.ExtendedSelection)
        self.setAccessibleName("Elements")
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._show_menu)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self._copy(True)
        elif event.text().isprintable() and event.text().strip() and not event.modifiers() & _COMMANDS:
            self._search(event.text())
        else:
            super().keyPressEvent(event)

    def _show_menu(self, place: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Copy the value\tCtrl+C").triggered.connect(lambda _=False: self._copy(True))
        menu.addAction("Copy tag, name and value").triggered.connect(lambda _=False: self._copy(False))
        menu.popup(self.viewport().mapToGlobal(place))


_COMMANDS = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier


class TagsPanel(QWidget):
    """Draws the elements. They are read only while the panel is on screen."""

    def __init__(self, presenter: TagsPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self._presenter = presenter
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search tag, name, VR or value…")
        self.search.setAccessibleName("Search the elements")
        self.search.setClearButtonEnabled(True)
        self.search.setAcceptDrops(False)
        follow_keys(self.search, registry, "series.tags")
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_PAUSE_MS)
        self._soon.timeout.connect(lambda: presenter.search(self.search.text()))
        self.search.textChanged.connect(lambda _: self._soon.start())
        self.search.returnPressed.connect(self._to_tree)
        self._found = ElidedLabel("", "dim")
        self.previous = IconButton(theme, "previous", "The file before; the picture stays")
        self.previous.clicked.connect(lambda: presenter.step(-1))
        self.next = IconButton(theme, "next", "The file after; the picture stays")
        self.next.clicked.connect(lambda: presenter.step(1))
        self._place = Label("", "dim")
        self.follow = QCheckBox("Follow the picture")
        self.follow.setToolTip("Show the file of the slice on screen")
        self.follow.clicked.connect(presenter.set_following)
        self.compare = ElidedCombo("Compare with a neighbour")
        for number, words in _COMPARISONS:
            self.compare.addItem(words, number)
        self.compare.activated.connect(lambda place: presenter.compare(self.compare.itemData(place)))
        self.model = TagModel(theme)
        self.tree = TagTree(self.copy, self._type_on)
        self.tree.setModel(self.model)
        for place, width in enumerate(_WIDTHS):
            self.tree.setColumnWidth(place, width)
        self.tree.header().setStretchLastSection(True)
        self.tree.header().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self._message = Label("", "dim", wrap=True)
        self._note = Label("", "caution", wrap=True)
        self.setLayout(self._arranged())
        presenter.attach(self)

    def _arranged(self) -> QVBoxLayout:
        self.compare.setFixedWidth(_COMPARE_WIDTH)
        searching = row(self.search, self._found, gap=8)
        searching.setStretch(0, 2)
        searching.setStretch(1, 1)
        tools = row(self.previous, self._place, self.next, self.follow, 1, self.compare, gap=8)
        body = column(searching, tools, self._note, self._message, self.tree, gap=8, margins=(12, 8, 12, 8))
        body.setStretch(4, 1)
        return body

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self.model.set_theme(theme)

    def take_focus(self) -> None:
        """Put the cursor into the search."""
        self.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.search.selectAll()

    def show_state(self, state: TagsState) -> None:
        """Draw the state."""
        self.model.show_document(state.document, state.found, state.identity_hidden)
        if state.found is not None and state.found and not self.tree.currentIndex().isValid():
            self.tree.setCurrentIndex(self.model.index(0, 0))
        has = state.document is not None
        self.tree.setVisible(has and state.found != ())
        words = state.message if not has else state.found_words if state.found == () else ""
        if state.loading and not has:
            words = "Reading…"
        self._message.setText(words)
        self._message.setVisible(bool(words))
        note = " ".join(part for part in (state.elsewhere, state.note) if part)
        self._note.setText(note)
        self._note.setVisible(bool(note))
        self._found.setText(state.found_words if state.found else "")
        self._place.setText(state.place)
        self.follow.setChecked(state.following)
        self.follow.setEnabled(has)
        self.compare.setCurrentIndex(self.compare.findData(state.compare))
        self.compare.setEnabled(state.total > 1)
        self.previous.setEnabled(has and state.number > 0)
        self.next.setEnabled(has and state.number < state.total - 1)

    def copy(self, values_only: bool) -> None:
        """Copy the selected lines, masked as they are on screen."""
        rows = self.tree.selectionModel().selectedRows()
        lines = tuple(line for line in map(self.model.line, rows) if line is not None)
        if lines:
            hidden = self._presenter.state.identity_hidden
            text = text_to_copy(lines, hidden, values_only and len(lines) == 1)
            QGuiApplication.clipboard().setText(text)

    def _to_tree(self) -> None:
        self._soon.stop()
        self._presenter.search(self.search.text())
        self.tree.setFocus(Qt.FocusReason.OtherFocusReason)

    def _type_on(self, letter: str) -> None:
        self.search.setFocus(Qt.FocusReason.OtherFocusReason)
        self.search.setText(self.search.text() + letter)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._presenter.set_visible(True)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._presenter.set_visible(False)
