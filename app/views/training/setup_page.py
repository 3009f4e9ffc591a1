"""What to train: base model and cases at the left, the settings made from their schema at the right."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton, QStackedWidget, QWidget

from app.presenters.training_setup import TrainingSetupPresenter, TrainingSetupState
from app.presenters.training_words import use_in_words
from app.views.theme import Theme
from app.views.training.cases_table import CasesModel, cases_table
from app.views.training.form_view import FormView
from app.views.widgets.controls import ElidedCombo, Label, column, row
from app.views.widgets.scrolled import Page, scrolled
from core.domain.training import TrainingCase

_FORM_WIDTH = 256
_MODEL_WIDTH = 208


class SetupPage(Page):
    """Draws the choice and passes on what the reader changes.

    Parameters
    ----------
    shown : callable
        Returns a case's description as it may be shown.
    opened : callable
        Takes a case whose pictures are to be seen.
    """

    def __init__(
        self,
        presenter: TrainingSetupPresenter,
        theme: Theme,
        shown: Callable[[TrainingCase], str],
        opened: Callable[[TrainingCase], None],
    ) -> None:
        super().__init__()
        self._presenter = presenter
        self.model = ElidedCombo("Model to improve")
        self.model.setFixedWidth(_MODEL_WIDTH)
        self.model.activated.connect(lambda place: presenter.choose_model(self.model.itemData(place)))
        self._counts = Label("", "dim", wrap=True)
        self._reason = Label("", "faint", wrap=True)
        self.cases = CasesModel(presenter.toggle_case, shown)
        self.table = cases_table(theme, self.cases, opened)
        self._message = Label("", "dim", wrap=True)
        empty = QWidget()
        empty.setLayout(column(self._message, 1, margins=(4, 8, 4, 8)))
        self._stack = QStackedWidget()
        self._stack.addWidget(self.table)
        self._stack.addWidget(empty)
        left = column(row(self.model, 1), self._stack, self._reason, self._counts, gap=8)
        left.setStretch(1, 1)
        self.table.selectionModel().currentChanged.connect(lambda *_: self._show_reason())
        layout = row(left, self._right(), gap=16)
        layout.setStretch(0, 1)
        self.setLayout(layout)
        presenter.attach(self)

    def _right(self) -> QWidget:
        self.form = FormView(self._presenter.enter)
        scroll = scrolled(self.form)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._estimate = Label("", "dim", wrap=True)
        self._why_not = Label("", "caution", wrap=True)
        self.start = QPushButton("Start")
        self.start.setProperty("role", "primary")
        self.start.clicked.connect(lambda: self._presenter.start())
        right = QWidget()
        right.setFixedWidth(_FORM_WIDTH)
        layout = column(scroll, self._estimate, self._why_not, row(1, self.start), gap=8)
        layout.setStretch(0, 1)
        right.setLayout(layout)
        return right

    def show_state(self, state: TrainingSetupState) -> None:
        """Draw the state."""
        self._show_models(state)
        self._counts.setText(state.counts)
        self.cases.set_cases(state.preview.cases if state.preview is not None else ())
        self._show_reason()
        self._stack.setCurrentIndex(1 if state.message else 0)
        self._message.setText(state.message)
        self.form.show_form(state.form, dict(state.entered), dict(state.problems))
        self._estimate.setText("Laying out the cases…" if state.starting else state.estimate)
        problem = next((words for _, words in state.problems), "")
        self._why_not.setText(problem or state.why_not if not state.message else "")
        self._why_not.setVisible(bool(self._why_not.text()))
        self.start.setEnabled(state.can_start)
        self.start.setToolTip(_start_tip(state))

    def _show_reason(self) -> None:
        """Say in full what the selected line says in short."""
        place = self.table.currentIndex().row()
        case = self.cases.cases[place] if 0 <= place < len(self.cases.cases) else None
        self._reason.setText(f"{case.patient}: {use_in_words(case)}" if case is not None else "")
        self._reason.setVisible(case is not None)

    def _show_models(self, state: TrainingSetupState) -> None:
        wanted = [(f"{model.title} {model.version}", model.id) for model in state.models]
        present = [(self.model.itemText(n), self.model.itemData(n)) for n in range(self.model.count())]
        if wanted != present:
            self.model.clear()
            for text, model_id in wanted:
                self.model.addItem(text, model_id)
        self.model.setCurrentIndex(self.model.findData(state.model_id))
        self.model.setEnabled(bool(state.models))
        self.model.setToolTip(self.model.currentText() or "Model to improve")


def _start_tip(state: TrainingSetupState) -> str:
    if state.can_start:
        return "Train a candidate; the model in use stays as it is"
    problem = state.problems[0][1] if state.problems else ""
    return problem or state.why_not or state.message or "One moment…"
