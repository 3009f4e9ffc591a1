"""What the window's own actions do: focus, panels, files, theme, export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QStandardPaths

from app.presenters.audit import AuditPresenter
from app.presenters.exporting import ExportPresenter
from app.presenters.findings import FindingsPresenter
from app.presenters.importing import ImportPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.palette import PalettePresenter
from app.presenters.settings import SettingsPresenter
from app.presenters.worklist import WorklistPresenter
from app.views.findings.findings_panel import FindingsPanel
from app.views.main_window import AUDIT_TAB, JOBS_TAB, SETTINGS_TAB, MainWindow
from app.views.models.models_panel import ModelsPanel
from app.views.theme import Theme
from app.views.widgets.top_bar import TopBar
from app.views.worklist.worklist_panel import WorklistPanel
from core.domain.result import Verdict


@dataclass(frozen=True)
class Desk:
    """The presenters and widgets that commands touch."""

    window: MainWindow
    top_bar: TopBar
    worklist_panel: WorklistPanel
    findings_panel: FindingsPanel
    models_panel: ModelsPanel
    worklist: WorklistPresenter
    findings: FindingsPresenter
    imports: ImportPresenter
    export: ExportPresenter
    audit: AuditPresenter
    notices: NoticesPresenter
    palette: PalettePresenter
    settings: SettingsPresenter


class WindowCommands:
    """One method per action; ``runs`` maps action ids to them."""

    def __init__(self, theme: Theme) -> None:
        self.theme = theme
        self.export_folder = default_export_folder()
        self._desk: Desk | None = None

    def attach(self, desk: Desk) -> None:
        """Take what the commands act on; the registry is filled before the widgets are made."""
        self._desk = desk

    @property
    def desk(self) -> Desk:
        """What the commands act on."""
        if self._desk is None:
            raise RuntimeError("the window isn't built")
        return self._desk

    def runs(self) -> dict[str, Callable[[], None]]:
        """Return what each action of the window does."""
        return {
            "file.open": lambda: self.desk.window.ask_for_files(),
            "file.folder": self.open_folder,
            "file.sample": lambda: self.desk.imports.import_sample(),
            "search.focus": self.focus_search,
            "view.identity": self.toggle_identity,
            "view.columns": self.choose_columns,
            "filter.save": self.save_filter,
            "study.tag": self.tag_study,
            "focus.priors": self.focus_priors,
            "panel.left": lambda: self.desk.window.toggle_panel(self.desk.window.left_panel),
            "panel.right": lambda: self.desk.window.toggle_panel(self.desk.window.right_panel),
            "panel.jobs": lambda: self.desk.window.show_tab(JOBS_TAB),
            "panel.audit": lambda: self.desk.window.show_tab(AUDIT_TAB),
            "panel.settings": lambda: self.desk.window.show_tab(SETTINGS_TAB),
            "ai.read_first": self.toggle_read_first,
            "focus.worklist": self.focus_worklist,
            "focus.reading": self.leave,
            "focus.findings": self.focus_findings,
            "focus.models": self.focus_models,
            "view.full_screen": lambda: self.desk.window.toggle_full_screen(),
            "view.theme": self.toggle_theme,
            "palette.open": lambda: self.desk.palette.open(),
            "help.keys": lambda: self.desk.window.cheat_sheet.toggle(),
            "notice.dismiss": lambda: self.desk.notices.dismiss_last(),
            "audit.verify": lambda: self.desk.audit.verify(),
            "app.quit": lambda: self.desk.window.quit(),
            "finding.edit": self.edit_finding,
            "finding.reason": self.give_reason,
            "finding.mask": self.choose_mask,
            "result.export": lambda: self.desk.export.export(self.export_folder),
        }

    def open_folder(self) -> None:
        """Ask for a folder and import it."""
        self.desk.window.ask_for_folder(
            "Open a folder", lambda folder: self.desk.imports.import_paths([folder])
        )

    def focus_search(self) -> None:
        """Put the cursor into the search."""
        self.desk.top_bar.search.setFocus()
        self.desk.top_bar.search.selectAll()

    def toggle_identity(self) -> None:
        """Show or hide who the patients are, everywhere and also after the next start."""
        hidden = not self.desk.worklist.identity.hidden
        self.desk.worklist.identity.set_hidden(hidden)
        self.desk.settings.change(identity_hidden=hidden)

    def focus_worklist(self) -> None:
        """Go to the list of studies."""
        self.desk.window.left_panel.show()
        self.desk.worklist_panel.tree.focus_lines(self.desk.worklist_panel.tree.setFocus)

    def focus_priors(self) -> None:
        """Go to the other studies of the patient."""
        if self.desk.worklist.state.priors:
            self.desk.window.left_panel.show()
            self.desk.worklist_panel.priors.set_folded(False)
            self.desk.worklist_panel.priors_list.setFocus()

    def choose_columns(self) -> None:
        """Open the menu of what a line of the worklist shows."""
        self.desk.window.left_panel.show()
        self.desk.worklist_panel.choose_columns()

    def tag_study(self) -> None:
        """Ask for a tag, in the panel."""
        self.desk.window.left_panel.show()
        self.desk.worklist_panel.ask_tag()

    def save_filter(self) -> None:
        """Ask for a name of the filter in use, in the panel."""
        if self.desk.worklist.state.filtered:
            self.desk.window.left_panel.show()
            self.desk.worklist_panel.ask_filter_name()

    def focus_findings(self) -> None:
        """Go to the findings."""
        self.desk.window.right_panel.show()
        self.desk.findings_panel.list.setFocus()

    def focus_models(self) -> None:
        """Go to the first Run button."""
        self.desk.window.right_panel.show()
        self.desk.models_panel.focus_first()

    def leave(self) -> None:
        """Esc: close what floats, else clear the search and go back to the pictures."""
        if self.desk.top_bar.search.hasFocus():
            self.desk.top_bar.search.clear()
        self.desk.window.leave()

    def toggle_theme(self) -> None:
        """Change between dark and light."""
        self.desk.settings.change(theme="light" if self.theme.name == "dark" else "dark")

    def use_theme(self, name: str) -> None:
        """Draw everything with a theme."""
        if name != self.theme.name:
            self.theme = Theme.load(name)
            self.desk.window.apply_theme(self.theme)

    def open_audit(self) -> None:
        """Show the audit trail; unlike its key, it never closes it."""
        self.desk.window.open_tab(AUDIT_TAB)

    def toggle_read_first(self) -> None:
        """Hide the results of models until they are asked for, or no longer."""
        settings = self.desk.settings
        settings.change(read_first=not settings.state.chosen.read_first)

    def edit_finding(self) -> None:
        """Record that the finding needs editing and ask for the reason, without stopping anybody."""
        self.desk.findings.decide(Verdict.EDIT)
        self.give_reason()

    def give_reason(self) -> None:
        """Put the cursor into the reason."""
        if self.desk.findings.state.current is not None:
            self.desk.window.right_panel.show()
            self.desk.findings_panel.focus_reason()

    def choose_mask(self) -> None:
        """Ask for the corrected mask of the finding, beside the window; it blocks nothing."""
        current = self.desk.findings.state.current
        if current is not None and current.segment_value is not None:
            self.desk.window.ask_for_file(
                "Corrected mask file",
                "NIfTI (*.nii *.nii.gz)",
                lambda file: self.desk.findings.give_mask(str(file)),
            )

    def choose_certificate(self, take: Callable[[Path], None]) -> None:
        """Ask for the certificate of an authority, beside the window."""
        self.desk.window.ask_for_file("Certificate of the authority", "PEM (*.pem *.crt *.cer)", take)

    def choose_export_folder(self) -> None:
        """Ask where exports go, then export."""
        self.desk.window.ask_for_folder("Folder for exports", self._export_to)

    def _export_to(self, folder: Path) -> None:
        self.export_folder = folder
        self.desk.export.export(folder)


def default_export_folder() -> Path:
    """Return the folder for exports: ``Overread`` among the user's documents."""
    documents = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
    return Path(documents) / "Overread"
