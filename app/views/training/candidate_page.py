"""Candidate beside the model in use: one sentence, gates, cases, who decides and why, what was decided before."""

from __future__ import annotations

from PySide6.QtWidgets import QLineEdit, QStackedWidget, QWidget

from app.presenters.candidates import CandidatesPresenter, CandidatesState
from app.presenters.training_words import entry_in_words, moment_in_words
from app.views.theme import Theme
from app.views.training.candidate_tables import CaseScoresModel, GatesModel, gates_table, scores_table
from app.views.widgets.controls import ElidedCombo, IconPushButton, Label, column, row
from app.views.widgets.rows_table import RowsModel, fit_columns, rows_table
from app.views.widgets.scrolled import Page
from core.domain.person_name import isolated
from core.domain.training import PromotionEntry

_CHOICE_WIDTH, _NAME_WIDTH = 208, 144
_NAME_LENGTH, _REASON_LENGTH = 100, 400


class CandidatePage(Page):
    """Draws a candidate and passes on what the reader decides."""

    def __init__(self, presenter: CandidatesPresenter, theme: Theme) -> None:
        super().__init__()
        self._presenter = presenter
        self.choice = ElidedCombo("Candidate")
        self.choice.setFixedWidth(_CHOICE_WIDTH)
        self.choice.activated.connect(lambda place: presenter.choose(self.choice.itemData(place)))
        self._summary = Label("", wrap=True)
        self._means = Label("", "dim", wrap=True)
        self.gates = GatesModel(theme)
        self.gates_table = gates_table(theme, self.gates)
        self.scores = CaseScoresModel()
        self.scores_table = scores_table(theme, self.scores, presenter.open_case)
        self.scores_table.setToolTip("Click a case to see its pictures")
        self.history = RowsModel[PromotionEntry](("What", "Who", "Why", "When (UTC)"), _entry_cells)
        self.history_table = fit_columns(rows_table(theme, self.history, "What was decided", ()))
        self._no_history = Label("Nothing was promoted yet.", "faint")
        left = column(self.gates_table, self._no_history, self.history_table, gap=8)
        left.setStretch(0, 1)
        left.setStretch(2, 1)
        tables = row(left, self.scores_table, gap=16)
        tables.setStretch(0, 1)
        tables.setStretch(1, 1)
        words = column(self._summary, self._means, gap=4)
        top = row(self.choice, words, gap=12)
        top.setStretch(1, 1)
        body = column(top, tables, self._signature(theme), gap=8)
        body.setStretch(1, 1)
        whole = Page(body)
        self._message = Label("", "dim", wrap=True)
        empty = QWidget()
        empty.setLayout(column(self._message, 1, margins=(4, 8, 4, 8)))
        self._stack = QStackedWidget()
        self._stack.addWidget(whole)
        self._stack.addWidget(empty)
        self.setLayout(column(self._stack))
        presenter.attach(self)

    def _signature(self, theme: Theme) -> QWidget:
        self.person = _line("Your name", "Stands in the audit trail", _NAME_LENGTH)
        self.person.setFixedWidth(_NAME_WIDTH)
        self.reason = _line("Reason", "Why you decide so; stands in the audit trail", _REASON_LENGTH)
        for edit in (self.person, self.reason):
            edit.textEdited.connect(lambda _: self._presenter.sign(self.person.text(), self.reason.text()))
        self.promote = IconPushButton(theme, "accept", "Promote", "verified")
        self.promote.clicked.connect(lambda: self._presenter.promote())
        self.roll_back = IconPushButton(theme, "undo", "Roll back")
        self.roll_back.clicked.connect(lambda: self._presenter.roll_back())
        self._why_not = Label("", "caution", wrap=True)
        line = row(self.person, self.reason, self.roll_back, self.promote, gap=8)
        line.setStretch(1, 1)
        held = QWidget()
        held.setLayout(column(line, self._why_not, gap=4))
        return held

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self.gates.theme = theme
        self.gates.redraw()

    def show_state(self, state: CandidatesState) -> None:
        """Draw the state."""
        self._stack.setCurrentIndex(1 if state.message else 0)
        self._message.setText(state.message)
        self._show_choice(state)
        self._summary.setText(state.summary)
        self._means.setText(_means(state))
        candidate = state.candidate
        self.gates.set_rows(candidate.gates if candidate is not None else ())
        self.scores.set_rows(state.cases)
        entries = state.versions.history if state.versions is not None else ()
        self.history.set_rows(entries)
        self.history_table.setVisible(bool(entries))
        self._no_history.setVisible(not entries)
        for edit, text in ((self.person, state.person), (self.reason, state.reason)):
            if edit.text() != text:
                edit.setText(text)
        promote, back = state.promote_why_not, state.roll_back_why_not
        self.promote.setEnabled(not promote)
        self.promote.setToolTip(promote or "Make the candidate the model in use")
        self.roll_back.setEnabled(not back)
        self.roll_back.setToolTip(back or f"Use {_former(state)} again, bit for bit")
        self._why_not.setText(promote)
        self._why_not.setVisible(bool(promote))

    def _show_choice(self, state: CandidatesState) -> None:
        wanted = [(_title(offer.candidate.title, offer.candidate.version), offer.candidate.candidate_id)
                  for offer in state.offers]  # fmt: skip
        present = [(self.choice.itemText(n), self.choice.itemData(n)) for n in range(self.choice.count())]
        if wanted != present:
            self.choice.clear()
            for text, candidate_id in wanted:
                self.choice.addItem(text, candidate_id)
        self.choice.setCurrentIndex(self.choice.findData(state.chosen))
        self.choice.setToolTip(self.choice.currentText())


def _title(title: str, version: str) -> str:
    return f"{title} {version}"


def _former(state: CandidatesState) -> str:
    return state.versions.previous_version if state.versions is not None else ""


def _means(state: CandidatesState) -> str:
    in_use = state.versions.current_version if state.versions is not None else ""
    return " · ".join(part for part in (state.means, f"in use: {in_use}" if in_use else "") if part)


def _entry_cells(entry: PromotionEntry) -> tuple[str, ...]:
    return (
        entry_in_words(entry),
        isolated(entry.by),
        isolated(entry.reason),
        moment_in_words(entry.created_utc),
    )


def _line(title: str, tip: str, longest: int) -> QLineEdit:
    edit = QLineEdit()
    edit.setMaxLength(longest)
    edit.setPlaceholderText(title)
    edit.setAccessibleName(title)
    edit.setToolTip(tip)
    edit.setAcceptDrops(False)
    return edit
