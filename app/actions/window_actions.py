"""The actions of the main window: what each key, button and palette line does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.actions.action import Action, ActionRegistry
from app.presenters.explanation import ExplanationPresenter
from app.presenters.findings import FindingsPresenter
from app.presenters.jobs import JobsPresenter
from app.presenters.models import ModelsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.read_first import ReadFirstPresenter
from app.presenters.reading import ReadingPresenter
from app.presenters.session import SessionPresenter
from app.presenters.study_marks import StudyMarks
from app.presenters.study_opening import StudyOpener
from app.presenters.worklist import WorklistPresenter
from core.domain.result import Verdict

FILES, PANELS, READING, WINDOWS = "Files", "Panels", "Pictures", "Grey scale"
WORKLIST = "Worklist"
LAYOUT, MODELS, FINDINGS, PROGRAM = "Layout", "Models", "Findings", "Program"


@dataclass(frozen=True)
class Entry:
    """An action of the window itself, before somebody says what it does."""

    id: str
    title: str
    group: str
    icon: str


WINDOW_ACTIONS = (
    Entry("file.open", "Open files", FILES, "folder"),
    Entry("file.folder", "Open a folder", FILES, "import"),
    Entry("file.sample", "Open the sample study", FILES, "sample"),
    Entry("search.focus", "Search", FILES, "search"),
    Entry("view.identity", "Show or hide patient identity", FILES, "eye"),
    Entry("view.columns", "Choose details and order", WORKLIST, "columns"),
    Entry("filter.save", "Save this filter…", WORKLIST, "filter"),
    Entry("study.tag", "Put on or take off a tag…", WORKLIST, "tag"),
    Entry("focus.priors", "Go to the priors", PANELS, "prior"),
    Entry("panel.left", "Fold the worklist", PANELS, "panel-left"),
    Entry("panel.right", "Fold findings and models", PANELS, "panel-right"),
    Entry("panel.jobs", "Jobs", PANELS, "jobs"),
    Entry("panel.audit", "Audit trail", PANELS, "audit"),
    Entry("panel.settings", "Settings", PANELS, "settings"),
    Entry("ai.read_first", "Read first: hide results until asked, or not", MODELS, "eye-off"),
    Entry("focus.worklist", "Go to the worklist", PANELS, "panel-left"),
    Entry("focus.reading", "Back to the pictures", PANELS, "image"),
    Entry("focus.findings", "Go to the findings", PANELS, "findings"),
    Entry("focus.models", "Go to the models", PANELS, "model"),
    Entry("view.full_screen", "Full screen", PANELS, "fit"),
    Entry("view.theme", "Dark or light", PANELS, "theme"),
    Entry("palette.open", "Find a command", PROGRAM, "command"),
    Entry("help.keys", "Show the keys", PROGRAM, "keyboard"),
    Entry("notice.dismiss", "Dismiss the newest notice", PROGRAM, "close"),
    Entry("audit.verify", "Verify the audit trail", PROGRAM, "audit"),
    Entry("app.quit", "Quit", PROGRAM, "close"),
    Entry("finding.edit", "Edit the finding (give the reason)", FINDINGS, "edit"),
    Entry("finding.mask", "Give a corrected mask file…", FINDINGS, "segment"),
    Entry("finding.reason", "Give a reason for the verdict", FINDINGS, "text"),
    Entry("result.export", "Export the result", FINDINGS, "export"),
)


def add_window_actions(registry: ActionRegistry, runs: Mapping[str, Callable[[], None]]) -> None:
    """Add what is done to the window itself; raises KeyError when ``runs`` misses one."""
    for entry in WINDOW_ACTIONS:
        registry.add(Action(entry.id, entry.title, entry.group, runs[entry.id], entry.icon))


@dataclass(frozen=True)
class Subjects:
    """The presenters that actions act on."""

    reading: ReadingPresenter
    worklist: WorklistPresenter
    findings: FindingsPresenter
    models: ModelsPresenter
    explanation: ExplanationPresenter
    jobs: JobsPresenter
    notices: NoticesPresenter
    session: SessionPresenter
    read_first: ReadFirstPresenter
    opener: StudyOpener
    marks: StudyMarks


def add_reading_actions(registry: ActionRegistry, subjects: Subjects) -> None:
    """Add what is done to the pictures."""
    reading = subjects.reading
    has_pictures = _has_pictures(subjects)

    def add(
        action_id: str, title: str, group: str, run: Callable[[], None], icon: str = "", scope: str = "window"
    ) -> None:
        registry.add(Action(action_id, title, group, run, icon, has_pictures, scope))

    add("image.next", "Next picture", READING, lambda: reading.scroll(1), scope="reading")
    add("image.previous", "Previous picture", READING, lambda: reading.scroll(-1), scope="reading")
    add("image.first", "First picture", READING, reading.first, scope="reading")
    add("image.last", "Last picture", READING, reading.last, scope="reading")
    _add_study_steps(registry, subjects)
    add("view.fit", "Fit the pictures", READING, reading.fit, "fit")
    add("view.reset", "Reset the view", READING, reading.reset, "reset")
    add("view.invert", "Invert black and white", READING, reading.invert, "invert")
    add("view.text", "Show or hide the corner texts", READING, reading.toggle_texts, "text", "reading")
    add("view.crosshair", "Crosshair on the left button", READING, reading.toggle_crosshair, "crosshair")
    for name, title, icon in (
        ("mpr", "Three planes", "layout-mpr"),
        ("stack", "One plane", "layout-stack"),
        ("2x2", "Three planes and 3-D", "layout-2x2"),
        ("3d", "3-D view", "cube"),
    ):
        # A stack that can't be cut rightly has one plane; a badge on the picture says why.
        when = (
            has_pictures if name == "stack" else lambda: has_pictures() and not reading.single_plane_reason()
        )
        run = _bound(reading.set_layout, name)
        registry.add(Action(f"layout.{name}", title, LAYOUT, run, icon, when))
    add("window.auto", "Grey scale from the picture", WINDOWS, lambda: reading.preset(0), "window-level")
    for number in range(1, 10):
        add(
            f"window.{number}",
            f"Grey scale preset {number}",
            WINDOWS,
            _bound(reading.preset, number),
            "window-level",
        )


def _add_study_steps(registry: ActionRegistry, subjects: Subjects) -> None:
    opener = subjects.opener

    def add(action_id: str, title: str, run: Callable[[], None], icon: str) -> None:
        registry.add(Action(action_id, title, READING, run, icon, scope="reading"))

    add("series.next", "Next series", lambda: opener.step_series(1), "next")
    add("series.previous", "Previous series", lambda: opener.step_series(-1), "previous")
    add("study.next", "Next study", lambda: opener.step_study(1), "next")
    add("study.previous", "Previous study", lambda: opener.step_study(-1), "previous")


def add_model_actions(registry: ActionRegistry, subjects: Subjects) -> None:
    """Add what is done with models, findings and explanations."""
    reading, findings = subjects.reading, subjects.findings
    explanation, models, jobs = subjects.explanation, subjects.models, subjects.jobs

    def fill() -> None:
        style = reading.intent.overlay
        reading.set_overlay_style(not style.fill, style.opacity)

    def has_findings() -> bool:
        return bool(findings.state.rows)

    def add(
        action_id: str, title: str, group: str, run: Callable[[], None], icon: str, when: Callable[[], bool]
    ) -> None:
        registry.add(Action(action_id, title, group, run, icon, when))

    has_pictures = _has_pictures(subjects)

    def show_or_hide() -> None:
        subjects.read_first.toggle(reading.toggle_ai)

    add("ai.toggle", "Show or hide everything from models", MODELS, show_or_hide, "eye", has_pictures)
    add("ai.fill", "Fill or outline the segments", MODELS, fill, "fill", has_pictures)
    add(
        "ai.run",
        "Run the first model that fits",
        MODELS,
        models.run_first,
        "play",
        lambda: models.state.can_run,
    )
    add(
        "job.cancel",
        "Cancel the running job",
        MODELS,
        jobs.cancel_running,
        "close",
        lambda: jobs.state.running is not None,
    )
    add(
        "job.retry",
        "Retry the newest job that failed",
        MODELS,
        jobs.retry_newest,
        "retry",
        lambda: jobs.state.retryable is not None,
    )
    add(
        "why.toggle",
        "Why? Show or hide the heat map",
        MODELS,
        explanation.ask,
        "why",
        lambda: explanation.state.available,
    )
    add(
        "why.blink",
        "Blink the heat map",
        MODELS,
        explanation.toggle_blink,
        "blink",
        lambda: explanation.state.shown,
    )
    add("finding.next", "Next finding", FINDINGS, lambda: findings.step(1), "next", has_findings)
    add("finding.previous", "Previous finding", FINDINGS, lambda: findings.step(-1), "previous", has_findings)
    for verdict, title in (
        (Verdict.ACCEPT, "Accept"),
        (Verdict.REJECT, "Reject"),
        (Verdict.UNSURE, "Unsure about"),
    ):
        run = _bound(findings.decide, verdict)
        add(f"finding.{verdict.value}", f"{title} the finding", FINDINGS, run, verdict.value, has_findings)

    def toggle_visible() -> None:
        findings.toggle_visible(findings.state.selected)

    add(
        "finding.visible", "Show or hide the finding's segment", FINDINGS, toggle_visible, "eye", has_findings
    )
    add("edit.undo", "Undo the verdict", FINDINGS, findings.undo, "undo", lambda: findings.state.can_undo)
    add("edit.redo", "Redo the verdict", FINDINGS, findings.redo, "redo", lambda: findings.state.can_redo)


def _has_pictures(subjects: Subjects) -> Callable[[], bool]:
    return lambda: subjects.session.summary is not None


def _bound(function: Callable[..., None], argument: object) -> Callable[[], None]:
    return lambda: function(argument)
