"""The only place where objects are built and wired.

Order of a start: theme and window, first paint, and only then the engine on the database thread. What the
window shows before that is the empty state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QStandardPaths
from PySide6.QtWidgets import QApplication

from app.actions.action import Action, ActionRegistry
from app.actions.schemes import DEFAULT, KeyScheme
from app.actions.window_actions import (
    FILES,
    FINDINGS,
    PANELS,
    PROGRAM,
    Subjects,
    add_model_actions,
    add_reading_actions,
)
from app.bridge.engine_events import EngineEvents, JobEvents
from app.bridge.executors import Executors
from app.bridge.gateway import EngineGateway
from app.presenters.audit import AuditPresenter
from app.presenters.explanation import ExplanationPresenter
from app.presenters.exporting import ExportPresenter
from app.presenters.findings import FindingsPresenter
from app.presenters.importing import ImportPresenter
from app.presenters.jobs import JobsPresenter
from app.presenters.models import ModelsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.palette import PalettePresenter
from app.presenters.ports import ignore
from app.presenters.reading import ReadingPresenter
from app.presenters.session import Panels, SessionPresenter
from app.presenters.status import StatusPresenter
from app.presenters.worklist import WorklistPresenter
from app.views.audit.audit_panel import AuditPanel
from app.views.explanation.explanation_panel import ExplanationPanel
from app.views.findings.findings_panel import ExportLine, FindingsPanel
from app.views.jobs.jobs_panel import JobsPanel
from app.views.main_window import MainWindow, Parts
from app.views.models.models_panel import ModelsPanel
from app.views.reading_area import ReadingArea
from app.views.theme import Theme
from app.views.widgets.controls import action_button
from app.views.widgets.notice_stack import NoticeStack
from app.views.widgets.status_bar import StatusBar
from app.views.widgets.top_bar import TopBar
from app.views.worklist.worklist_panel import WorklistPanel
from core.config.paths import Paths
from core.domain.errors import AppError
from core.domain.result import Verdict
from core.domain.study import ImportReport, SeriesSummary


@dataclass(frozen=True)
class Start:
    """What the command line asks for."""

    home: Path | None = None
    sample: bool = False
    files: tuple[Path, ...] = ()


class Application(QObject):
    """Everything that lives as long as the window."""

    def __init__(self, qt: QApplication, start: Start) -> None:
        super().__init__()
        self.qt = qt
        self._start = start
        self._closed = False
        self._open_when_listed: str = ""
        remembered = peek_settings(Paths.resolve(start.home).settings)
        self.theme = Theme.load(_theme_name(remembered))
        qt.setStyleSheet(self.theme.stylesheet())
        qt.setFont(self.theme.font())
        self._make_engine()
        self._make_presenters()
        self.registry = ActionRegistry()
        self._make_actions(remembered)
        self._make_window()
        self._wire()
        self.window.restore_layout(str(remembered.get("window_layout") or ""))

    # -- building ----------------------------------------------------------------------------------

    def _make_engine(self) -> None:
        self.tasks = Executors(self)
        self.events = EngineEvents(self)
        self.gateway = EngineGateway(self._start.home, self.events.publish)

    def _make_presenters(self) -> None:
        engine, tasks = self.gateway, self.tasks
        self.notices = NoticesPresenter()
        self.status = StatusPresenter()
        self.reading = ReadingPresenter()
        self.worklist = WorklistPresenter(engine, tasks, self.notices)
        self.findings = FindingsPresenter(engine, tasks, self.notices, self.reading)
        self.models = ModelsPresenter(engine, tasks, self.notices)
        self.explanation = ExplanationPresenter(engine, tasks, self.notices, self.reading)
        self.export = ExportPresenter(engine, tasks, self.notices, self.status)
        self.jobs = JobsPresenter(engine, tasks, self.notices)
        self.audit = AuditPresenter(engine, tasks, self.notices)
        self.imports = ImportPresenter(engine, tasks, self.notices, self.status)
        panels = Panels(
            self.reading,
            self.findings,
            self.models,
            self.explanation,
            self.export,
            self.status,
            self.notices,
        )
        self.session = SessionPresenter(engine, tasks, panels)

    def _make_actions(self, remembered: dict[str, Any]) -> None:
        registry = self.registry
        subjects = Subjects(
            self.reading,
            self.worklist,
            self.findings,
            self.models,
            self.explanation,
            self.jobs,
            self.notices,
            self.session,
        )
        self._add_window_actions()
        add_reading_actions(registry, subjects)
        add_model_actions(registry, subjects)
        self.palette = PalettePresenter(registry.commands, lambda name: ignore(registry.trigger(name)))
        registry.bind(dict(_scheme(str(remembered.get("key_scheme") or DEFAULT)).keys))

    def _add_window_actions(self) -> None:
        for action_id, title, group, icon in (
            ("file.open", "Open files", FILES, "folder"),
            ("file.sample", "Open the sample study", FILES, "sample"),
            ("search.focus", "Search", FILES, "search"),
            ("palette.open", "Find a command", PROGRAM, "command"),
            ("help.keys", "Show the keys", PROGRAM, "keyboard"),
            ("panel.left", "Fold the worklist", PANELS, "panel-left"),
            ("panel.right", "Fold findings and models", PANELS, "panel-right"),
            ("panel.jobs", "Jobs", PANELS, "jobs"),
            ("panel.audit", "Audit trail", PANELS, "audit"),
            ("view.full_screen", "Full screen", PANELS, "fit"),
            ("view.theme", "Dark or light", PANELS, "theme"),
            ("view.identity", "Show or hide patient identity", FILES, "eye"),
            ("focus.worklist", "Go to the worklist", PANELS, "panel-left"),
            ("focus.reading", "Back to the pictures", PANELS, "image"),
            ("focus.findings", "Go to the findings", PANELS, "findings"),
            ("focus.models", "Go to the models", PANELS, "model"),
            ("notice.dismiss", "Dismiss the newest notice", PROGRAM, "close"),
            ("finding.edit", "Edit the finding (give the reason)", FINDINGS, "edit"),
            ("finding.reason", "Give a reason for the verdict", FINDINGS, "text"),
            ("result.export", "Export the result", FINDINGS, "export"),
            ("audit.verify", "Verify the audit trail", PROGRAM, "audit"),
            ("app.quit", "Quit", PROGRAM, "close"),
        ):
            run = getattr(self, f"_do_{action_id.replace('.', '_')}")
            self.registry.add(Action(action_id, title, group, run, icon))

    def _make_window(self) -> None:
        theme, registry = self.theme, self.registry
        self.top_bar = TopBar(theme, registry, self.worklist.search)
        folds = [action_button(theme, registry, name) for name in ("panel.jobs", "panel.audit")]
        for button in folds:
            button.setProperty("compact", "true")
        self.status_bar = StatusBar(theme, self._cancel, *folds)
        self.worklist_panel = WorklistPanel(self.worklist, theme, registry, self._open_key, self._open_study)
        self.findings_panel = FindingsPanel(self.findings, theme, registry)
        self.models_panel = ModelsPanel(self.models, theme, registry, self.jobs.cancel)
        self.explanation_panel = ExplanationPanel(self.explanation, theme, registry)
        self.export_line = ExportLine(self.export, theme, registry, self._choose_export_folder)
        self.reading_area = ReadingArea(self.reading, theme)
        self.jobs_panel = JobsPanel(self.jobs, theme)
        self.audit_panel = AuditPanel(self.audit, theme, registry)
        self.notice_stack = NoticeStack(self.notices, theme)
        parts = Parts(
            self.top_bar,
            self.status_bar,
            self.worklist_panel,
            self.notice_stack,
            self.reading_area,
            (self.findings_panel, self.models_panel, self.explanation_panel, self.export_line),
            self.jobs_panel,
            self.audit_panel,
        )
        self.window = MainWindow(theme, registry, self.palette, parts, self.take_files)
        self.window.hold_overlays = self.reading.hold_overlays
        self.window.on_close = self.close
        self._export_folder = (
            Path(QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation))
            / "Overread"
        )

    def _wire(self) -> None:
        self.status.attach(self.status_bar)
        self.jobs.attach(self.status)
        self.jobs.listen(self.models.set_jobs)
        self.jobs.listen(self.explanation.set_jobs)
        self.jobs.finished = self.session.on_job_finished
        self.audit.attach(_Attached(self.status.set_audit))
        self.explanation.attach(_Attached(lambda state: self.export.set_has_map(state.has_map)))
        self.imports.imported = self._on_imported
        self.worklist.refreshed = self._on_listed
        self.session.opened = self._on_opened
        self.session.undecided = self._on_undecided
        self._job_events = JobEvents(self.events, self.jobs, self)
        self.window.first_painted.connect(self._open_engine)

    # -- life --------------------------------------------------------------------------------------

    def show(self) -> None:
        """Show the window; the engine opens after its first paint."""
        self.window.show()
        self.reading_area.setFocus()

    def _open_engine(self) -> None:
        self.tasks.db(self.gateway.open, self._on_engine_open, self._on_engine_failed)

    def _on_engine_open(self, told: tuple[str, ...]) -> None:
        for text in told:
            self.notices.say("caution", text)
        self.top_bar.set_reader(self.gateway.reader)
        self.worklist.refresh()
        self.jobs.refresh()
        self.audit.verify()
        if self._start.files:
            self.take_files(list(self._start.files))
        if self._start.sample:
            self.imports.import_sample()

    def _on_engine_failed(self, error: AppError) -> None:
        self.notices.report(error)
        self.reading.fail("The library can't be opened", error.user_message, error.remedy)

    def close(self) -> None:
        """Keep the layout, stop the worker, close the library. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.imports.cancel()
        self.session.cancel_loading()
        layout, theme = self.window.layout_state(), self.theme.name
        self.tasks.shutdown(lambda: self._last_words(layout, theme))

    def _last_words(self, layout: str, theme: str) -> None:
        try:
            self.gateway.save_layout(layout, theme)
        finally:
            self.gateway.close()

    # -- what the screens ask for ------------------------------------------------------------------

    def take_files(self, files: list[Path]) -> None:
        """Import files and open what they hold."""
        self.imports.import_paths(files)

    def _on_imported(self, report: ImportReport) -> None:
        if report.studies and self.session.summary is None:
            self._open_when_listed = report.studies[0].study_uid
        self.worklist.refresh()
        if self.audit_panel.isVisible():
            self.audit.refresh()

    def _on_listed(self) -> None:
        study_uid, self._open_when_listed = self._open_when_listed, ""
        # Somebody who is reading keeps their picture: an import never steals the screen.
        if study_uid and self.session.summary is None:
            self._open_study(study_uid)

    def _open_key(self, series_key: str) -> None:
        summary = self.worklist.series(series_key)
        if summary is not None:
            self.session.open_series(summary)

    def _open_study(self, study_uid: str) -> None:
        summary = self.worklist.first_series_of(study_uid)
        if summary is not None:
            self.session.open_series(summary)

    def _on_opened(self, summary: SeriesSummary) -> None:
        self.worklist.set_current(summary.key)
        self._show_title()

    def _show_title(self) -> None:
        summary = self.session.summary
        if summary is None:
            return
        name = self.worklist.patient_name(summary.study_uid)
        self.top_bar.set_study(" · ".join(part for part in (name, summary.description) if part))

    def _on_undecided(self, study_uid: str, count: int) -> None:
        self.worklist.set_waiting(study_uid, count)
        self.top_bar.set_waiting(self.worklist.waiting)
        if self.audit_panel.isVisible():
            self.audit.refresh()

    def _cancel(self, what: str) -> None:
        {"import": self.imports.cancel, "load": self.session.cancel_loading}.get(
            what, self.jobs.cancel_running
        )()

    def _choose_export_folder(self) -> None:
        self.window.ask_for_folder("Folder for exports", self._take_export_folder)

    def _take_export_folder(self, folder: Path) -> None:
        self._export_folder = folder
        self.export.export(folder)

    # -- actions of the window ---------------------------------------------------------------------

    def _do_file_open(self) -> None:
        self.window.ask_for_files()

    def _do_file_sample(self) -> None:
        self.imports.import_sample()

    def _do_search_focus(self) -> None:
        self.top_bar.search.setFocus()
        self.top_bar.search.selectAll()

    def _do_palette_open(self) -> None:
        self.palette.open()

    def _do_help_keys(self) -> None:
        self.window.cheat_sheet.toggle()

    def _do_panel_left(self) -> None:
        self.window.toggle_panel(self.window.left_panel)

    def _do_panel_right(self) -> None:
        self.window.toggle_panel(self.window.right_panel)

    def _do_panel_jobs(self) -> None:
        self.window.show_tab(0)

    def _do_panel_audit(self) -> None:
        self.window.show_tab(1)

    def _do_view_full_screen(self) -> None:
        self.window.toggle_full_screen()

    def _do_view_theme(self) -> None:
        self.theme = Theme.load("light" if self.theme.name == "dark" else "dark")
        self.window.apply_theme(self.theme)

    def _do_view_identity(self) -> None:
        self.worklist.toggle_identity()
        self._show_title()

    def _do_focus_worklist(self) -> None:
        self.window.left_panel.show()
        self.worklist_panel.tree.setFocus()

    def _do_focus_reading(self) -> None:
        if self.top_bar.search.hasFocus() and self.top_bar.search.text():
            self.top_bar.search.clear()
            return
        self.window.leave()

    def _do_focus_findings(self) -> None:
        self.window.right_panel.show()
        self.findings_panel.list.setFocus()

    def _do_focus_models(self) -> None:
        self.window.right_panel.show()
        self.models_panel.focus_first()

    def _do_notice_dismiss(self) -> None:
        self.notices.dismiss_last()

    def _do_finding_edit(self) -> None:
        self.findings.decide(Verdict.EDIT)
        self._do_finding_reason()

    def _do_finding_reason(self) -> None:
        if self.findings.state.current is not None:
            self.window.right_panel.show()
            self.findings_panel.focus_reason()

    def _do_result_export(self) -> None:
        self.export.export(self._export_folder)

    def _do_audit_verify(self) -> None:
        self.audit.verify()

    def _do_app_quit(self) -> None:
        self.window.close()


class _Attached:
    """Lets a function take the states of a presenter."""

    def __init__(self, take: Any) -> None:
        self._take = take

    def show_state(self, state: Any) -> None:
        """Pass the state on."""
        self._take(state)


def peek_settings(path: Path) -> dict[str, Any]:
    """Return what the first paint needs of the settings file; the engine reads and checks it properly later."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _theme_name(remembered: dict[str, Any]) -> str:
    return "light" if remembered.get("theme") == "light" else "dark"


def _scheme(name: str) -> KeyScheme:
    try:
        return KeyScheme.load(name)
    except (FileNotFoundError, ValueError):
        return KeyScheme.load(DEFAULT)
