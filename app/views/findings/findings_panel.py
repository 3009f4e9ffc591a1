"""The findings panel: which result, its findings, the verdict strip, the reason, the export line."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QLineEdit, QPushButton, QStackedWidget, QWidget

from app.actions.action import ActionRegistry
from app.presenters.exporting import KINDS, ExportPresenter, ExportState
from app.presenters.findings import FindingsPresenter, FindingsState
from app.views.findings.answers_block import AnswersBlock
from app.views.findings.finding_list import VERDICTS, FindingList
from app.views.findings.mask_line import MaskLine
from app.views.theme import Theme
from app.views.widgets.controls import (
    ElidedCombo,
    IconButton,
    IconPushButton,
    Label,
    action_button,
    column,
    follow_keys,
    row,
)
from app.views.widgets.section import Section

_REASON = "Reason (optional), Enter keeps it"
_TITLES = {"accept": "Accept", "edit": "Edit", "reject": "Reject", "unsure": "Unsure"}


class FindingsPanel(QWidget):
    """Draws the findings and passes on what the reader decides."""

    def __init__(self, presenter: FindingsPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self._presenter = presenter
        self._showing = False
        self.results = ElidedCombo("Result")
        self.results.activated.connect(self._on_result)
        self._checks = Label("", "danger", wrap=True)
        self.list = FindingList(theme, presenter.select, presenter.toggle_visible)
        self._message = Label("", "dim", wrap=True)
        self.buttons = {name: self._verdict_button(theme, registry, name) for name in VERDICTS}
        self.reason = QLineEdit()
        self.reason.setPlaceholderText(_REASON)
        follow_keys(self.reason, registry, "finding.reason")
        self.reason.setMaxLength(400)
        self.reason.returnPressed.connect(self._on_reason)
        self._strip = QWidget()
        strip = row(*self.buttons.values(), gap=4)
        for place in range(len(self.buttons)):
            strip.setStretch(place, 1)
        self.mask_line = MaskLine(theme, presenter.give_mask, registry)
        self._strip.setLayout(column(strip, self.reason, self.mask_line, gap=8, margins=(12, 8, 12, 8)))
        top = QWidget()
        top.setLayout(column(self.results, self._checks, gap=4, margins=(12, 8, 12, 8)))
        self._top = top
        empty = QWidget()
        self.show_ai = IconPushButton(theme, "eye", "Show AI")
        follow_keys(self.show_ai, registry, "ai.toggle")
        self.show_ai.clicked.connect(lambda: registry.trigger("ai.toggle"))
        empty.setLayout(column(self._message, row(self.show_ai, 1), 1, gap=12, margins=(16, 16, 16, 16)))
        self._stack = QStackedWidget()
        self._stack.addWidget(self.list)
        self._stack.addWidget(empty)
        self._not_found = Label("", "faint", wrap=True)
        self._not_found.setToolTip("The model looked for these and found no voxel of them")
        self._not_found.setContentsMargins(12, 4, 12, 4)
        self.answers = AnswersBlock()
        body = QWidget()
        layout = column(top, self._stack, self.answers, self._not_found, self._strip, gap=0)
        layout.setStretch(1, 1)
        body.setLayout(layout)
        steps = [action_button(theme, registry, name) for name in ("finding.previous", "finding.next")]
        self.section = Section(theme, "Findings", body, *steps)
        self.setLayout(column(self.section, gap=0))
        presenter.attach(self)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self.list.set_theme(theme)

    def _verdict_button(self, theme: Theme, registry: ActionRegistry, verdict: str) -> QPushButton:
        icon, token, _ = VERDICTS[verdict]
        button = IconPushButton(theme, icon, _TITLES[verdict], token)
        button.setCheckable(True)
        button.setProperty("verdict", verdict)
        button.setProperty("compact", "true")
        follow_keys(button, registry, f"finding.{verdict}")
        button.clicked.connect(lambda: self._on_verdict(registry, verdict))
        return button

    def _on_verdict(self, registry: ActionRegistry, verdict: str) -> None:
        registry.trigger(f"finding.{verdict}")
        self.show_state(self._presenter.state)

    def _on_reason(self) -> None:
        self._presenter.set_reason(self.reason.text())

    def _on_result(self, place: int) -> None:
        self._presenter.show_result(self.results.itemData(place))

    def focus_reason(self) -> None:
        """Put the cursor into the reason."""
        self.reason.setFocus()
        self.reason.selectAll()

    def show_state(self, state: FindingsState) -> None:
        """Draw the state."""
        self._show_results(state)
        self._checks.setVisible(bool(state.checks))
        self._checks.setText("\n".join(state.checks))
        self.list.show_rows(state.rows, state.selected)
        self._stack.setCurrentIndex(0 if state.rows else 1)
        self._message.setText(state.message)
        self.show_ai.setVisible(state.withheld)
        self.answers.show_answers(state.answers)
        self._not_found.setVisible(bool(state.not_found))
        self._not_found.setText(f"Not found: {', '.join(state.not_found)}")
        current = state.current
        self._strip.setVisible(current is not None)
        edited = current if current is not None and current.verdict == "edit" else None
        self.mask_line.show_row(edited if edited is not None and edited.segment_value is not None else None)
        named = edited is not None and edited.segment_value is None
        self.reason.setPlaceholderText(_right_class(state.classes) if named else _REASON)
        for verdict, button in self.buttons.items():
            button.setChecked(current is not None and current.verdict == verdict)
        if not self.reason.hasFocus() or current is None:
            self.reason.setText(current.reason if current else "")
            self.reason.setCursorPosition(0)
        undecided = state.undecided
        self.section.set_count(f"{len(state.rows) - undecided}/{len(state.rows)}" if state.rows else "")

    def _show_results(self, state: FindingsState) -> None:
        self._top.setVisible(bool(state.results))
        wanted = [(f"{choice.title} · {choice.created[5:]}", choice.result_id) for choice in state.results]
        present = [(self.results.itemText(i), self.results.itemData(i)) for i in range(self.results.count())]
        if wanted != present:
            self.results.clear()
            for text, result_id in wanted:
                self.results.addItem(text, result_id)
        self.results.setCurrentIndex(max(0, self.results.findData(state.result_id)))
        self.results.setToolTip(self.results.currentText())


def _right_class(classes: tuple[str, ...]) -> str:
    """Return what is asked for when the answer of a classification is corrected."""
    known = ", ".join(classes[:3])
    return f"The right class ({known}{'…' if len(classes) > 3 else ''}), Enter keeps it"


class ExportLine(QWidget):
    """What to export, the button, and one line with what was written."""

    def __init__(
        self,
        presenter: ExportPresenter,
        theme: Theme,
        registry: ActionRegistry,
        choose_folder: Callable[[], None],
    ) -> None:
        super().__init__()
        self._chips = {kind: self._chip(presenter, kind) for kind in KINDS}
        self.button = IconPushButton(theme, "export", "Export")
        follow_keys(self.button, registry, "result.export")
        self.button.clicked.connect(lambda: registry.trigger("result.export"))
        folder = IconButton(theme, "folder", "Choose the folder for exports")
        folder.clicked.connect(choose_folder)
        self._words = Label("", "verified", wrap=True)
        self._folder = Label("", "faint", wrap=True)
        chips = row(*self._chips.values(), gap=4)
        for place, stretch in enumerate((3, 2, 3, 4, 3)):
            chips.setStretch(place, stretch)
        actions = row(self.button, folder, gap=4)
        actions.setStretch(0, 1)
        self.setLayout(column(chips, actions, self._words, self._folder, gap=8, margins=(12, 8, 12, 12)))
        presenter.attach(self)

    def _chip(self, presenter: ExportPresenter, kind: str) -> QPushButton:
        chip = QPushButton("PM" if kind == "pm" else KINDS[kind])
        chip.setCheckable(True)
        chip.setProperty("compact", "true")
        chip.setToolTip(f"Export {KINDS[kind]}")
        chip.clicked.connect(lambda: presenter.toggle(kind))
        return chip

    def show_state(self, state: ExportState) -> None:
        """Draw the state."""
        for kind, chip in self._chips.items():
            chip.setEnabled(kind in state.available)
            chip.setChecked(kind in state.chosen and kind in state.available)
        self.button.setEnabled(state.can_export)
        self.button.setText("Exporting…" if state.running else "Export")
        self._words.setVisible(bool(state.words))
        self._words.setText(state.words)
        self._folder.setVisible(bool(state.words))
        self._folder.setText(f"in {state.folder}" if state.folder else "")
