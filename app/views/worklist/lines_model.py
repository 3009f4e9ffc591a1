"""The worklist's lines as a Qt model: only what is on screen is ever worded or pictured."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from PySide6.QtCore import QModelIndex, QObject, QPersistentModelIndex, QStringListModel, Qt
from PySide6.QtGui import QPixmap

from app.presenters.worklist_rows import SERIES, Row
from app.presenters.worklist_words import Words
from app.views.widgets.controls import plain_tip

Index = QModelIndex | QPersistentModelIndex
_PICTURES_KEPT = 400


class LinesModel(QStringListModel):
    """Rows of the presenter as a flat list.

    The base class is a list of empty strings: it counts rows and makes indexes in C++, which keeps the layout of
    20,000 lines at a few milliseconds; with a count in Python it takes 40. What a line says comes from ``data``.
    """

    def __init__(
        self, words: Callable[[Row], Words], request: Callable[[str], None], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._words = words
        self._request = request
        self._rows: tuple[Row, ...] = ()
        self._asked: set[str] = set()
        self._pictures: OrderedDict[str, QPixmap | None] = OrderedDict()

    @property
    def rows(self) -> tuple[Row, ...]:
        """The lines, in order."""
        return self._rows

    def set_rows(self, rows: tuple[Row, ...]) -> None:
        """Take new lines; those at the beginning and the end that stay keep selection and place."""
        old, self._rows = self._rows, rows
        head = _alike(old, rows)
        tail = _alike(old[head:][::-1], rows[head:][::-1])
        gone, new = len(old) - head - tail, len(rows) - head - tail
        if head == tail == 0 or gone + new > 400:
            self.setStringList([""] * len(rows))
            return
        if gone:
            self.removeRows(head, gone)
        if new:
            self.insertRows(head, new)

    def row_at(self, index: Index) -> Row | None:
        """Return the row of a line."""
        return self._rows[index.row()] if index.isValid() and index.row() < len(self._rows) else None

    def words_at(self, index: Index) -> Words:
        """Return what a line says."""
        row = self.row_at(index)
        return self._words(row) if row is not None else Words("")

    def index_of(self, key: str) -> QModelIndex:
        """Return the index of a line by its key; invalid when it isn't shown."""
        kind, _, uid = key.partition(":")
        for number, row in enumerate(self._rows):
            if row[1] == uid and row[0] == kind:
                return self.index(number, 0)
        return QModelIndex()

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> object:
        if role in (int(Qt.ItemDataRole.DisplayRole), int(Qt.ItemDataRole.AccessibleTextRole)):
            return self.words_at(index).spoken
        if role == int(Qt.ItemDataRole.ToolTipRole):
            return plain_tip(self.words_at(index).tip)
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable

    def picture(self, series_key: str) -> QPixmap | None:
        """Return a thumbnail; one that isn't there yet is asked for."""
        if series_key in self._pictures:
            self._pictures.move_to_end(series_key)
            return self._pictures[series_key]
        if series_key not in self._asked:
            self._asked.add(series_key)
            self._request(series_key)
        return None

    def set_picture(self, series_key: str, picture: QPixmap | None) -> None:
        """Take a thumbnail, or that there is none."""
        self._asked.discard(series_key)
        self._pictures[series_key] = picture
        while len(self._pictures) > _PICTURES_KEPT:
            self._pictures.popitem(last=False)
        index = self.index_of(f"{SERIES}:{series_key}")
        if index.isValid():
            self.dataChanged.emit(index, index)

    def forget_request(self, series_key: str) -> None:
        """Ask for a thumbnail again when its line is painted again."""
        self._asked.discard(series_key)


def _alike(old: Sequence[Row], new: Sequence[Row]) -> int:
    """Return how many rows at the beginning are the same."""
    for number, (one, other) in enumerate(zip(old, new, strict=False)):
        if one is not other and one != other:
            return number
    return min(len(old), len(new))
