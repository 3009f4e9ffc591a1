"""A training that goes on: what it does, how long, its curves, and what the engine chose or met."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QWidget

from app.presenters.ports import Tasks
from app.presenters.training_runs import TrainingRunsPresenter, TrainingRunsState
from app.presenters.training_words import moment_in_words, state_in_words
from app.views.theme import Theme
from app.views.training.curves_view import CurvesView
from app.views.widgets.controls import ElidedCombo, IconPushButton, Label, ProgressBar, column, row
from app.views.widgets.scrolled import Page, scrolled
from core.domain.training import TrainingRun, TrainingState

REDRAW_MS = 250
_LEFT_WIDTH = 240
_NO_TRAINING = "No training yet. Choose cases in “Improve a model” and press Start."
_ROLES = {
    TrainingState.FAILED: "danger",
    TrainingState.INTERRUPTED: "caution",
    TrainingState.SUCCEEDED: "verified",
}


class ProgressPage(Page):
    """Draws a training; curves are drawn a few times a second at most, and only while they are seen."""

    def __init__(self, presenter: TrainingRunsPresenter, theme: Theme, tasks: Tasks) -> None:
        super().__init__()
        self._presenter = presenter
        self._drawn = -1
        self.runs = ElidedCombo("Training")
        self.runs.activated.connect(lambda place: presenter.choose(self.runs.itemData(place)))
        self._state = Label("", wrap=True)
        self._remedy = Label("", "dim", wrap=True)
        self._progress = ProgressBar()
        self.pause = IconPushButton(theme, "pause", "Pause")
        self.pause.setToolTip("Let it rest after its present step; nothing is lost")
        self.pause.clicked.connect(lambda: presenter.pause())
        self.resume = IconPushButton(theme, "play", "Resume")
        self.resume.setToolTip("Let it go on where it was")
        self.resume.clicked.connect(lambda: presenter.resume())
        self.cancel = IconPushButton(theme, "close", "Cancel")
        self.cancel.setToolTip("End it; nothing of it is used")
        self.cancel.clicked.connect(lambda: presenter.cancel())
        self.notes = Label("", "faint", wrap=True)
        self.notes.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.curves = CurvesView(theme, tasks)
        layout = row(self._left(), self.curves, gap=16)
        layout.setStretch(1, 1)
        self.setLayout(layout)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(REDRAW_MS)
        self._soon.timeout.connect(self._redraw)
        presenter.attach(self)

    def _left(self) -> QWidget:
        scroll = scrolled(Page(column(self.notes, 1)))
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        buttons = row(self.pause, self.resume, self.cancel, 1, gap=8)
        left = QWidget()
        left.setFixedWidth(_LEFT_WIDTH)
        layout = column(self.runs, self._state, self._progress, self._remedy, buttons, scroll, gap=8)
        layout.setStretch(5, 1)
        left.setLayout(layout)
        return left

    def show_state(self, state: TrainingRunsState) -> None:
        """Draw the state; the curves follow soon."""
        self._show_runs(state)
        run = state.run
        self._state.setText(_words(run) if run is not None else _NO_TRAINING)
        self._state.set_role(_ROLES.get(run.state, "") if run is not None else "dim")
        self._progress.setVisible(run is not None and not run.is_final)
        self._progress.set_fraction(run.fraction if run is not None else 0.0)
        self._remedy.setText(run.remedy if run is not None else "")
        self._remedy.setVisible(bool(self._remedy.text()))
        self.pause.setVisible(run is not None and not state.can_resume)
        self.pause.setEnabled(state.can_pause)
        self.resume.setVisible(state.can_resume)
        self.cancel.setVisible(run is not None)
        self.cancel.setEnabled(state.can_cancel)
        self._show_notes(run)
        if state.revision != self._drawn and not self._soon.isActive():
            self._soon.start()

    def _show_runs(self, state: TrainingRunsState) -> None:
        wanted = [(_title(run), run.run_id) for run in state.runs]
        present = [(self.runs.itemText(n), self.runs.itemData(n)) for n in range(self.runs.count())]
        if wanted != present:
            self.runs.clear()
            for text, run_id in wanted:
                self.runs.addItem(text, run_id)
        self.runs.setCurrentIndex(self.runs.findData(state.chosen))
        self.runs.setVisible(bool(state.runs))
        self.runs.setToolTip(self.runs.currentText())

    def _show_notes(self, run: TrainingRun | None) -> None:
        lines = [note.message for note in reversed(run.notes)] if run is not None else []
        if self._presenter.broken_values:
            lines.insert(0, f"{self._presenter.broken_values} values were no numbers and aren't drawn.")
        self.notes.setText("\n".join(lines))

    def _redraw(self) -> None:
        if not self.isVisible():
            return
        self._drawn = self._presenter.state.revision
        self.curves.show_curves(self._presenter.curves())

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._presenter.state.revision != self._drawn:
            self._soon.start()


def _title(run: TrainingRun) -> str:
    return f"{run.title} · {moment_in_words(run.created_utc)[5:]}"


def _words(run: TrainingRun) -> str:
    words = state_in_words(run)
    told = run.state in (TrainingState.FAILED, TrainingState.INTERRUPTED) and run.error
    return f"{words}: {run.error}" if told else words
