"""The worklist panel: the tree, the priors of the open study, the empty state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QModelIndex, Qt, QTimer
from PySide6.QtGui import QImage, QKeyEvent, QPixmap
from PySide6.QtWidgets import QPushButton, QStackedWidget, QTreeView, QVBoxLayout, QWidget

from app.actions.action import ActionRegistry
from app.presenters.worklist import WorklistPresenter, WorklistState
from app.presenters.worklist_tree import SeriesRow, StudyRow
from app.views.theme import Theme
from app.views.widgets.controls import ElidedLabel, Label, action_button, clear_layout, column
from app.views.widgets.section import Section
from app.views.worklist.tree_delegate import WorklistDelegate
from app.views.worklist.tree_model import WorklistModel, key_of

_EXPANDED_UP_TO = 12
_PRIORS_SHOWN = 3


class WorklistTree(QTreeView):
    """The tree; Enter or a click opens a series and unfolds the rest."""

    def __init__(self, opened: Callable[[QModelIndex], None]) -> None:
        super().__init__()
        self._opened = opened
        self.setHeaderHidden(True)
        self.setIndentation(0)
        self.setRootIsDecorated(False)
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QTreeView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setExpandsOnDoubleClick(False)
        self.setAccessibleName("Worklist")
        self.clicked.connect(opened)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self._opened(self.currentIndex())
            return
        super().keyPressEvent(event)


class WorklistPanel(QWidget):
    """Draws the worklist; ``open_series`` is called with the key of the chosen series."""

    def __init__(
        self,
        presenter: WorklistPresenter,
        theme: Theme,
        registry: ActionRegistry,
        open_series: Callable[[str], None],
        open_study: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._presenter = presenter
        self._open_series = open_series
        self._open_study = open_study
        self._state = WorklistState()
        self._folded: set[str] = set()
        self._reveal_soon = QTimer(self)
        self._reveal_soon.setSingleShot(True)
        self._reveal_soon.timeout.connect(lambda: self._reveal(self._state.current_series))
        self._model = WorklistModel(self._request_thumbnail, self)
        self.tree = WorklistTree(self._on_activated)
        self.tree.setModel(self._model)
        self._delegate = WorklistDelegate(theme, self.tree)
        self.tree.setItemDelegate(self._delegate)
        self.tree.collapsed.connect(lambda index: self._folded.add(key_of(self._model.row_at(index))))
        self.tree.expanded.connect(lambda index: self._folded.discard(key_of(self._model.row_at(index))))
        self._stack = QStackedWidget()
        self._stack.addWidget(self.tree)
        self._empty_title, self._empty_text = Label(""), Label("", "dim", wrap=True)
        self._stack.addWidget(self._empty_state(registry))
        self._priors_layout = QVBoxLayout()
        self._priors_layout.setContentsMargins(7, 4, 12, 8)
        self._priors_layout.setSpacing(0)
        priors_body = QWidget()
        priors_body.setLayout(self._priors_layout)
        buttons = [action_button(theme, registry, name) for name in ("file.open", "view.identity")]
        self._identity = buttons[1]
        self.worklist = Section(theme, "Worklist", self._stack, *buttons)
        self.priors = Section(theme, "Priors", priors_body)
        body = column(self.worklist, self.priors, gap=0)
        body.setStretch(0, 1)
        self.setLayout(body)
        presenter.attach(self)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._delegate.set_theme(theme)
        self.tree.viewport().update()

    def _empty_state(self, registry: ActionRegistry) -> QWidget:
        open_button = QPushButton("Open files…")
        open_button.clicked.connect(lambda: registry.trigger("file.open"))
        folder_button = QPushButton("Open a folder…")
        folder_button.clicked.connect(lambda: registry.trigger("file.folder"))
        sample = QPushButton("Open the sample")
        sample.clicked.connect(lambda: registry.trigger("file.sample"))
        self._empty_buttons = (open_button, folder_button, sample)
        body = QWidget()
        body.setLayout(
            column(
                self._empty_title, self._empty_text, *self._empty_buttons, 1, gap=8, margins=(16, 16, 16, 16)
            )
        )
        return body

    def show_state(self, state: WorklistState) -> None:
        """Draw the state; folded lines stay folded."""
        old, self._state = self._state, state
        self._delegate.current_series = state.current_series
        if state.patients != old.patients:
            self._show_patients(state)
        if state.current_series != old.current_series:
            # After the layout has settled: the priors take room from the tree.
            self._reveal_soon.start()
        self._show_empty(state)
        self._show_priors(state)
        self._identity.set_icon("eye-off" if state.identity_hidden else "eye")
        self.worklist.set_count(str(state.total) if state.total else "")
        self.tree.viewport().update()

    def _show_patients(self, state: WorklistState) -> None:
        current = key_of(self._model.row_at(self.tree.currentIndex()))
        folded = set(self._folded)
        self._model.set_patients(state.patients)
        if len(state.patients) <= _EXPANDED_UP_TO:
            self.tree.expandAll()
        for key in folded:
            self.tree.collapse(self._model.index_of(key))
        self._folded = folded
        if self._model.index_of(current).isValid():
            self.tree.setCurrentIndex(self._model.index_of(current))
        self._reveal(state.current_series)

    def _reveal(self, series_key: str) -> None:
        index = self._model.index_of(f"series:{series_key}")
        if index.isValid():
            self.tree.setCurrentIndex(index)
            self.tree.scrollTo(index)

    def _show_empty(self, state: WorklistState) -> None:
        self._stack.setCurrentIndex(0 if state.patients else 1)
        searching = bool(state.query) and state.total > 0
        if not state.loaded:
            self._empty_title.setText("Opening the library…")
            self._empty_text.setText("")
        elif searching:
            self._empty_title.setText("Nothing found")
            self._empty_text.setText(f"No study matches “{state.query}”. Esc clears the search.")
        else:
            self._empty_title.setText("No studies yet")
            self._empty_text.setText("Drop a study here, press Ctrl+O, or open the sample.")
        for button in self._empty_buttons:
            button.setVisible(state.loaded and not searching)

    def _show_priors(self, state: WorklistState) -> None:
        self.priors.setVisible(bool(state.priors))
        self.priors.set_count(str(len(state.priors)))
        clear_layout(self._priors_layout)
        for study in state.priors[:_PRIORS_SHOWN]:
            self._priors_layout.addWidget(self._prior(study))
        if len(state.priors) > _PRIORS_SHOWN:
            self._priors_layout.addWidget(Label(f"and {len(state.priors) - _PRIORS_SHOWN} earlier", "faint"))

    def _prior(self, study: StudyRow) -> QWidget:
        date = study.date or "no date"
        button = QPushButton()
        button.setProperty("role", "link")
        button.setText(f"{date}  {'/'.join(study.modalities)}")
        button.setToolTip(f"Open {study.title}")
        button.clicked.connect(lambda: self._open_study(study.uid))
        title = ElidedLabel(study.title, "faint")
        title.setContentsMargins(5, 0, 0, 0)  # as far in as the text of the button
        line = QWidget()
        line.setLayout(column(button, title, gap=0))
        return line

    def _on_activated(self, index: QModelIndex) -> None:
        row = self._model.row_at(index)
        if isinstance(row, SeriesRow):
            self._open_series(row.key)
        else:
            self.tree.setExpanded(index, not self.tree.isExpanded(index))

    def _request_thumbnail(self, series_key: str) -> None:
        self._presenter.request_thumbnail(series_key, self._on_thumbnail)

    def _on_thumbnail(self, series_key: str, pixels: NDArray[np.uint8] | None) -> None:
        if pixels is not None and pixels.ndim == 2 and pixels.size:
            self._model.set_picture(series_key, _pixmap(pixels))


def _pixmap(pixels: NDArray[np.uint8]) -> QPixmap:
    grey = np.ascontiguousarray(pixels)
    height, width = grey.shape
    image = QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8)
    return QPixmap.fromImage(image.copy())
