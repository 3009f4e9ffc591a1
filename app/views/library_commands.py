"""What the desk's actions do to the window."""

from __future__ import annotations

from collections.abc import Callable

from app.presenters.housekeeping import HousekeepingPresenter
from app.presenters.watching import WatchPresenter
from app.views.library.library_panel import BACKUP, CHECK, RETENTION, LibraryPanel
from app.views.main_window import IMPORT_TAB, LIBRARY_TAB, TAGS_TAB, MainWindow
from app.views.tags.tags_panel import TagsPanel

_TAGS_SHARE, _LIBRARY_SHARE, _IMPORT_SHARE = 0.4, 0.4, 0.33


class LibraryCommands:
    """One method per action; the widgets come with ``attach``, after the actions are made."""

    def __init__(self, housekeeping: HousekeepingPresenter, watch: WatchPresenter) -> None:
        self._housekeeping = housekeeping
        self._watch = watch
        self._window: MainWindow | None = None
        self._tags: TagsPanel | None = None
        self._library: LibraryPanel | None = None

    def attach(self, window: MainWindow, tags: TagsPanel, library: LibraryPanel) -> None:
        """Take the widgets."""
        self._window, self._tags, self._library = window, tags, library

    def runs(self) -> dict[str, Callable[[], None]]:
        """Return what each action does."""
        return {
            "file.watch": self.watch_folder,
            "panel.import": lambda: self.window.show_tab(IMPORT_TAB, _IMPORT_SHARE),
            "panel.library": lambda: self.window.show_tab(LIBRARY_TAB, _LIBRARY_SHARE),
            "series.tags": self.show_tags,
            "library.retention": lambda: self._show_library(RETENTION),
            "library.backup": self.back_up,
            "library.check": self.check,
        }

    @property
    def window(self) -> MainWindow:
        """The window."""
        if self._window is None:
            raise RuntimeError("the window isn't built")
        return self._window

    def watch_folder(self) -> None:
        """Ask for a folder and watch it."""
        self.window.ask_for_folder("Watch a folder", self._watch.add)

    def open_import(self) -> None:
        """Show the imports; unlike its key, it never closes them."""
        self.window.open_tab(IMPORT_TAB, _IMPORT_SHARE)

    def show_tags(self) -> None:
        """Show the elements with the cursor in the search; again: close them and go back to the pictures."""
        if self.window.shows_tab(TAGS_TAB):
            self.window.show_tab(TAGS_TAB)
            self.window.leave()
        else:
            self.open_tags()

    def open_tags(self) -> None:
        """Show the elements with the cursor in the search."""
        self.window.open_tab(TAGS_TAB, _TAGS_SHARE)
        if self._tags is not None:
            self._tags.take_focus()

    def back_up(self) -> None:
        """Back up, in sight."""
        self._show_library(BACKUP)
        self._housekeeping.back_up()

    def check(self) -> None:
        """Check, in sight."""
        self._show_library(CHECK)
        self._housekeeping.check()

    def _show_library(self, page: str) -> None:
        self.window.open_tab(LIBRARY_TAB, _LIBRARY_SHARE)
        if self._library is not None:
            self._library.pages.show_page(page)
