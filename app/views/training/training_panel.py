"""The training panel: what to train, how it goes, what came out, how models hold up."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QWidget

from app.presenters.identity import IdentityPresenter, IdentityState
from app.presenters.ports import Tasks
from app.presenters.training_desk import CANDIDATE, MONITOR, PROGRESS, SETUP, TrainingDesk
from app.views.theme import Theme
from app.views.training.candidate_page import CandidatePage
from app.views.training.monitor_page import MonitorPage
from app.views.training.progress_page import ProgressPage
from app.views.training.setup_page import SetupPage
from app.views.widgets.controls import column
from app.views.widgets.rows_table import Pages
from app.views.widgets.scrolled import scrolled
from core.domain.training import TrainingCase


class TrainingPanel(QWidget):
    """Four pages in one place; the page that comes into sight is read again.

    Parameters
    ----------
    text_of : callable
        ``(study_uid, text)`` → the hand-written text as it may be shown.
    open_series : callable
        ``(study_uid, series_key)``: shows the pictures.
    """

    def __init__(
        self,
        desk: TrainingDesk,
        tasks: Tasks,
        identity: IdentityPresenter,
        theme: Theme,
        text_of: Callable[[str, str], str],
        open_series: Callable[[str, str], None],
    ) -> None:
        super().__init__()
        self._desk = desk

        def case_words(case: TrainingCase) -> str:
            return text_of(case.study_uid, case.description)

        def open_case(case: TrainingCase) -> None:
            open_series(case.study_uid, case.series_key)

        self.setup = SetupPage(desk.setup, theme, case_words, open_case)
        self.progress = ProgressPage(desk.runs, theme, tasks)
        self.candidate = CandidatePage(desk.candidates, theme)
        self.monitor = MonitorPage(desk.monitor, theme, tasks)
        desk.candidates.open_series = lambda case: open_series(case.study_uid, case.series_key)
        pages = (
            (SETUP, "Improve a model", scrolled(self.setup)),
            (PROGRESS, "Progress", scrolled(self.progress)),
            (CANDIDATE, "Candidates", scrolled(self.candidate)),
            (MONITOR, "Agreement", scrolled(self.monitor)),
        )
        self._page = SETUP
        self.pages = Pages(pages, self._on_page)
        self.setLayout(column(self.pages, margins=(12, 8, 12, 8)))
        identity.attach(_Identity(self.setup.cases.redraw))

    def show_page(self, page: str) -> None:
        """Show a page and read again what it shows."""
        self.pages.show_page(page)
        self._on_page(page)

    def _on_page(self, page: str) -> None:
        self._page = page
        self._desk.look(page)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._desk.look(self._page)


class _Identity:
    """Says that identity was hidden or shown."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def show_state(self, _: IdentityState) -> None:
        self._changed()
