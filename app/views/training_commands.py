"""What the training actions do to the window."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from app.presenters.training_desk import CANDIDATE, MONITOR, PROGRESS, SETUP, TrainingDesk
from app.views.main_window import TRAINING_TAB, MainWindow
from app.views.widgets.lazy_page import LazyPage

if TYPE_CHECKING:
    from app.views.training.training_panel import TrainingPanel

_SHARE, _COMPARE_SHARE = 0.46, 0.6


class TrainingCommands:
    """One method per action; the widgets come with ``attach``, after the actions are made.

    Parameters
    ----------
    model_in_sight : callable
        Returns the id of the model whose results the reader looks at, or an empty string.
    """

    def __init__(self, desk: TrainingDesk, model_in_sight: Callable[[], str]) -> None:
        self._desk = desk
        self._model_in_sight = model_in_sight
        self._window: MainWindow | None = None
        self._page: LazyPage | None = None

    def attach(self, window: MainWindow, page: LazyPage) -> None:
        """Take the widgets."""
        self._window, self._page = window, page
        self._desk.show_page = self.open_page

    def runs(self) -> dict[str, Callable[[], None]]:
        """Return what each action does."""
        return {
            "panel.training": self.toggle,
            "training.improve": self.improve,
            "training.follow": lambda: self.open_page(PROGRESS),
            "training.compare": lambda: self.open_page(CANDIDATE),
            "training.monitor": lambda: self.open_page(MONITOR),
        }

    @property
    def window(self) -> MainWindow:
        """The window."""
        if self._window is None:
            raise RuntimeError("the window isn't built")
        return self._window

    @property
    def panel(self) -> TrainingPanel:
        """The panel; it is built if need be."""
        if self._page is None:
            raise RuntimeError("the window isn't built")
        return cast("TrainingPanel", self._page.content)

    def toggle(self) -> None:
        """Open the panel, or close it when it is open."""
        self.window.show_tab(TRAINING_TAB, _SHARE)

    def open_page(self, page: str) -> None:
        """Show a page of the panel; unlike its key, it never closes it."""
        self.window.open_tab(TRAINING_TAB, _COMPARE_SHARE if page == CANDIDATE else _SHARE)
        self.panel.show_page(page)

    def improve(self) -> None:
        """Choose cases for the model in sight."""
        self.open_page(SETUP)
        model_id = self._model_in_sight()
        if model_id:
            self._desk.setup.choose_model(model_id)
