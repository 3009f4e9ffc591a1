"""How readers and models agree over time: a table, a curve, and what needs a look."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex
from PySide6.QtWidgets import QStackedWidget, QTableView, QWidget

from app.presenters.model_monitor import MonitorPresenter, MonitorState, VersionAgreement
from app.presenters.ports import Tasks
from app.presenters.training_curves import SCORE, Curve
from app.presenters.training_words import plain
from app.views.theme import Theme
from app.views.training.curves_view import CurvesView
from app.views.widgets.controls import Label, column, row
from app.views.widgets.rows_table import RowsModel, fit_columns, rows_table
from app.views.widgets.scrolled import Page
from core.domain.training import DriftRow

_MOST_TICKS = 4


class MonitorPage(Page):
    """Draws agreement and drift; the selected line's curve is drawn."""

    def __init__(self, presenter: MonitorPresenter, theme: Theme, tasks: Tasks) -> None:
        super().__init__()
        self._presenter = presenter
        self._alerts = Label("", "caution", wrap=True)
        self.rows = RowsModel[VersionAgreement](
            ("Model", "Findings", "Newest week: accepted", "All weeks", "Look at"), _row_cells
        )
        self.table = fit_columns(rows_table(theme, self.rows, "Agreement of readers and models", ()))
        self.table.setSelectionMode(QTableView.SelectionMode.SingleSelection)
        self.table.selectionModel().currentChanged.connect(self._on_current)
        self.drift = RowsModel[DriftRow](("Number", "Of", "Before", "Now", "PSI", "Outcome"), _drift_cells)
        self.drift_table = fit_columns(rows_table(theme, self.drift, "Drift of inputs and outputs", ()))
        self.curves = CurvesView(theme, tasks, ((SCORE, "Accepted"),), "Week", "")
        lower = row(self.drift_table, self.curves, gap=16)
        lower.setStretch(0, 1)
        lower.setStretch(1, 1)
        body = column(self._alerts, self.table, lower, gap=8)
        body.setStretch(1, 1)
        body.setStretch(2, 1)
        whole = Page(body)
        self._message = Label("", "dim", wrap=True)
        empty = QWidget()
        empty.setLayout(column(self._message, 1, margins=(4, 8, 4, 8)))
        self._stack = QStackedWidget()
        self._stack.addWidget(whole)
        self._stack.addWidget(empty)
        self.setLayout(column(self._stack))
        presenter.attach(self)

    def show_state(self, state: MonitorState) -> None:
        """Draw the state."""
        self._stack.setCurrentIndex(1 if state.message else 0)
        self._message.setText(state.message)
        self._alerts.setText("\n".join(state.alerts))
        self._alerts.setVisible(bool(state.alerts))
        self.rows.set_rows(state.rows)
        self.drift.set_rows(state.drift_of_row)
        self.drift_table.setVisible(bool(state.drift_of_row))
        if state.row is None:
            return
        if self.table.currentIndex().row() != state.chosen:
            self.table.selectRow(state.chosen)
        self.curves.show_curves((_curve(state.row),), _ticks(state.row))

    def _on_current(self, index: QModelIndex) -> None:
        if index.isValid():
            self._presenter.choose(index.row())


def _curve(row: VersionAgreement) -> Curve:
    places = tuple(float(place) for place in range(len(row.weeks)))
    title = f"Accepted, {row.title} {row.version}"
    return Curve("accepted", title, SCORE, places, tuple(week.accept_rate for week in row.weeks))


def _ticks(row: VersionAgreement) -> tuple[tuple[float, str], ...]:
    step = max(1, -(-len(row.weeks) // _MOST_TICKS))
    return tuple((float(n), week.week) for n, week in enumerate(row.weeks) if n % step == 0)


def _row_cells(row: VersionAgreement) -> tuple[str, ...]:
    look = "; ".join(row.alerts) or "–"
    return f"{row.title} {row.version}", str(row.findings), row.words, row.overall, look


def _drift_cells(drift: DriftRow) -> tuple[str, ...]:
    return (
        drift.feature,
        drift.kind,
        f"{drift.reference_mean:.4g}",
        f"{drift.window_mean:.4g}",
        plain(drift.psi, 2),
        "! look at it" if drift.alert else "as before",
    )
