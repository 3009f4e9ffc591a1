"""The library panel: what may leave it and when, backups, the check."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QIntValidator, QShowEvent
from PySide6.QtWidgets import QCheckBox, QLineEdit, QPushButton, QWidget

from app.actions.action import ActionRegistry
from app.presenters.housekeeping import (
    HousekeepingPresenter,
    HousekeepingState,
    rule_in_words,
)
from app.presenters.identity import IdentityPresenter, IdentityState, without_identity
from app.views.theme import Theme
from app.views.widgets.controls import ElidedCombo, ElidedLabel, Label, column, follow_keys, row
from app.views.widgets.rows_table import Pages, RowsModel, rows_table, selected_rows
from app.views.widgets.scrolled import Page, scrolled
from core.domain.browse import BackupInfo, CheckFinding, RetentionRule, StudyLine
from core.domain.person_name import isolated
from core.domain.study import ReadStatus

RETENTION, BACKUP, CHECK = "retention", "backup", "check"
_KINDS = {"manual": "by hand", "daily": "daily", "migration": "before an update"}
_MOST_DAYS = 36_500
_NAME_LENGTH = 60


class LibraryPanel(QWidget):
    """Draws what keeps the library in order."""

    def __init__(
        self,
        presenter: HousekeepingPresenter,
        identity: IdentityPresenter,
        theme: Theme,
        registry: ActionRegistry,
    ) -> None:
        super().__init__()
        self._presenter = presenter
        self._hidden = identity.hidden
        self._theme = theme
        self.rules = RowsModel[RetentionRule](("Rule", "Removes studies"), _rule_cells)
        self.due = RowsModel[StudyLine](("Study", "Date", "Files"), self._due_cells)
        self.backups = RowsModel[BackupInfo](("Made (UTC)", "Size", "Kind"), _backup_cells)
        self.findings = RowsModel[CheckFinding](("What was found", "What to do"), _finding_cells)
        pages = (
            (RETENTION, "Retention", self._retention_page()),
            (BACKUP, "Backup", self._backup_page(registry)),
            (CHECK, "Check", self._check_page(registry)),
        )
        self.pages = Pages(pages)
        self.setLayout(column(self.pages, margins=(12, 8, 12, 8)))
        for table in (self.rule_table, self.backup_table):
            table.selectionModel().selectionChanged.connect(lambda *_: self._update_buttons())
        presenter.attach(self)
        identity.attach(_Identity(self._hide_identity))

    # -- pages -------------------------------------------------------------------------------------

    def _retention_page(self) -> QWidget:
        presenter = self._presenter
        self.rule_table = rows_table(self._theme, self.rules, "Retention rules", (112,))
        self.due_table = rows_table(self._theme, self.due, "Studies that would be removed", (128, 76))
        self.due_table.hide()
        self._preview = ElidedLabel("", "dim")
        self.preview = _button(
            "Preview", "Show what the rule would remove now", lambda: self._on_rule(presenter.preview)
        )
        self.apply = _button(
            "Apply…", "Remove these studies, after a question", lambda: self._on_rule(presenter.apply)
        )
        self.drop = _button(
            "Delete the rule", "It removes no study", lambda: self._on_rule(presenter.delete_rule)
        )
        self._no_rules = Label(
            "No rules: every study stays until somebody deletes it. Add one to find old studies; "
            "it removes nothing until you apply it.",
            "dim",
            wrap=True,
        )
        buttons = row(self._preview, self.drop, self.preview, self.apply, gap=8)
        buttons.setStretch(0, 1)
        tables = row(self.rule_table, self.due_table, gap=12)
        return scrolled(Page(column(self._no_rules, tables, buttons, self._new_rule(), gap=8)))

    def _new_rule(self) -> QWidget:
        self.rule_name = QLineEdit()
        self.rule_name.setMaxLength(_NAME_LENGTH)
        self.rule_name.setPlaceholderText("Name of a new rule")
        self.rule_name.setAccessibleName("Name of the rule")
        self.rule_name.textChanged.connect(lambda _: self._update_buttons())
        self.rule_name.returnPressed.connect(self._add_rule)
        self.days = QLineEdit("365")
        self.days.setValidator(QIntValidator(1, _MOST_DAYS, self.days))
        self.days.setFixedWidth(64)
        self.days.setAccessibleName("Days since the import")
        self.days.textChanged.connect(lambda _: self._update_buttons())
        self.status = ElidedCombo("Reading status")
        self.status.addItem("only reviewed", (ReadStatus.REVIEWED.value,))
        self.status.addItem("in any status", ())
        self.status.setFixedWidth(128)
        self.kept = QLineEdit()
        self.kept.setPlaceholderText("Keep studies with one of these tags, separated by commas")
        self.kept.setAccessibleName("Tags that keep a study, separated by commas")
        self.kept.setToolTip("Studies with one of these tags stay; separate tags by commas")
        self.copies = QCheckBox("Copies only")
        self.copies.setToolTip("Leave linked studies alone: removing them frees no space")
        self.add = _button("Add", "Keep the rule; it removes nothing until you apply it", self._add_rule)
        after, days = Label("after", "dim"), Label("days", "dim")
        first = row(self.rule_name, after, self.days, days, self.status, gap=8)
        first.setStretch(0, 1)
        second = row(self.kept, self.copies, self.add, gap=8)
        second.setStretch(0, 1)
        form = QWidget()
        form.setLayout(column(first, second, gap=8))
        return form

    def _backup_page(self, registry: ActionRegistry) -> QWidget:
        self.backup_table = rows_table(self._theme, self.backups, "Backups", (168, 96))
        self._no_backups = Label("No backup yet.", "dim")
        words = Label(
            "A backup holds index, identities, results and audit trail, sealed as the library is; no pictures.",
            "dim",
            wrap=True,
        )
        self.back_up = QPushButton("Back up now")
        follow_keys(self.back_up, registry, "library.backup")
        self.back_up.clicked.connect(lambda: registry.trigger("library.backup"))
        self.restore = _button(
            "Restore…", "Replace the library by this backup, after a question", self._restore
        )
        buttons = row(1, self.restore, self.back_up, gap=8)
        return scrolled(Page(column(words, self._no_backups, self.backup_table, buttons, gap=8)))

    def _check_page(self, registry: ActionRegistry) -> QWidget:
        self.finding_table = rows_table(self._theme, self.findings, "Findings of the check", (360,))
        self._check = Label("", "dim", wrap=True)
        self.check = QPushButton("Check now")
        follow_keys(self.check, registry, "library.check")
        self.check.clicked.connect(lambda: registry.trigger("library.check"))
        self.full = _button(
            "Check every file",
            "Compare every file with its fingerprint; takes as long as reading them all",
            lambda: self._presenter.check(full=True),
        )
        buttons = row(1, self.full, self.check, gap=8)
        return scrolled(Page(column(self._check, self.finding_table, 1, buttons, gap=8)))

    # -- drawing -----------------------------------------------------------------------------------

    def show_state(self, state: HousekeepingState) -> None:
        """Draw the state."""
        self.rules.set_rows(state.rules)
        self.due.set_rows(state.due or ())
        self.backups.set_rows(state.backups)
        self.findings.set_rows(state.check.findings if state.check else ())
        self._no_rules.setVisible(not state.rules)
        self.rule_table.setVisible(bool(state.rules))
        self.due_table.setVisible(bool(state.due))
        self._preview.setText(state.preview_words)
        self._no_backups.setVisible(not state.backups)
        self.backup_table.setVisible(bool(state.backups))
        self._check.setText(state.check_words)
        checked = state.check is not None and not state.checking
        self._check.set_role(
            ("verified" if state.check and state.check.ok else "danger") if checked else "dim"
        )
        self.finding_table.setVisible(bool(self.findings.rows))
        self._update_buttons()

    def _hide_identity(self, hidden: bool) -> None:
        self._hidden = hidden
        self.due.redraw()

    def _update_buttons(self) -> None:
        state = self._presenter.state
        free = not state.busy and not state.restored
        rule = bool(selected_rows(self.rule_table, self.rules)) and free
        for button in (self.preview, self.apply, self.drop):
            button.setEnabled(rule)
        self.add.setEnabled(self._is_rule() and free)
        self.back_up.setEnabled(free)
        self.restore.setEnabled(bool(selected_rows(self.backup_table, self.backups)) and free)
        self.check.setEnabled(not state.checking and free)
        self.full.setEnabled(not state.checking and free)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._presenter.refresh()

    # -- acts --------------------------------------------------------------------------------------

    def _on_rule(self, act: Callable[[str], None]) -> None:
        for rule in selected_rows(self.rule_table, self.rules)[:1]:
            act(rule.name)

    def _is_rule(self) -> bool:
        return bool(self.rule_name.text().strip()) and self.days.hasAcceptableInput()

    def _add_rule(self) -> None:
        if not self._is_rule():
            return
        name = self.rule_name.text().strip()
        tags = tuple(tag.strip() for tag in self.kept.text().split(",") if tag.strip())
        rule = RetentionRule(
            name, int(self.days.text()), self.status.currentData(), tags, self.copies.isChecked()
        )
        self._presenter.save_rule(rule)
        self.rule_name.clear()
        self.kept.clear()

    def _restore(self) -> None:
        for backup in selected_rows(self.backup_table, self.backups)[:1]:
            self._presenter.restore(backup.file)

    def _due_cells(self, line: StudyLine) -> tuple[str, ...]:
        described = line.description or "Study without description"
        if self._hidden:
            described = without_identity(described, line.identity)
        words = f"{'/'.join(line.modalities)} · {isolated(described)}"
        return words, line.study_date, str(line.instance_count)


class _Identity:
    """Passes on whether identity is hidden."""

    def __init__(self, take: Callable[[bool], None]) -> None:
        self._take = take

    def show_state(self, state: IdentityState) -> None:
        self._take(state.hidden)


def _rule_cells(rule: RetentionRule) -> tuple[str, ...]:
    return rule.name, rule_in_words(rule)


def _backup_cells(backup: BackupInfo) -> tuple[str, ...]:
    size = f"{backup.size_bytes / 1e6:.1f} MB"
    return backup.made_utc[:16].replace("T", " "), size, _KINDS.get(backup.kind, backup.kind)


def _finding_cells(finding: CheckFinding) -> tuple[str, ...]:
    return f"{'✗' if finding.is_fault else '!'} {finding.message}", finding.remedy


def _button(title: str, tip: str, run: Callable[[], None]) -> QPushButton:
    button = QPushButton(title)
    button.setToolTip(tip)
    button.clicked.connect(lambda: run())
    return button
