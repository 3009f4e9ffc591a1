"""The worklist panel: filters, the list, a line for short questions, the priors of the open study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPoint, QTimer
from PySide6.QtGui import QImage, QPixmap
from PySide6.QtWidgets import QMenu, QPushButton, QStackedWidget, QToolButton, QWidget

from app.actions.action import ActionRegistry
from app.presenters.saved_filters import SavedFilters, filter_in_words
from app.presenters.study_marks import StudyMarks
from app.presenters.study_opening import StudyOpener
from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_rows import PATIENT, SERIES, Row
from app.presenters.worklist_state import WorklistState
from app.views.theme import Theme
from app.views.widgets.controls import IconButton, Label, action_button, column, follow_keys
from app.views.widgets.section import Section
from app.views.worklist.filter_bar import FilterBar, pop_up
from app.views.worklist.inline_question import InlineQuestion
from app.views.worklist.line_delegate import LineDelegate
from app.views.worklist.lines_model import LinesModel
from app.views.worklist.lines_view import LinesView
from app.views.worklist.priors_list import PriorsList
from app.views.worklist.study_menu import fill_columns_menu, fill_study_menu


@dataclass(frozen=True)
class Browser:
    """The presenters of the study browser."""

    worklist: WorklistPresenter
    opener: StudyOpener
    marks: StudyMarks
    saved: SavedFilters


class WorklistPanel(QWidget):
    """Draws the worklist; ``arrange`` keeps the chosen details and the order."""

    def __init__(
        self,
        browser: Browser,
        theme: Theme,
        registry: ActionRegistry,
        arrange: Callable[[tuple[str, ...], str], None],
    ) -> None:
        super().__init__()
        self._browser = browser
        self._presenter = browser.worklist
        self._registry = registry
        self._arrange = arrange
        self._state = WorklistState()
        self._model = LinesModel(self._presenter.words, self._request_thumbnail, self)
        self._presenter.thumbnails.dropped = self._model.forget_request
        self.tree = LinesView(self._presenter, self._model)
        self._delegate = LineDelegate(theme, self.tree, self._model, self._presenter)
        self.tree.setItemDelegate(self._delegate)
        self._make_connections()
        self.question = InlineQuestion(theme)
        self.filters = FilterBar(theme, registry, self._presenter, browser.saved)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.tree)
        self._empty_title, self._empty_text = Label(""), Label("", "dim", wrap=True)
        self._stack.addWidget(self._empty_state(registry))
        self.priors_list = PriorsList(theme)
        self.priors_list.chosen.connect(browser.opener.open_study)
        buttons = self._header_buttons(theme, registry)
        body = QWidget()
        inner = column(self.filters, self.question, self._stack, gap=0)
        inner.setStretch(2, 1)
        body.setLayout(inner)
        self.worklist = Section(theme, "Worklist", body, *buttons)
        self.priors = Section(theme, "Priors", self.priors_list)
        outer = column(self.worklist, self.priors, gap=0)
        outer.setStretch(0, 1)
        self.setLayout(outer)
        self._reveal_soon = QTimer(self)
        self._reveal_soon.setSingleShot(True)
        self._reveal_soon.timeout.connect(lambda: self._reveal(self._state.current_series))
        self._presenter.attach(self)

    def _make_connections(self) -> None:
        self.tree.opened.connect(self._open_row)
        self.tree.menu_wanted.connect(self._show_menu)
        self.tree.selectionModel().selectionChanged.connect(self._on_selected)
        self._menu = QMenu(self.tree)

    def _header_buttons(self, theme: Theme, registry: ActionRegistry) -> list[QToolButton]:
        self.columns_button = IconButton(theme, "columns", registry.tool_tip("view.columns"))
        self.columns_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        follow_keys(self.columns_button, registry, "view.columns")
        menu = QMenu(self.columns_button)
        menu.aboutToShow.connect(lambda: fill_columns_menu(menu, self._presenter, self._arrange))
        self.columns_button.setMenu(menu)
        self._identity = action_button(theme, registry, "view.identity")
        return [self.columns_button, action_button(theme, registry, "file.open"), self._identity]

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._delegate.set_theme(theme)
        self.tree.viewport().update()

    def _empty_state(self, registry: ActionRegistry) -> QWidget:
        self._empty_buttons = tuple(
            self._button(registry, title, action_id)
            for title, action_id in (
                ("Open files…", "file.open"),
                ("Open a folder…", "file.folder"),
                ("Open the sample", "file.sample"),
            )
        )
        self._clear = self._button(registry, "Clear filters", "filter.clear")
        body = QWidget()
        pieces = (self._empty_title, self._empty_text, *self._empty_buttons, self._clear)
        body.setLayout(column(*pieces, 1, gap=8, margins=(16, 16, 16, 16)))
        return body

    def _button(self, registry: ActionRegistry, title: str, action_id: str) -> QPushButton:
        button = QPushButton(title)
        button.clicked.connect(lambda: registry.trigger(action_id))
        return button

    # -- state ---------------------------------------------------------------------------------------

    def show_state(self, state: WorklistState) -> None:
        """Draw the state; selection and place stay where they were."""
        old, self._state = self._state, state
        if state.rows != self._model.rows:
            self._show_rows(state)
        if state.current_series != old.current_series:
            # After the layout has settled: the priors take room from the list.
            self._reveal_soon.start()
        self._show_empty(state)
        self.filters.show_state(state)
        self.priors_list.show_priors(state.priors)
        self.priors.setVisible(bool(state.priors))
        self.priors.set_count(str(len(state.priors)))
        self._identity.set_icon("eye-off" if state.identity_hidden else "eye")
        self.worklist.set_count(f"{state.total:,}" if state.total else "")
        self.tree.viewport().update()

    def _show_rows(self, state: WorklistState) -> None:
        current = self.tree.current_row()
        place = self.tree.verticalScrollBar().value()
        self._model.set_rows(state.rows)
        if current is not None and self.tree.current_row() != current:
            index = self._model.index_of(current.key)
            if index.isValid():
                self.tree.setCurrentIndex(index)
                self.tree.verticalScrollBar().setValue(place)
        if state.rows and self.tree.hasFocus() and not self.tree.currentIndex().isValid():
            # Somebody went into the list before the search was answered.
            self.tree.setCurrentIndex(self._model.index(0, 0))

    def _reveal(self, series_key: str) -> None:
        index = self._model.index_of(f"{SERIES}:{series_key}")
        if index.isValid():
            self.tree.setCurrentIndex(index)
            self.tree.scrollTo(index)

    def _show_empty(self, state: WorklistState) -> None:
        self._stack.setCurrentIndex(0 if state.rows else 1)
        searching = state.filtered and state.total > 0
        if not state.loaded:
            self._empty_title.setText("Opening the library…")
            self._empty_text.setText("")
        elif searching:
            wanted = filter_in_words(state.wanted, state.identity_hidden)
            self._empty_title.setText("Nothing found")
            self._empty_text.setText(f"None of {state.total:,} studies matches {wanted}.")
        else:
            self._empty_title.setText("No studies yet")
            self._empty_text.setText("Drop a study here, press Ctrl+O, or open the sample.")
        for button in self._empty_buttons:
            button.setVisible(state.loaded and not searching)
        self._clear.setVisible(searching)

    # -- what is done --------------------------------------------------------------------------------

    def _open_row(self, row: Row) -> None:
        if row.kind == SERIES:
            self._browser.opener.open_series(row.uid)
        elif row.kind == PATIENT:
            studies = self._presenter.studies_of(row)
            if studies:
                self._browser.opener.open_study(studies[0])
        else:
            self._browser.opener.open_study(row.uid)

    def _on_selected(self) -> None:
        rows = self.tree.selected_rows()
        self._browser.marks.choose([uid for row in rows for uid in self._presenter.studies_of(row)])

    def _show_menu(self, place: QPoint) -> None:
        row = self.tree.current_row()
        browser = self._browser
        fill_study_menu(
            self._menu,
            self._registry,
            browser.worklist,
            browser.marks,
            row,
            self._open_row,
            browser.opener.inspect,
        )
        self._menu.popup(place)

    def choose_columns(self) -> None:
        """Open the menu of details and order."""
        pop_up(self.columns_button)

    def ask_tag(self) -> None:
        """Ask for a tag of the chosen studies."""
        if self._browser.marks.studies:
            self.question.ask(
                "Tag of the study, to put on or to take off",
                "such as follow-up",
                self._state.tags,
                self._browser.marks.toggle_tag,
            )

    def ask_filter_name(self) -> None:
        """Ask under which name the filter in use is kept."""
        names = [saved.name for saved, title in self._browser.saved.titled() if saved.name == title]
        self.question.ask("Name of this filter", "such as Chest CT, unread", names, self._browser.saved.save)

    def _request_thumbnail(self, series_key: str) -> None:
        self._presenter.request_thumbnail(series_key, self._on_thumbnail)

    def _on_thumbnail(self, series_key: str, pixels: NDArray[np.uint8] | None) -> None:
        self._model.set_picture(series_key, _pixmap(pixels))


def _pixmap(pixels: NDArray[np.uint8] | None) -> QPixmap | None:
    """Return ``(H, W)`` grey or ``(H, W, 3)`` colour pixels as a pixmap."""
    if pixels is None or not pixels.size or pixels.ndim not in (2, 3):
        return None
    plain = np.ascontiguousarray(pixels)
    height, width = plain.shape[:2]
    kind = QImage.Format.Format_Grayscale8 if plain.ndim == 2 else QImage.Format.Format_RGB888
    return QPixmap.fromImage(QImage(plain.data, width, height, plain.strides[0], kind).copy())
