"""The import panel: what each import did, which files were skipped and why, conflicts, quarantine."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtWidgets import QPushButton, QSizePolicy, QSplitter, QTableView, QVBoxLayout, QWidget

from app.actions.action import ActionRegistry
from app.presenters.identity import IdentityPresenter, IdentityState
from app.presenters.import_issues import (
    CONFLICTS,
    QUARANTINE,
    SKIPPED,
    ImportIssuesPresenter,
    IssuesState,
    Reason,
)
from app.presenters.importing import ImportPresenter, ImportRun, ImportsState, masked_file
from app.presenters.ports_library import KEEP_LIBRARY, KEEP_NEW, ConflictRow, QuarantineRow
from app.views.theme import Theme
from app.views.widgets.controls import ElidedCombo, Label, column, row
from app.views.widgets.rows_table import Pages, RowsModel, rows_table, selected_rows
from core.domain.person_name import isolated
from core.domain.study import SkippedFile

_STATES = {"running": "Running", "cancelled": "Not imported", "failed": "Failed"}


class ImportPanel(QWidget):
    """Draws imports and their issues; names of files are masked while identity is hidden."""

    def __init__(
        self,
        imports: ImportPresenter,
        issues: ImportIssuesPresenter,
        identity: IdentityPresenter,
        theme: Theme,
        registry: ActionRegistry,
    ) -> None:
        super().__init__()
        self._issues = issues
        self._hidden = identity.hidden
        self._shown: IssuesState | None = None
        self._reasons: tuple[Reason, ...] = ()
        self.runs = RowsModel[ImportRun](("Import", "What happened"), self._run_cells)
        self.skipped = RowsModel[SkippedFile](("File", "Why it was skipped"), self._skipped_cells)
        self.conflicts = RowsModel[ConflictRow](
            ("The library has", "The other file", "Seen (UTC)"), self._conflict_cells
        )
        self.quarantine = RowsModel[QuarantineRow](
            ("File", "What is wrong", "Seen (UTC)"), self._quarantine_cells
        )
        self.runs_table = rows_table(theme, self.runs, "Imports", (104,))
        self.skipped_table = rows_table(theme, self.skipped, "Skipped files", (152,))
        self.conflict_table = rows_table(theme, self.conflicts, "Conflicts", (128, 128))
        self.quarantine_table = rows_table(theme, self.quarantine, "Quarantine", (128, 168))
        self.reason = ElidedCombo("Reason")
        self.reason.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.reason.activated.connect(lambda place: issues.choose_reason(self.reason.itemData(place)))
        self.copy = _button("Copy the list", "Copy what is listed, with reasons", self._copy_skipped)
        self.keep_library = _button(
            "Keep the library's", "The other file stays out", lambda: self._resolve(KEEP_LIBRARY)
        )
        self.keep_new = _button(
            "Take the other", "The other file replaces the library's", lambda: self._resolve(KEEP_NEW)
        )
        self.retry = _button("Try again", "Import the file again", lambda: issues.retry(self._ids()))
        self.forget = _button(
            "Forget",
            "Take it off this list; your own file is not touched",
            lambda: issues.forget(self._ids()),
        )
        self.pages = Pages(
            (
                (SKIPPED, "Skipped", _page(self.skipped_table, self.reason, self.copy)),
                (CONFLICTS, "Conflicts", _page(self.conflict_table, 1, self.keep_library, self.keep_new)),
                (QUARANTINE, "Quarantine", _page(self.quarantine_table, 1, self.forget, self.retry)),
            ),
            issues.show_page,
        )
        self.setLayout(self._arranged(registry))
        for table in (self.conflict_table, self.quarantine_table):
            table.selectionModel().selectionChanged.connect(lambda *_: self._update_buttons())
        imports.attach(_Runs(self.show_runs))
        issues.attach(self)
        identity.attach(_Identity(self.hide_identity))

    def _arranged(self, registry: ActionRegistry) -> QVBoxLayout:
        open_files = QPushButton("Open files…")
        open_files.clicked.connect(lambda: registry.trigger("file.open"))
        open_folder = QPushButton("Open a folder…")
        open_folder.clicked.connect(lambda: registry.trigger("file.folder"))
        self._no_runs = Label("Nothing imported since the start. Drop a study anywhere.", "dim", wrap=True)
        margins = (12, 8, 12, 8)
        left, right = QWidget(), QWidget()
        left.setLayout(
            column(self._no_runs, self.runs_table, row(open_files, open_folder, 1), gap=8, margins=margins)
        )
        right.setLayout(column(self.pages, margins=margins))
        split = QSplitter()
        split.setChildrenCollapsible(False)
        split.setHandleWidth(1)
        # Reasons are sentences; they get the room.
        for place, (side, share) in enumerate(((left, 2), (right, 3))):
            split.addWidget(side)
            split.setStretchFactor(place, share)
        split.setSizes([800, 1200])
        return column(split, gap=0)

    # -- drawing -----------------------------------------------------------------------------------

    def show_runs(self, state: ImportsState) -> None:
        """Draw the imports."""
        self.runs.set_rows(state.runs)
        self._no_runs.setVisible(not state.runs)
        self.runs_table.setVisible(bool(state.runs))

    def hide_identity(self, hidden: bool) -> None:
        """Mask names of files, or show them."""
        self._hidden = hidden
        for model in (self.runs, self.skipped, self.conflicts, self.quarantine):
            model.redraw()

    def show_state(self, state: IssuesState) -> None:
        """Draw what imports left."""
        self._shown = state
        self.skipped.set_rows(state.listed)
        self.conflicts.set_rows(state.conflicts)
        self.quarantine.set_rows(state.quarantine)
        self.pages.set_title(SKIPPED, _counted("Skipped", len(state.skipped)))
        self.pages.set_title(CONFLICTS, _counted("Conflicts", len(state.conflicts)))
        self.pages.set_title(QUARANTINE, _counted("Quarantine", len(state.quarantine)))
        self.pages.show_page(state.page)
        self._fill_reasons(state)
        self._update_buttons()
        if self.isVisible() and not state.seen:
            self._issues.mark_seen()

    def _fill_reasons(self, state: IssuesState) -> None:
        if state.reasons != self._reasons or self.reason.count() == 0:
            self._reasons = state.reasons
            self.reason.clear()
            self.reason.addItem("All reasons", "")
            for reason in state.reasons:
                self.reason.addItem(f"{reason.count} · {reason.message}", reason.code)
        self.reason.setCurrentIndex(max(0, self.reason.findData(state.reason)))

    def _update_buttons(self) -> None:
        state = self._shown
        if state is None:
            return
        self.reason.setEnabled(bool(state.skipped))
        self.copy.setEnabled(bool(state.listed))
        conflicts = bool(selected_rows(self.conflict_table, self.conflicts)) and not state.busy
        self.keep_library.setEnabled(conflicts)
        self.keep_new.setEnabled(conflicts)
        quarantine = bool(self._ids()) and not state.busy
        self.retry.setEnabled(quarantine)
        self.forget.setEnabled(quarantine)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._issues.refresh()
        self._issues.mark_seen()

    # -- cells -------------------------------------------------------------------------------------

    def _file(self, file: str) -> str:
        if self._hidden:
            return masked_file(file)
        # The name first: where it lies matters less and is the part to cut.
        folder, separator, name = file.rpartition("/")
        return isolated(f"{name} · {folder}" if separator else file)

    def _run_cells(self, run: ImportRun) -> tuple[str, ...]:
        title = run.plain_title if self._hidden else isolated(run.title)
        state = _STATES.get(run.state, "")
        return title, " · ".join(part for part in (state, run.words) if part)

    def _skipped_cells(self, skipped: SkippedFile) -> tuple[str, ...]:
        return self._file(skipped.file), skipped.message

    def _conflict_cells(self, conflict: ConflictRow) -> tuple[str, ...]:
        seen = conflict.seen_utc[:16].replace("T", " ")
        return self._file(conflict.library_file), self._file(conflict.other_file), seen

    def _quarantine_cells(self, file: QuarantineRow) -> tuple[str, ...]:
        return self._file(file.file), file.message, file.seen_utc[:16].replace("T", " ")

    # -- acts --------------------------------------------------------------------------------------

    def _ids(self) -> tuple[str, ...]:
        return tuple(file.file_id for file in selected_rows(self.quarantine_table, self.quarantine))

    def _resolve(self, keep: str) -> None:
        chosen = selected_rows(self.conflict_table, self.conflicts)
        self._issues.resolve([conflict.conflict_id for conflict in chosen], keep)

    def _copy_skipped(self) -> None:
        QGuiApplication.clipboard().setText(self._issues.text_of_skipped(self._hidden))


class _Runs:
    """Passes the imports on."""

    def __init__(self, take: Callable[[ImportsState], None]) -> None:
        self._take = take

    def show_state(self, state: ImportsState) -> None:
        self._take(state)


class _Identity:
    """Passes on whether identity is hidden."""

    def __init__(self, take: Callable[[bool], None]) -> None:
        self._take = take

    def show_state(self, state: IdentityState) -> None:
        self._take(state.hidden)


def _counted(title: str, count: int) -> str:
    return f"{title} {count}" if count else title


def _button(title: str, tip: str, run: Callable[[], None]) -> QPushButton:
    button = QPushButton(title)
    button.setToolTip(tip)
    button.clicked.connect(lambda: run())
    return button


def _page(table: QTableView, *tools: QWidget | int) -> QWidget:
    page = QWidget()
    page.setLayout(column(table, row(*tools, gap=8), gap=8))
    return page
