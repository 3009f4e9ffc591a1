"""The audit panel: the newest events, and whether the chain holds."""

from __future__ import annotations

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHeaderView, QTableView, QWidget

from app.actions.action import ActionRegistry
from app.presenters.audit import AuditPresenter, AuditState
from app.presenters.ports import AuditRow
from app.views.theme import Theme
from app.views.widgets.controls import IconPushButton, Label, column, follow_keys, row

Index = QModelIndex | QPersistentModelIndex
_COLUMNS = ("No.", "Time (UTC)", "Event", "Outcome", "Who", "Detail")
_WIDTHS = (64, 168, 160, 88, 96)


class AuditModel(QAbstractTableModel):
    """The rows of the presenter as a table."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[AuditRow, ...] = ()

    def set_rows(self, rows: tuple[AuditRow, ...]) -> None:
        """Take new rows."""
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:
        return len(_COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = int(Qt.ItemDataRole.DisplayRole)
    ) -> object:
        if orientation is Qt.Orientation.Horizontal and role == int(Qt.ItemDataRole.DisplayRole):
            return _COLUMNS[section]
        return None

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> object:
        if role not in (int(Qt.ItemDataRole.DisplayRole), int(Qt.ItemDataRole.ToolTipRole)):
            return None
        event = self._rows[index.row()]
        time = event.recorded_utc[:19].replace("T", " ")
        return (str(event.seq), time, event.event, event.outcome, event.actor, event.detail)[index.column()]


class AuditPanel(QWidget):
    """Draws the trail; reading it starts when the panel is first seen."""

    def __init__(self, presenter: AuditPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self._presenter = presenter
        self._model = AuditModel()
        self.table = QTableView()
        self.table.setModel(self._model)
        self.table.setShowGrid(False)
        self.table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(theme.size("hit"))
        self.table.setAccessibleName("Audit trail")
        header = self.table.horizontalHeader()
        header.setStretchLastSection(True)
        header.setHighlightSections(False)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for place, width in enumerate(_WIDTHS):
            header.setSectionResizeMode(place, QHeaderView.ResizeMode.Interactive)
            self.table.setColumnWidth(place, width)
        self._words = Label("", "dim")
        self.verify = IconPushButton(theme, "audit", "Verify")
        follow_keys(self.verify, registry, "audit.verify")
        self.verify.clicked.connect(lambda: registry.trigger("audit.verify"))
        self.setLayout(
            column(self.table, row(self._words, 1, self.verify, gap=8), gap=8, margins=(12, 8, 12, 8))
        )
        self._shown: tuple[AuditRow, ...] = ()
        presenter.attach(self)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._presenter.refresh()
        self._presenter.verify()

    def show_state(self, state: AuditState) -> None:
        """Draw the state."""
        if state.rows is not self._shown:
            self._shown = state.rows
            self._model.set_rows(state.rows)
        self._words.setText(state.words)
        checked = state.check is not None and not state.verifying
        self._words.set_role(
            ("verified" if state.check and state.check.ok else "danger") if checked else "dim"
        )
        self.verify.setEnabled(not state.verifying)
