"""The only place where objects are built and wired.

Order of a start: theme and window, first paint, and only then the engine on the database thread. What the
window shows before that is the empty state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PySide6.QtCore import QObject, QTimer
from PySide6.QtWidgets import QApplication

from app.actions.action import ActionRegistry
from app.actions.browser_actions import add_browser_actions
from app.actions.library_actions import DeskSubjects, add_library_actions
from app.actions.picture_actions import add_object_actions, add_time_actions
from app.actions.schemes import DEFAULT, KeyScheme, scheme_names
from app.actions.training_actions import add_training_actions
from app.actions.window_actions import (
    Subjects,
    add_model_actions,
    add_reading_actions,
    add_window_actions,
)
from app.bridge.engine_events import EngineEvents, JobEvents
from app.bridge.executors import Executors
from app.bridge.gateway import EngineGateway
from app.presenters.audit import AuditPresenter
from app.presenters.derived import DerivedPresenter
from app.presenters.explanation import ExplanationPresenter
from app.presenters.exporting import ExportPresenter
from app.presenters.findings import FindingsPresenter, FindingsState
from app.presenters.housekeeping import HousekeepingPresenter
from app.presenters.identity import IdentityPresenter
from app.presenters.import_issues import ImportIssuesPresenter
from app.presenters.importing import ImportPresenter
from app.presenters.jobs import JobsPresenter
from app.presenters.models import ModelsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.palette import PalettePresenter
from app.presenters.playback import PlaybackPresenter
from app.presenters.ports import Preferences, ReviewEngine
from app.presenters.questions import QuestionsPresenter
from app.presenters.read_first import ReadFirstPresenter
from app.presenters.reading import ReadingPresenter
from app.presenters.remote_engines import RemoteEnginesPresenter
from app.presenters.saved_filters import COMMAND, SavedFilters
from app.presenters.session import Panels, SessionPresenter
from app.presenters.settings import SettingsPresenter, preferences_of
from app.presenters.status import StatusPresenter
from app.presenters.study_marks import StudyMarks
from app.presenters.study_opening import StudyOpener
from app.presenters.tags import TagsPresenter
from app.presenters.time_points import TimePointStore
from app.presenters.training_desk import PROGRESS, TrainingDesk
from app.presenters.watching import WatchPresenter
from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_state import WorklistState
from app.presenters.worklist_words import mixed_patients
from app.views.audit.audit_panel import AuditPanel
from app.views.explanation.explanation_panel import ExplanationPanel
from app.views.findings.findings_panel import ExportLine, FindingsPanel
from app.views.importing.import_panel import ImportPanel
from app.views.jobs.jobs_panel import JobsPanel
from app.views.library.library_panel import LibraryPanel
from app.views.library_commands import LibraryCommands
from app.views.main_window import MainWindow, Parts
from app.views.models.models_panel import ModelsPanel
from app.views.objects.objects_panel import ObjectsPanel
from app.views.objects.read_pane import ReadPane
from app.views.reading_area import ReadingArea
from app.views.settings.engine_section import EngineSection
from app.views.settings.settings_panel import SettingsPanel
from app.views.settings.watch_section import WatchSection
from app.views.tags.tags_panel import TagsPanel
from app.views.theme import Theme
from app.views.training_commands import TrainingCommands
from app.views.viewport.playback_bar import PlaybackBar
from app.views.widgets.controls import action_button
from app.views.widgets.lazy_page import LazyPage
from app.views.widgets.notice_stack import NoticeStack
from app.views.widgets.question_stack import QuestionStack
from app.views.widgets.status_bar import StatusBar
from app.views.widgets.top_bar import TopBar
from app.views.window_commands import Desk, WindowCommands
from app.views.worklist.worklist_panel import Browser, WorklistPanel
from core.config.paths import Paths
from core.domain.errors import AppError
from core.domain.study import ImportReport, SeriesSummary
from core.jobs.messages import Event

if TYPE_CHECKING:
    from app.views.training.training_panel import TrainingPanel


class LivingEngine(ReviewEngine, Protocol):
    """An engine that is opened and closed on the database thread."""

    def open(self) -> tuple[str, ...]:
        """Open; returns what a person should be told."""

    def warm_up(self) -> None:
        """Load what the first series will need; on an io thread, after ``open``."""

    def close(self) -> None:
        """Close."""

    def save_layout(self, layout: str, theme: str) -> None:
        """Keep the window's layout."""


