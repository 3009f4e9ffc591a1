"""A plain table of rows that draws only what is on screen, and pages that share one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from PySide6.QtCore import QAbstractItemModel, QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtWidgets import QButtonGroup, QHeaderView, QPushButton, QStackedWidget, QTableView, QWidget

from app.views.theme import Theme
from app.views.widgets.controls import column, plain_tip, row

Index = QModelIndex | QPersistentModelIndex
RowT = TypeVar("RowT")
_LOOKED_AT = 50


class RowsModel(QAbstractTableModel, Generic[RowT]):
    """Rows of any kind; ``cells`` turns one into its texts when it is drawn."""

    def __init__(self, headers: Sequence[str], cells: Callable[[RowT], Sequence[str]]) -> None:
        super().__init__()
        self._headers = tuple(headers)
        self._cells = cells
        self._rows: tuple[RowT, ...] = ()

    @property
    def rows(self) -> tuple[RowT, ...]:
        """What is listed."""
        return self._rows

    def set_rows(self, rows: tuple[RowT, ...]) -> None:
        """Take other rows; the same number of them keeps selection and scroll position."""
        if len(rows) == len(self._rows):
            self._rows = rows
            self.redraw()
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def redraw(self) -> None:
        """Ask the views to draw again: what ``cells`` returns has changed."""
        if self._rows:
            last = self.index(len(self._rows) - 1, len(self._headers) - 1)
            self.dataChanged.emit(self.index(0, 0), last)

    def rowCount(self, parent: Index = QModelIndex()) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:
        return 0 if parent.isValid() else len(self._headers)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = int(Qt.ItemDataRole.DisplayRole)
    ) -> object:
        if orientation is Qt.Orientation.Horizontal and role == int(Qt.ItemDataRole.DisplayRole):
            return self._headers[section]
        return None

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> object:
        if role == int(Qt.ItemDataRole.DisplayRole):
            return self._cells(self._rows[index.row()])[index.column()]
        if role == int(Qt.ItemDataRole.ToolTipRole):
            return plain_tip(self._cells(self._rows[index.row()])[index.column()])
        return None


def rows_table(theme: Theme, model: QAbstractItemModel, name: str, widths: Sequence[int]) -> QTableView:
    """Return a table for a model; the last column takes the rest."""
    table = QTableView()
    table.setModel(model)
    table.setShowGrid(False)
    table.setMinimumHeight(2 * theme.size("hit"))
    table.setWordWrap(False)
    table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
    table.setTabKeyNavigation(False)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(theme.size("hit"))
    table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
    table.setAccessibleName(name)
    header = table.horizontalHeader()
    header.setStretchLastSection(True)
    header.setHighlightSections(False)
    header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    for place, width in enumerate(widths):
        header.setSectionResizeMode(place, QHeaderView.ResizeMode.Interactive)
        table.setColumnWidth(place, width)
    return table


def fit_columns(table: QTableView) -> QTableView:
    """Make all columns but the last as wide as what they show; for tables of few rows."""
    header = table.horizontalHeader()
    header.setResizeContentsPrecision(_LOOKED_AT)
    for place in range(header.count() - 1):
        header.setSectionResizeMode(place, QHeaderView.ResizeMode.ResizeToContents)
    return table


def selected_rows(table: QTableView, model: RowsModel[RowT]) -> tuple[RowT, ...]:
    """Return the selected rows in their order."""
    numbers = sorted({index.row() for index in table.selectionModel().selectedRows()})
    return tuple(model.rows[number] for number in numbers if number < len(model.rows))


class Pages(QWidget):
    """Some pages in one place, chosen by a row of buttons; ``chosen`` is told the page's name."""

    def __init__(
        self, pages: Sequence[tuple[str, str, QWidget]], chosen: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__()
        self._names = [name for name, _, _ in pages]
        self._stack = QStackedWidget()
        self.buttons: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        for name, title, widget in pages:
            self._stack.addWidget(widget)
            button = QPushButton(title)
            button.setCheckable(True)
            button.setProperty("compact", "true")
            button.clicked.connect(lambda _=False, name=name: self._choose(name, chosen))
            group.addButton(button)
            self.buttons[name] = button
        self.setLayout(
            column(row(*self.buttons.values(), 1, gap=4, margins=(0, 0, 0, 0)), self._stack, gap=8)
        )
        self.show_page(self._names[0])

    def _choose(self, name: str, chosen: Callable[[str], None]) -> None:
        self.show_page(name)
        chosen(name)

    def show_page(self, name: str) -> None:
        """Show a page."""
        self.buttons[name].setChecked(True)
        self._stack.setCurrentIndex(self._names.index(name))

    def set_title(self, name: str, title: str) -> None:
        """Change what a page's button says."""
        self.buttons[name].setText(title)
