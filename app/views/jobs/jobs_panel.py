"""The jobs panel: what runs, what waits, what failed and why, Retry and Cancel."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHeaderView, QPushButton, QTreeWidget, QTreeWidgetItem, QWidget

from app.presenters.jobs import JobsPresenter, JobsState
from app.presenters.ports import JOB_ACTIVE, JOB_RETRYABLE, JobRow, seconds_in_words
from app.views.theme import Theme
from app.views.widgets.controls import Label, column, row

_COLUMNS = ("Job", "State", "Progress", "What happened")
_STATES = {
    "queued": ("waiting", "jobs", "text_dim"),
    "running": ("running", "play", "accent"),
    "succeeded": ("done", "accept", "verified"),
    "failed": ("failed", "refusal", "danger"),
    "cancelled": ("cancelled", "stop", "text_dim"),
    "cancelling": ("stopping", "stop", "text_dim"),
    "interrupted": ("interrupted", "warning", "caution"),
    "lost": ("lost", "warning", "danger"),
}


class JobsPanel(QWidget):
    """Draws the jobs; Retry and Cancel act on the selected line."""

    def __init__(self, presenter: JobsPresenter, theme: Theme) -> None:
        super().__init__()
        self._presenter = presenter
        self._theme = theme
        self._items: dict[str, QTreeWidgetItem] = {}
        self.table = QTreeWidget()
        self.table.setHeaderLabels(_COLUMNS)
        self.table.setRootIsDecorated(False)
        self.table.setUniformRowHeights(True)
        self.table.setIndentation(0)
        self.table.setAccessibleName("Jobs")
        header = self.table.header()
        header.setStretchLastSection(True)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for place, width in enumerate((232, 104, 112)):
            header.setSectionResizeMode(place, QHeaderView.ResizeMode.Interactive)
            self.table.setColumnWidth(place, width)
        self.retry = QPushButton("Retry")
        self.retry.clicked.connect(lambda: presenter.retry(self._selected_id()))
        self.cancel = QPushButton("Cancel")
        self.cancel.clicked.connect(lambda: presenter.cancel(self._selected_id()))
        self.table.currentItemChanged.connect(self._update_buttons)
        self._empty = Label("No jobs yet. Run a model to see it here.", "dim")
        self.setLayout(
            column(
                self._empty, self.table, row(1, self.cancel, self.retry, gap=8), gap=8, margins=(12, 8, 12, 8)
            )
        )
        presenter.attach(self)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme
        self.show_state(self._presenter.state)

    def _selected_id(self) -> str:
        item = self.table.currentItem()
        return str(item.data(0, Qt.ItemDataRole.UserRole)) if item else ""

    def show_state(self, state: JobsState) -> None:
        """Draw the state; the selected job stays selected."""
        if list(self._items) != [job.job_id for job in state.jobs]:
            self._refill(state)
        for job in state.jobs:
            self._draw(self._items[job.job_id], job)
        self._empty.setVisible(not state.jobs)
        self.table.setVisible(bool(state.jobs))
        self._update_buttons()

    def _refill(self, state: JobsState) -> None:
        selected = self._selected_id()
        self.table.clear()
        self._items = {}
        for job in state.jobs:
            item = QTreeWidgetItem()
            item.setData(0, Qt.ItemDataRole.UserRole, job.job_id)
            self.table.addTopLevelItem(item)
            self._items[job.job_id] = item
            if job.job_id == selected:
                self.table.setCurrentItem(item)
        if self.table.currentItem() is None and state.jobs:
            self.table.setCurrentItem(self._items[state.jobs[0].job_id])

    def _draw(self, item: QTreeWidgetItem, job: JobRow) -> None:
        words, icon, token = _STATES.get(job.state, (job.state, "jobs", "text_dim"))
        left = seconds_in_words(job.eta_seconds).removeprefix("~")
        running = " · ".join(p for p in (f"{job.fraction:.0%}", f"{left} left" if left else "") if p)
        item.setText(0, job.title)
        item.setToolTip(0, job.title)
        item.setText(1, words)
        item.setIcon(1, self._theme.icon(icon, token))
        item.setText(2, running if job.state == "running" else "")
        item.setText(3, job.error or (job.phase if job.state in JOB_ACTIVE else ""))
        item.setToolTip(3, item.text(3))

    def _update_buttons(self) -> None:
        selected = self._selected_id()
        job = next((job for job in self._presenter.state.jobs if job.job_id == selected), None)
        self.retry.setEnabled(job is not None and job.state in JOB_RETRYABLE)
        self.cancel.setEnabled(job is not None and job.state in JOB_ACTIVE)
