"""The list of patients, studies and series, driven by mouse and keyboard alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from PySide6.QtCore import QEvent, QItemSelectionRange, QModelIndex, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QKeySequence, QMouseEvent
from PySide6.QtWidgets import QAbstractItemView, QListView

from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_rows import PATIENT, SERIES, STUDY, Row
from app.views.worklist.lines_model import LinesModel

_TYPING_PAUSE_MS = 1000
_OTHER_KEYS = (
    Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.MetaModifier
)
_WALKING = frozenset(
    {
        Qt.Key.Key_Up,
        Qt.Key.Key_Down,
        Qt.Key.Key_Left,
        Qt.Key.Key_Right,
        Qt.Key.Key_Home,
        Qt.Key.Key_End,
        Qt.Key.Key_PageUp,
        Qt.Key.Key_PageDown,
    }
)
"""Keys that walk and select in the list, whatever a key scheme makes of them elsewhere."""

_NOT_TYPED = "/? "
"""Letters go to the list while it has the focus, so that a name can be typed; these keep what they do elsewhere."""


class LinesView(QListView):
    """Enter or a click opens a series and unfolds the rest; letters go to a name; Left and Right fold."""

    opened = Signal(object)
    menu_wanted = Signal(QPoint)

    def __init__(self, presenter: WorklistPresenter, model: LinesModel) -> None:
        super().__init__()
        self._presenter = presenter
        self._lines = model
        self._typed = ""
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_TYPING_PAUSE_MS)
        self._pause.timeout.connect(self._forget_typed)
        self.setModel(model)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Worklist")
        self.setAccessibleDescription(
            "Enter opens, Left and Right fold and unfold, letters go to a patient, the menu key shows what can be done"
        )
        self.clicked.connect(self._on_clicked)
        self.doubleClicked.connect(self._on_double_clicked)

    def _forget_typed(self) -> None:
        self._typed = ""

    def current_row(self) -> Row | None:
        """Return the row of the current line."""
        return self._lines.row_at(self.currentIndex())

    def selected_rows(self) -> list[Row]:
        """Return the rows that are selected, in their order."""
        # By ranges: ten thousand selected lines are one of them.
        selection = cast("list[QItemSelectionRange]", self.selectionModel().selection())
        ranges = sorted((found.top(), found.bottom()) for found in selection)
        return [row for top, bottom in ranges for row in self._lines.rows[top : bottom + 1]]

    # -- mouse ---------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        index = self.indexAt(event.position().toPoint())
        if event.button() is Qt.MouseButton.RightButton:
            # A menu is for what is selected; beside it, for the line under the mouse.
            if index.isValid() and not self.selectionModel().isSelected(index):
                self.setCurrentIndex(index)
            return
        super().mousePressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if event.reason() is QContextMenuEvent.Reason.Keyboard:
            place = self.visualRect(self.currentIndex()).center()
            self.menu_wanted.emit(self.viewport().mapToGlobal(place))
        else:
            self.menu_wanted.emit(event.globalPos())

    def _on_clicked(self, index: QModelIndex) -> None:
        row = self._lines.row_at(index)
        if row is None or len(self.selected_rows()) > 1:
            return
        if row.kind == SERIES:
            self.opened.emit(row)
        elif row.kind in (PATIENT, STUDY):
            self._presenter.set_unfolded(row, not self._presenter.is_unfolded(row))

    def _on_double_clicked(self, index: QModelIndex) -> None:
        row = self._lines.row_at(index)
        if row is not None and row.kind == STUDY:
            self.opened.emit(row)

    # -- keyboard ------------------------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent):
            walks = event.key() in _WALKING and not event.modifiers() & Qt.KeyboardModifier.AltModifier
            if walks or self._types(event) or event.matches(QKeySequence.StandardKey.SelectAll):
                event.accept()
                return True
        return super().event(event)

    def _types(self, event: QKeyEvent) -> bool:
        text = event.text()
        if not text or not text.isprintable() or event.modifiers() & _OTHER_KEYS:
            return False
        return text not in _NOT_TYPED or (text == " " and bool(self._typed))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        row, key = self.current_row(), event.key()
        plain = not event.modifiers() & (_OTHER_KEYS | Qt.KeyboardModifier.ShiftModifier)
        if self._types(event):
            self.keyboardSearch(event.text())
        elif row is not None and key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._enter(row)
        elif row is not None and plain and key == Qt.Key.Key_Right:
            self._right(row)
        elif row is not None and plain and key == Qt.Key.Key_Left:
            self._left(row)
        else:
            super().keyPressEvent(event)

    def _enter(self, row: Row) -> None:
        if row.kind == PATIENT:
            self._presenter.set_unfolded(row, not self._presenter.is_unfolded(row))
        else:
            self.opened.emit(row)

    def _right(self, row: Row) -> None:
        if row.kind in (PATIENT, STUDY) and not self._presenter.is_unfolded(row):
            self._presenter.set_unfolded(row, True)
        else:
            self._step(1)

    def _left(self, row: Row) -> None:
        if row.kind in (PATIENT, STUDY) and self._presenter.is_unfolded(row):
            self._presenter.set_unfolded(row, False)
            return
        for number in range(self.currentIndex().row() - 1, -1, -1):
            if self._lines.rows[number].depth < row.depth:
                self.setCurrentIndex(self._lines.index(number, 0))
                return

    def _step(self, by: int) -> None:
        index = self._lines.index(self.currentIndex().row() + by, 0)
        if index.isValid():
            self.setCurrentIndex(index)

    def keyboardSearch(self, search: str) -> None:
        """Go to the next patient whose name starts with what was typed without a pause."""
        # The same letter again goes on to the next name that starts with it.
        again = self._typed == search
        self._typed = search if again else self._typed + search
        self._pause.start()
        here = max(self.currentIndex().row(), 0)
        number = self._presenter.find_typed(self._typed, here + 1 if len(self._typed) == 1 else here)
        if number >= 0:
            self.setCurrentIndex(self._lines.index(number, 0))

    def focus_lines(self, when_nothing: Callable[[], None] | None = None) -> None:
        """Take the focus, with a line to start from."""
        if not self._lines.rows:
            if when_nothing is not None:
                when_nothing()
            return
        if not self.currentIndex().isValid():
            self.setCurrentIndex(self._lines.index(0, 0))
        self.setFocus(Qt.FocusReason.ShortcutFocusReason)
