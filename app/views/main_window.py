"""The main window: worklist at the left, pictures in the middle, findings and models at the right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QByteArray, QEvent, QObject, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QKeyEvent,
    QKeySequence,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QApplication, QFileDialog, QMainWindow, QSplitter, QTabWidget, QWidget

from app.actions.action import Action, ActionRegistry
from app.presenters.palette import PalettePresenter
from app.views.theme import Theme
from app.views.widgets.controls import ACTION_PROPERTY, column, panel
from app.views.widgets.drop_target import DropTarget
from app.views.widgets.overlay import CheatSheet, PaletteOverlay
from app.views.widgets.section import Accordion, Section

_RIGHT_STRETCH = (1, 0, 0, 0, 0)
_COMPACT_BELOW = 1000
JOBS_TAB, IMPORT_TAB, TAGS_TAB, LIBRARY_TAB, TRAINING_TAB, AUDIT_TAB, SETTINGS_TAB = range(7)
_MOST_OF_THE_HEIGHT = 0.6


@dataclass(frozen=True)
class Parts:
    """The widgets that the window arranges."""

    top_bar: QWidget
    status_bar: QWidget
    worklist: QWidget
    questions: QWidget
    notices: QWidget
    reading: QWidget
    right: tuple[QWidget, ...]
    jobs: QWidget
    imports: QWidget
    tags: QWidget
    library: QWidget
    training: QWidget
    audit: QWidget
    settings: QWidget
    playback: QWidget
    read_pane: QWidget


class MainWindow(QMainWindow):
    """Arranges the parts, binds the keys, takes drops. It knows no engine."""

    first_painted = Signal()

    def __init__(
        self,
        theme: Theme,
        registry: ActionRegistry,
        palette: PalettePresenter,
        parts: Parts,
        take_files: Callable[[list[Path]], None],
    ) -> None:
        super().__init__()
        self._theme = theme
        self._registry = registry
        self._palette_presenter = palette
        self._parts = parts
        self._take_files = take_files
        self._painted = False
        self._bound: list[QAction] = []
        self._dialog: QFileDialog | None = None
        self.on_close: Callable[[], None] = lambda: None
        self.hold_overlays: Callable[[bool], None] = lambda _: None
        self.setWindowTitle("Overread")
        self.resize(1440, 900)
        self.setMinimumSize(960, 600)
        self._arrange()
        self.palette_overlay = PaletteOverlay(palette, self)
        self.cheat_sheet = CheatSheet(registry, self)
        self.drop_target = DropTarget(self, theme, take_files)
        self._bind_keys()
        self._accordion = Accordion([part for part in map(_section_of, parts.right[1:]) if part is not None])
        parts.reading.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        parts.reading.installEventFilter(self)

    # -- arrangement -------------------------------------------------------------------------------

    def _arrange(self) -> None:
        theme, parts = self._theme, self._parts
        left = column(parts.worklist, parts.questions, parts.notices, gap=0)
        left.setStretch(0, 1)
        self.left_panel = panel("leftPanel", left)
        right = column(*parts.right, gap=0)
        for place, stretch in enumerate(_RIGHT_STRETCH[: len(parts.right)]):
            right.setStretch(place, stretch)
        self.right_panel = panel("rightPanel", right)
        self.bottom_panel = QTabWidget()
        self.bottom_panel.setObjectName("bottomPanel")
        self.bottom_panel.setDocumentMode(True)
        self.bottom_panel.tabBar().setDrawBase(False)
        self.bottom_panel.addTab(parts.jobs, "Jobs")
        self.bottom_panel.addTab(parts.imports, "Import")
        self.bottom_panel.addTab(parts.tags, "Elements")
        self.bottom_panel.addTab(parts.library, "Library")
        self.bottom_panel.addTab(parts.training, "Training")
        self.bottom_panel.addTab(parts.audit, "Audit")
        self.bottom_panel.addTab(parts.settings, "Settings")
        # The widest page must not push the panels at the sides together.
        self.bottom_panel.setMinimumWidth(theme.size("panel_min"))
        self.bottom_panel.hide()
        pictures = column(parts.reading, parts.playback, gap=0)
        pictures.setStretch(0, 1)
        with_time = QWidget()
        with_time.setLayout(pictures)
        # Reports and documents are read beside the pictures, never over them.
        self.beside = _splitter(Qt.Orientation.Horizontal, with_time, parts.read_pane)
        self.beside.setStretchFactor(0, 1)
        self.beside.setStretchFactor(1, 0)
        self.beside.setSizes([2000, theme.size("right_panel") + 96])
        self.middle = _splitter(Qt.Orientation.Vertical, self.beside, self.bottom_panel)
        self.middle.setSizes([2000, theme.size("bottom_panel")])
        self.across = _splitter(Qt.Orientation.Horizontal, self.left_panel, self.middle, self.right_panel)
        self.across.setSizes([theme.size("left_panel"), 2000, theme.size("right_panel")])
        for side in (self.left_panel, self.right_panel):
            side.setMinimumWidth(theme.size("panel_min"))
        self.right_panel.setMinimumWidth(theme.size("panel_min") + 72)
        central = QWidget()
        layout = column(parts.top_bar, self.across, parts.status_bar, gap=0)
        layout.setStretch(1, 1)
        central.setLayout(layout)
        self.setCentralWidget(central)

    def toggle_panel(self, side: QWidget) -> None:
        """Fold or unfold a side panel; it keeps its width."""
        side.setVisible(side.isHidden())

    def shows_tab(self, number: int) -> bool:
        """Whether the bottom panel is open on a tab."""
        return not self.bottom_panel.isHidden() and self.bottom_panel.currentIndex() == number

    def show_tab(self, number: int, share: float = 0.0) -> None:
        """Open the bottom panel on a tab, or close it when that tab is open."""
        if self.shows_tab(number):
            self.bottom_panel.hide()
        else:
            self.open_tab(number, share)

    def open_tab(self, number: int, share: float = 0.0) -> None:
        """Open the bottom panel on a tab, at least as high as ``share`` of the middle."""
        self.bottom_panel.setCurrentIndex(number)
        self.bottom_panel.show()
        pictures, panel_height = self.middle.sizes()
        wanted = max(self._theme.size("bottom_panel"), share * (pictures + panel_height))
        missing = round(min(wanted, _MOST_OF_THE_HEIGHT * (pictures + panel_height))) - panel_height
        if missing > 0:
            self.middle.setSizes([pictures - missing, panel_height + missing])

    def quit(self) -> None:
        """Close the window."""
        self.close()

    def come_forward(self) -> None:
        """Bring the window before the others, also when it was made small."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()

    def toggle_full_screen(self) -> None:
        """Enter or leave full screen."""
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def apply_theme(self, theme: Theme) -> None:
        """Draw everything with another theme."""
        self._theme = theme
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.setStyleSheet(theme.stylesheet())
        for widget in self.findChildren(QWidget):
            setter = getattr(widget, "set_theme", None)
            if callable(setter):
                setter(theme)

    # -- keys --------------------------------------------------------------------------------------

    def rebind_keys(self) -> None:
        """Take the registry's keys anew: the key scheme has changed."""
        for bound in self._bound:
            for widget in (self, self._parts.reading):
                widget.removeAction(bound)
            bound.deleteLater()
        self._bound.clear()
        self._bind_keys()
        self.cheat_sheet.forget()
        for widget in self.findChildren(QWidget):
            action_id = widget.property(ACTION_PROPERTY)
            if action_id:
                widget.setToolTip(self._registry.tool_tip(action_id))

    def _bind_keys(self) -> None:
        for action in self._registry:
            keys = self._registry.keys_of(action.id)
            if keys:
                self._bind(action, keys)

    def _bind(self, action: Action, keys: tuple[str, ...]) -> None:
        bound = QAction(action.title, self)
        self._bound.append(bound)
        bound.setObjectName(action.id)
        bound.setShortcuts(_sequences(keys))
        bound.triggered.connect(lambda: self._registry.trigger(action.id))
        if action.scope == "reading":
            bound.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            self._parts.reading.addAction(bound)
        else:
            bound.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
            self.addAction(bound)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """While Space is held on the pictures, nothing covers them."""
        if isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            if event.type() == QEvent.Type.KeyPress:
                self.hold_overlays(True)
                return True
            if event.type() == QEvent.Type.KeyRelease:
                self.hold_overlays(False)
                return True
        if event.type() == QEvent.Type.FocusOut and watched is self._parts.reading:
            self.hold_overlays(False)
        return super().eventFilter(watched, event)

    def leave(self) -> None:
        """Esc: close what floats, else go back to the pictures. Nothing is ever lost by it."""
        if not self.palette_overlay.isHidden():
            self._palette_presenter.close()
        elif not self.cheat_sheet.isHidden():
            self.cheat_sheet.close_sheet()
        else:
            self._parts.reading.setFocus(Qt.FocusReason.ShortcutFocusReason)

    # -- files -------------------------------------------------------------------------------------

    def ask_for_files(self) -> None:
        """Show the open dialog beside the window; it blocks nothing."""
        self._show_dialog("Open files", QFileDialog.FileMode.ExistingFiles, self._take_files)

    def ask_for_folder(self, title: str, take: Callable[[Path], None]) -> None:
        """Show a dialog for a folder; it blocks nothing."""
        self._show_dialog(title, QFileDialog.FileMode.Directory, lambda paths: take(paths[0]))

    def ask_for_file(self, title: str, pattern: str, take: Callable[[Path], None]) -> None:
        """Show a dialog for one file of a kind; it blocks nothing."""
        self._show_dialog(title, QFileDialog.FileMode.ExistingFile, lambda paths: take(paths[0]), pattern)

    def _show_dialog(
        self,
        title: str,
        mode: QFileDialog.FileMode,
        take: Callable[[list[Path]], None],
        pattern: str = "",
    ) -> None:
        if self._dialog is not None:
            self._dialog.raise_()
            return
        dialog = QFileDialog(self, title)
        dialog.setFileMode(mode)
        if pattern:
            dialog.setNameFilter(pattern)
        dialog.setModal(False)
        dialog.filesSelected.connect(lambda files: take([Path(file) for file in files]) if files else None)
        dialog.finished.connect(self._on_dialog_finished)
        self._dialog = dialog
        dialog.show()

    def _on_dialog_finished(self) -> None:
        if self._dialog is not None:
            self._dialog.deleteLater()
            self._dialog = None

    # -- layout memory -----------------------------------------------------------------------------

    def layout_state(self) -> str:
        """Return place, size and panels as JSON."""
        encoded = bytes(self.saveGeometry().toBase64().data()).decode("ascii")
        document = {
            "geometry": encoded,
            "across": self.across.sizes(),
            "middle": self.middle.sizes(),
            "left": not self.left_panel.isHidden(),
            "right": not self.right_panel.isHidden(),
            "bottom": not self.bottom_panel.isHidden(),
        }
        return json.dumps(document)

    def restore_layout(self, text: str) -> None:
        """Take a state of ``layout_state``; one that can't be understood is ignored."""
        try:
            document = json.loads(text)
            geometry = QByteArray.fromBase64(document["geometry"].encode("ascii"))
            across, middle = [int(n) for n in document["across"]], [int(n) for n in document["middle"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        self.restoreGeometry(geometry)
        self.left_panel.setVisible(bool(document.get("left", True)))
        self.right_panel.setVisible(bool(document.get("right", True)))
        self.bottom_panel.setVisible(bool(document.get("bottom", False)))
        if len(across) == 3 and across[1] > 0:
            self.across.setSizes(across)
        if len(middle) == 2 and middle[0] > 0:
            self.middle.setSizes(middle)

    # -- events ------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            # Queued, so that it is sent when the first frame is out and the event loop is idle.
            QTimer.singleShot(0, self.first_painted.emit)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._accordion.set_compact(self.height() < _COMPACT_BELOW)
        if not self.palette_overlay.isHidden():
            self.palette_overlay.place()
        if not self.cheat_sheet.isHidden():
            self.cheat_sheet.place()

    def closeEvent(self, event: QCloseEvent) -> None:
        self.on_close()
        super().closeEvent(event)


def _section_of(widget: QWidget) -> Section | None:
    section = getattr(widget, "section", None)
    return section if isinstance(section, Section) else None


def _sequences(keys: tuple[str, ...]) -> list[QKeySequence]:
    """Return key sequences; a question mark arrives with or without Shift, as the keyboard's layout has it."""
    return [QKeySequence(key) for name in keys for key in ((name, "Shift+?") if name == "?" else (name,))]


def _splitter(orientation: Qt.Orientation, *widgets: QWidget) -> QSplitter:
    splitter = QSplitter(orientation)
    splitter.setChildrenCollapsible(False)
    splitter.setHandleWidth(1)
    for place, widget in enumerate(widgets):
        splitter.addWidget(widget)
        splitter.setStretchFactor(place, 0)
    main = 0 if orientation is Qt.Orientation.Vertical else 1
    splitter.setStretchFactor(main, 1)
    return splitter
