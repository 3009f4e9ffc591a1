"""Gates and cases of a comparison as tables."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from PySide6.QtWidgets import QTableView

from app.presenters.training_words import plain, signed, worst_label_in_words
from app.views.theme import Theme
from app.views.widgets.rows_table import RowsModel, fit_columns, rows_table
from core.domain.training import CaseComparison, GateOutcome, LabelOrigin

Index = QModelIndex | QPersistentModelIndex
_DISPLAY = int(Qt.ItemDataRole.DisplayRole)
SORT_ROLE = int(Qt.ItemDataRole.UserRole)
_NUMBERS = (1, 2, 3)
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class GatesModel(RowsModel[GateOutcome]):
    """Gates, each with the word and the icon of its outcome."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(("Outcome", "Gate", "Found", "Required", "Why"), _gate_cells)
        self.theme = theme

    def data(self, index: Index, role: int = _DISPLAY) -> object:
        if role == int(Qt.ItemDataRole.DecorationRole) and index.column() == 0:
            passed = self.rows[index.row()].passed
            return self.theme.icon(*(("accept", "verified") if passed else ("reject", "danger")))
        return super().data(index, role)


class CaseScoresModel(RowsModel[CaseComparison]):
    """Cases of the comparison with the numbers to sort them by."""

    def __init__(self) -> None:
        super().__init__(
            ("Patient", "Difference", "Current", "Candidate", "Lost most on", "Labels"), _case_cells
        )

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = _DISPLAY) -> object:
        if role == int(Qt.ItemDataRole.TextAlignmentRole) and section in _NUMBERS:
            return _RIGHT
        return super().headerData(section, orientation, role)

    def data(self, index: Index, role: int = _DISPLAY) -> object:
        case = self.rows[index.row()]
        if role == SORT_ROLE:
            keys = (
                case.patient,
                case.difference,
                case.current,
                case.candidate,
                worst_label_in_words(case),
                case.origin.value,
            )
            return keys[index.column()]
        if role == int(Qt.ItemDataRole.TextAlignmentRole) and index.column() in _NUMBERS:
            return _RIGHT
        return super().data(index, role)


class ScoresOrder(QSortFilterProxyModel):
    """The cases in the order that the reader chose."""

    def __init__(self, model: CaseScoresModel) -> None:
        super().__init__()
        self.setSourceModel(model)
        self.setSortRole(SORT_ROLE)


def gates_table(theme: Theme, model: GatesModel) -> QTableView:
    """Return the table of gates."""
    table = fit_columns(rows_table(theme, model, "Gates", ()))
    table.setSelectionMode(QTableView.SelectionMode.SingleSelection)
    return table


def scores_table(theme: Theme, model: CaseScoresModel, opened: Callable[[int], None]) -> QTableView:
    """Return the table of cases, the worst for the candidate first; ``opened`` takes the place in the model."""
    order = ScoresOrder(model)
    table = fit_columns(rows_table(theme, order, "Cases of the comparison", ()))
    order.setParent(table)
    table.setSelectionMode(QTableView.SelectionMode.SingleSelection)
    table.setSortingEnabled(True)
    table.sortByColumn(1, Qt.SortOrder.AscendingOrder)

    def open_index(index: QModelIndex) -> None:
        opened(order.mapToSource(index).row())

    table.clicked.connect(open_index)
    table.activated.connect(open_index)
    return table


def _gate_cells(gate: GateOutcome) -> tuple[str, ...]:
    return (
        "passed" if gate.passed else "not passed",
        gate.title,
        _short(gate.value),
        _short(gate.threshold),
        gate.reason,
    )


def _short(number: float) -> str:
    return plain(number, 0) if number == int(number) and abs(number) >= 1 else plain(number)


def _case_cells(case: CaseComparison) -> tuple[str, ...]:
    return (
        case.patient,
        signed(case.difference),
        plain(case.current),
        plain(case.candidate),
        worst_label_in_words(case),
        "corrected" if case.origin is LabelOrigin.READER else "accepted",
    )