@dataclass(frozen=True)
class Start:
    """What the command line asks for; ``care_after_ms`` is when the library is looked after, None for never."""

    home: Path | None = None
    sample: bool = False
    files: tuple[Path, ...] = ()
    care_after_ms: int | None = None


EngineMaker = Callable[[Start, Callable[[Event], None]], LivingEngine]


def make_gateway(start: Start, publish: Callable[[Event], None]) -> LivingEngine:
    """Return the real engine's gateway."""
    return EngineGateway(start.home, publish)


class Application(QObject):
    """Everything that lives as long as the window."""

    def __init__(self, qt: QApplication, start: Start, make_engine: EngineMaker = make_gateway) -> None:
        super().__init__()
        self._start = start
        self._closed = False
        self._open_when_listed = ""
        remembered = peek_settings(Paths.resolve(start.home).settings)
        # What lies where is told at the first start; later the doctor says it.
        self._first_start = not remembered.get("window_layout")
        chosen = preferences_of(remembered)
        theme = Theme.load(chosen.theme)
        qt.setFont(theme.font())
        qt.setStyleSheet(theme.stylesheet())
        self.tasks = Executors(self)
        self.events = EngineEvents(self)
        self.engine = make_engine(start, self.events.publish)
        self.commands = WindowCommands(theme)
        self._make_presenters(chosen)
        self._make_actions(chosen.key_scheme)
        self._make_panels(theme)
        self._make_window(theme)
        self._care_soon = QTimer(self)
        self._care_soon.setSingleShot(True)
        self._care_soon.timeout.connect(self._care)
        self._wire()
        self.window.restore_layout(str(remembered.get("window_layout") or ""))

    # -- building ----------------------------------------------------------------------------------

    def _make_presenters(self, chosen: Preferences) -> None:
        engine, tasks = self.engine, self.tasks
        self.notices = NoticesPresenter()
        self.status = StatusPresenter()
        self.reading = ReadingPresenter()
        self.identity = IdentityPresenter(chosen.identity_hidden)
        self.worklist = WorklistPresenter(engine, tasks, self.notices, self.identity)
        self.worklist.arrange(chosen.worklist_columns, chosen.worklist_sort)
        self.opener = StudyOpener(engine, tasks, self.notices, self.worklist)
        self.marks = StudyMarks(engine, tasks, self.notices, self.worklist)
        self.saved_filters = SavedFilters(engine, tasks, self.notices, self.worklist)
        self.findings = FindingsPresenter(engine, tasks, self.notices, self.reading)
        self.models = ModelsPresenter(engine, tasks, self.notices)
        self.explanation = ExplanationPresenter(engine, tasks, self.notices, self.reading)
        self.export = ExportPresenter(engine, tasks, self.notices, self.status)
        self.jobs = JobsPresenter(engine, tasks, self.notices)
        self.audit = AuditPresenter(engine, tasks, self.notices)
        self.questions = QuestionsPresenter()
        self.imports = ImportPresenter(engine, tasks, self.notices, self.status, self.questions)
        self.issues = ImportIssuesPresenter(engine, tasks, self.notices)
        self.watch = WatchPresenter(engine, tasks, self.notices, self.imports)
        self.engines = RemoteEnginesPresenter(engine, tasks, self.notices)
        self.tags = TagsPresenter(engine, tasks, self.notices)
        self.housekeeping = HousekeepingPresenter(engine, tasks, self.notices, self.questions, self.status)
        schemes = tuple((name, KeyScheme.load(name).title) for name in scheme_names())
        self.settings = SettingsPresenter(engine, tasks, self.notices, chosen, schemes)
        self.read_first = ReadFirstPresenter(engine, tasks, self.notices, self.findings, self.reading)
        self.read_first.set_on(chosen.read_first)
        self.reading.set_texts(chosen.corner_texts)
        self.playback = PlaybackPresenter(self.notices, self.reading, TimePointStore(engine, tasks))
        self.derived = DerivedPresenter(engine, tasks, self.notices, self.reading)
        self.training = TrainingDesk(engine, tasks, self.notices)
        panels = Panels(
            self.reading,
            self.findings,
            self.models,
            self.explanation,
            self.export,
            self.status,
            self.notices,
            (self.playback, self.derived),
            self.derived,
        )
        self.session = SessionPresenter(engine, tasks, panels)

    def _make_actions(self, scheme: str) -> None:
        self.registry = ActionRegistry()
        subjects = Subjects(
            self.reading,
            self.worklist,
            self.findings,
            self.models,
            self.explanation,
            self.jobs,
            self.notices,
            self.session,
            self.read_first,
            self.opener,
            self.marks,
        )
        add_window_actions(self.registry, self.commands.runs())
        add_reading_actions(self.registry, subjects)
        add_model_actions(self.registry, subjects)
        add_time_actions(self.registry, self.playback)
        add_object_actions(self.registry, self.derived, self.reading)
        add_browser_actions(self.registry, subjects)
        self.library_commands = LibraryCommands(self.housekeeping, self.watch)
        desk = DeskSubjects(self.imports, self.questions, self.tags, self.housekeeping)
        add_library_actions(self.registry, desk, self.library_commands.runs())
        self.training_commands = TrainingCommands(self.training, self._model_in_sight)
        add_training_actions(self.registry, self.training, self.training_commands.runs())
        self.palette = PalettePresenter(
            lambda: [*self.registry.commands(), *self.saved_filters.commands()], self._run_command
        )
        self.registry.bind(dict(_scheme(scheme).keys))

    def _make_panels(self, theme: Theme) -> None:
        registry = self.registry
        self.top_bar = TopBar(theme, registry, self.worklist.search)
        folds = [action_button(theme, registry, name) for name in ("panel.jobs", "panel.audit")]
        self.status_bar = StatusBar(theme, self._cancel, self.commands.open_audit, *folds)
        browser = Browser(self.worklist, self.opener, self.marks, self.saved_filters)
        self.worklist_panel = WorklistPanel(browser, theme, registry, self._arrange_worklist)
        self.top_bar.to_found = self.worklist_panel.tree.focus_lines
        self.findings_panel = FindingsPanel(self.findings, theme, registry)
        self.models_panel = ModelsPanel(self.models, theme, registry, self.jobs.cancel)
        self.explanation_panel = ExplanationPanel(self.explanation, theme, registry)
        self.export_line = ExportLine(self.export, theme, registry, self.commands.choose_export_folder)
        self.reading_area = ReadingArea(self.reading, theme)
        self.playback_bar = PlaybackBar(self.playback, theme, registry)
        self.objects_panel = ObjectsPanel(self.derived, theme, registry)
        self.read_pane = ReadPane(self.derived, theme, registry)
        self.jobs_panel = JobsPanel(self.jobs, theme)
        self.audit_panel = AuditPanel(self.audit, theme, registry)
        self.watch_section = WatchSection(self.watch, self.identity, registry)
        self.engine_section = EngineSection(self.engines, self.commands.choose_certificate)
        self.settings_panel = SettingsPanel(self.settings, registry, self.watch_section, self.engine_section)
        self.question_stack = QuestionStack(self.questions, theme)
        self.import_panel = ImportPanel(self.imports, self.issues, self.identity, theme, registry)
        self.tags_panel = TagsPanel(self.tags, theme, registry)
        self.library_panel = LibraryPanel(self.housekeeping, self.identity, theme, registry)
        self.training_page = LazyPage(self._make_training_panel)

    def _make_window(self, theme: Theme) -> None:
        parts = Parts(
            self.top_bar,
            self.status_bar,
            self.worklist_panel,
            self.question_stack,
            NoticeStack(self.notices, theme),
            self.reading_area,
            (
                self.findings_panel,
                self.objects_panel,
                self.models_panel,
                self.explanation_panel,
                self.export_line,
            ),
            self.jobs_panel,
            self.import_panel,
            self.tags_panel,
            self.library_panel,
            self.training_page,
            self.audit_panel,
            self.settings_panel,
            self.playback_bar,
            self.read_pane,
        )
        self.window = MainWindow(theme, self.registry, self.palette, parts, self.imports.import_paths)
        self.window.hold_overlays = self.reading.hold_overlays
        self.window.on_close = self.close
        desk = Desk(
            self.window,
            self.top_bar,
            self.worklist_panel,
            self.findings_panel,
            self.models_panel,
            self.worklist,
            self.findings,
            self.imports,
            self.export,
            self.audit,
            self.notices,
            self.palette,
            self.settings,
        )
        self.commands.attach(desk)
        self.library_commands.attach(self.window, self.tags_panel, self.library_panel)
        self.training_commands.attach(self.window, self.training_page)

    def _wire(self) -> None:
        self.status.attach(self.status_bar)
        self.jobs.attach(self.status)
        self.jobs.listen(self.models.set_jobs)
        self.jobs.listen(self.explanation.set_jobs)
        self.models.submitted = self.jobs.refresh
        self.explanation.submitted = self.jobs.refresh
        self.jobs.finished = self.session.on_job_finished
        self.audit.attach(_Listener(self.status.set_audit))
        self.explanation.attach(_Listener(lambda state: self.export.set_has_map(state.has_map)))
        self.findings.attach(_Listener(self._follow_finding))
        self.imports.imported = self._on_imported
        self.imports.series_arrived = self.worklist.refresh
        self.worklist.refreshed = self._on_listed
        self.worklist.attach(_Listener(self._follow_worklist))
        self.identity.attach(_Listener(lambda state: self.top_bar.search.hide_text(state.hidden)))
        self.opener.opened = self.session.open_series
        self.opener.inspected = self._inspect
        self.tags.series_in_words = self.worklist.series_in_words
        self.session.opened = self._on_opened
        self.session.undecided = self._on_undecided
        self.session.noted = lambda: self.worklist.reread(self.worklist.state.current_study)
        self.session.arrived_elsewhere = self.worklist.refresh_waiting
        self.worklist.waiting_changed = self.top_bar.set_waiting
        self.session.seen = self.read_first.looked
        self.identity.attach(_Listener(lambda _: self.reading.show_words(self._as_shown)))
        self.derived.open_series = self.session.open_series
        self.derived.go_to_time = self.playback.slide_to
        self.identity.attach(_Listener(lambda state: self.derived.set_veiled(state.hidden)))
        self.reading_area.viewport_painted.connect(self._on_painted)
        self.settings.applied = self._apply_settings
        self.reading.subscribe(lambda: self.settings.change(corner_texts=self.reading.intent.texts))
        self._wire_desk()
        self._wire_training()
        self._job_events = JobEvents(self.events, self.jobs, self)
        self.window.first_painted.connect(self._open_engine)

    def _wire_desk(self) -> None:
        self.imports.attach(self.issues)
        self.issues.attach(_Listener(lambda state: self.status.set_imports(state.badge)))
        self.issues.library_changed = self.worklist.refresh
        self.questions.attach(_Listener(lambda state: self.status.set_questions(len(state.questions))))
        self.question_stack.make_room = self.window.left_panel.show
        self.status_bar.questions.clicked.connect(self.questions.attend)
        self.status_bar.imports.clicked.connect(self.library_commands.open_import)
        self.identity.attach(self.tags)
        self.reading.subscribe(self._follow_slice)
        self.marks.delete_requested = self.housekeeping.delete_studies
        self.housekeeping.removed = self._on_removed
        self.housekeeping.quit = self.window.quit

    def _make_training_panel(self) -> TrainingPanel:
        # Loaded when somebody looks at it: a start doesn't wait for it.
        from app.views.training.training_panel import TrainingPanel

        return TrainingPanel(
            self.training,
            self.tasks,
            self.identity,
            self.commands.theme,
            self.worklist.text_of,
            self.opener.open_series_of,
        )

    def _wire_training(self) -> None:
        self.training.runs.attach(_Listener(self.status.set_training))
        self.training.candidates.changed = self._on_model_changed
        self.engines.changed = self._on_model_changed
        self.status_bar.training.clicked.connect(lambda: self.training_commands.open_page(PROGRESS))
        self.status_bar.training_act.clicked.connect(self.training.runs.pause_or_resume_active)
        self.reading.subscribe(self.training.activity)

    # -- life --------------------------------------------------------------------------------------

    def show(self) -> None:
        """Show the window; the engine opens after its first paint."""
        self.window.show()
        self.reading_area.setFocus()

    def join(self, files: tuple[Path, ...], sample: bool) -> None:
        """Come to the front for a second start, and take what it was asked to open."""
        self.window.come_forward()
        self.imports.import_paths(files)
        if sample:
            self.imports.import_sample()

    def _open_engine(self) -> None:
        self.tasks.db(self.engine.open, self._on_engine_open, self._on_engine_failed)

    def _on_engine_open(self, told: tuple[str, ...]) -> None:
        if self._first_start:
            for text in told:
                self.notices.tell("caution", text)
        self.top_bar.set_reader(self.engine.reader)
        self.settings.load()
        self.worklist.refresh()
        self.worklist.refresh_waiting()
        self.jobs.refresh()
        self.audit.verify()
        self.issues.refresh()
        self.watch.load()
        self.engines.load()
        # What can't be loaded now is told when it is needed. Trainings go on after what the first picture needs.
        self.tasks.io(self.engine.warm_up, lambda _: self.training.begin(), lambda _: self.training.begin())
        self.imports.import_paths(self._start.files)
        if self._start.sample:
            self.imports.import_sample()
        if self._start.care_after_ms is not None:
            self._care_soon.start(self._start.care_after_ms)

    def _care(self) -> None:
        """Look after the library while nothing else goes on, else later."""
        if self.tasks.pending:
            self._care_soon.start()
        else:
            self.housekeeping.care()

    def _on_engine_failed(self, error: AppError) -> None:
        self.notices.report(error)
        self.reading.fail("The library can't be opened", error.user_message, error.remedy)

    def close(self) -> None:
        """Keep the layout, stop the worker, close the library. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._care_soon.stop()
        self.housekeeping.cancel_check()
        self.imports.close()
        self.playback.stop()
        self.session.cancel_loading()
        layout, theme = self.window.layout_state(), self.commands.theme.name
        # Work that can't be interrupted may take a moment to end: nobody should have to watch it.
        self.window.hide()
        self.tasks.shutdown(lambda: self._last_words(layout, theme))

    def _last_words(self, layout: str, theme: str) -> None:
        try:
            self.engine.save_layout(layout, theme)
        finally:
            self.engine.close()

    # -- between the panels ------------------------------------------------------------------------

    def _on_imported(self, report: ImportReport) -> None:
        if report.studies and self.session.summary is None:
            self._open_when_listed = report.studies[0].study_uid
        self.worklist.refresh()
        self.issues.refresh()
        mixed = mixed_patients(report.studies)
        if mixed:
            self.notices.say("caution", mixed, "Check the name before you rely on a study as a prior.")
        self._refresh_audit()

    def _on_listed(self) -> None:
        study_uid, self._open_when_listed = self._open_when_listed, ""
        # Somebody who is reading keeps their picture: an import never steals the screen.
        if study_uid and self.session.summary is None:
            self.opener.open_study(study_uid)

    def _run_command(self, name: str) -> None:
        if name.startswith(COMMAND):
            self.saved_filters.use(name.removeprefix(COMMAND))
        else:
            self.registry.trigger(name)

    def _arrange_worklist(self, columns: tuple[str, ...], sort: str) -> None:
        self.settings.change(worklist_columns=columns, worklist_sort=sort)

    def _follow_worklist(self, state: WorklistState) -> None:
        """Keep what names a study in step with its line: the identity, a filter chosen elsewhere, a newer study."""
        self.top_bar.search.show_text(state.query)
        self.top_bar.set_newer(state.newer)
        self._show_title()

    def _apply_settings(self, before: Preferences, chosen: Preferences) -> None:
        self.commands.use_theme(chosen.theme)
        self.reading.set_texts(chosen.corner_texts)
        self.read_first.set_on(chosen.read_first)
        self.worklist.arrange(chosen.worklist_columns, chosen.worklist_sort)
        self.identity.set_hidden(chosen.identity_hidden)
        if chosen.key_scheme != before.key_scheme:
            self.registry.bind(dict(_scheme(chosen.key_scheme).keys))
            self.window.rebind_keys()
        self.top_bar.set_reader(chosen.reader_name or self.engine.reader)

    def _on_opened(self, summary: SeriesSummary) -> None:
        self.read_first.begin(summary.key)
        self.worklist.set_current(summary)
        self.tags.set_series(summary)
        self._show_title()
        self._refresh_audit()

    def _as_shown(self, text: str) -> str:
        """Return a text of the open series' files as the viewports may show it."""
        summary = self.reading.summary
        return self.worklist.text_of(summary.study_uid, text) if summary is not None and text else text

    def _follow_slice(self) -> None:
        """Tell the elements' viewer which file the slice on screen comes from."""
        volume, display = self.reading.volume, self.reading.display
        if volume is not None and display is not None:
            slices = volume.geometry.shape_kji[0]
            place = volume.time_point * slices + int(self.reading.intent.cursor_ijk[2])
            self.tags.follow_slice(place, slices, display.grids[display.native].through.reversed)

    def _inspect(self, summary: SeriesSummary) -> None:
        """Show the elements of a series of the worklist; the picture stays."""
        self.tags.inspect(summary)
        self.library_commands.open_tags()

    def _on_removed(self, study_uids: tuple[str, ...]) -> None:
        summary = self.session.summary
        if summary is not None and summary.study_uid in study_uids:
            # A picture of a study that is gone must not stay on screen.
            self.playback.stop()
            self.session.close_series("This study was removed from the library.")
            self.tags.set_series(None)
            self.top_bar.set_study("")
        self.worklist.forget(study_uids)
        self.worklist.refresh()
        self.worklist.refresh_waiting()
        self._refresh_audit()

    def _show_title(self) -> None:
        summary = self.session.summary
        if summary is not None:
            self.top_bar.set_study(self.worklist.series_in_words(summary))

    def _follow_finding(self, state: FindingsState) -> None:
        if state.current is not None:
            self.explanation.suggest(state.current.label)

    def _on_undecided(self) -> None:
        self.worklist.refresh_waiting()
        self._refresh_audit()

    def _on_painted(self, slot: str) -> None:
        if slot == self.reading.intent.active.value:
            self.playback_bar.note_painted()

    def _model_in_sight(self) -> str:
        """Return the model of the result on screen, else the first that fits the series."""
        result = self.findings.result
        if result is not None:
            return result.model.id
        rows = self.models.state.rows
        return rows[0].id if rows else ""

    def _on_model_changed(self) -> None:
        """Another version of a model is in use: ask again which models fit."""
        if self.session.summary is not None:
            self.models.set_series(self.session.summary)
            if self.reading.volume is not None:
                self.models.set_volume(self.reading.volume)
        self._refresh_audit()

    def _refresh_audit(self) -> None:
        if self.audit_panel.isVisible():
            self.audit.refresh()
            self.audit.verify()

    def _cancel(self, what: str) -> None:
        stops = {
            "import": self.imports.cancel,
            "load": self.session.cancel_loading,
            "check": self.housekeeping.cancel_check,
        }
        stops.get(what, self.jobs.cancel_running)()


class _Listener:
    """Lets a function take the states of a presenter."""

    def __init__(self, take: Callable[[Any], None]) -> None:
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


def _scheme(name: str) -> KeyScheme:
    try:
        return KeyScheme.load(name)
    except (FileNotFoundError, ValueError):
        return KeyScheme.load(DEFAULT)
