"""The cases that a training may learn from: a check for each, and the reason for those that can't be used."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtWidgets import QHeaderView, QTableView

from app.presenters.training_words import origin_in_words, part_in_words
from app.views.theme import Theme
from app.views.widgets.controls import plain_tip
from app.views.widgets.rows_table import fit_columns, rows_table
from core.domain.person_name import isolated
from core.domain.training import CasePart, TrainingCase

Index = QModelIndex | QPersistentModelIndex
HEADERS = ("Patient", "Series", "Labels", "Use")
_PATIENT_WIDTH = 124
_DISPLAY = int(Qt.ItemDataRole.DisplayRole)


class CasesModel(QAbstractTableModel):
    """Cases; the first column is checked for those that are used."""

    def __init__(self, toggle: Callable[[str], None], shown: Callable[[TrainingCase], str]) -> None:
        super().__init__()
        self._toggle = toggle
        self._shown = shown
        self.cases: tuple[TrainingCase, ...] = ()

    def set_cases(self, cases: tuple[TrainingCase, ...]) -> None:
        """Take other cases; the same number of them keeps selection and scroll position."""
        if len(cases) == len(self.cases):
            self.cases = cases
            self.redraw()
            return
        self.beginResetModel()
        self.cases = cases
        self.endResetModel()

    def redraw(self) -> None:
        """Ask the view to draw again."""
        if self.cases:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.cases) - 1, len(HEADERS) - 1))

    def rowCount(self, parent: Index = QModelIndex()) -> int:
        return 0 if parent.isValid() else len(self.cases)

    def columnCount(self, parent: Index = QModelIndex()) -> int:
        return 0 if parent.isValid() else len(HEADERS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = _DISPLAY) -> object:
        if orientation is Qt.Orientation.Horizontal and role == _DISPLAY:
            return HEADERS[section]
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        case = self.cases[index.row()]
        known = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled
        if index.column() == 0 and _changeable(case):
            known |= Qt.ItemFlag.ItemIsUserCheckable
        return known

    def data(self, index: Index, role: int = _DISPLAY) -> object:
        case = self.cases[index.row()]
        if role in (_DISPLAY, int(Qt.ItemDataRole.ToolTipRole)):
            text = self._cells(case)[index.column()]
            return text if role == _DISPLAY else plain_tip(text)
        if role == int(Qt.ItemDataRole.CheckStateRole) and index.column() == 0 and case.usable:
            return Qt.CheckState.Checked if case.included else Qt.CheckState.Unchecked
        return None

    def setData(self, index: Index, value: object, role: int = int(Qt.ItemDataRole.EditRole)) -> bool:
        case = self.cases[index.row()]
        if role != int(Qt.ItemDataRole.CheckStateRole) or not _changeable(case):
            return False
        self._toggle(case.case_id)
        return True

    def _cells(self, case: TrainingCase) -> tuple[str, ...]:
        return case.patient, isolated(self._shown(case)), origin_in_words(case), part_in_words(case)


def cases_table(theme: Theme, model: CasesModel, opened: Callable[[TrainingCase], None]) -> QTableView:
    """Return the table; a double click or Enter hands a case to ``opened``."""
    table = fit_columns(rows_table(theme, model, "Cases to learn from", ()))
    # A style sheet's indicator isn't counted when a column takes the width of its texts.
    table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
    table.setColumnWidth(0, _PATIENT_WIDTH)
    table.setSelectionMode(QTableView.SelectionMode.SingleSelection)
    table.activated.connect(lambda index: opened(model.cases[index.row()]))
    return table


def _changeable(case: TrainingCase) -> bool:
    return case.usable and case.part is not CasePart.TEST
