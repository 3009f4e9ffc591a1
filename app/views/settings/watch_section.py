"""Watched folders in the settings: add, remove, and whether anything came."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QListWidget, QPushButton, QWidget

from app.actions.action import ActionRegistry
from app.presenters.identity import IdentityPresenter, IdentityState
from app.presenters.watching import WatchPresenter, WatchState
from app.views.widgets.controls import Label, column, follow_keys, row
from core.domain.person_name import isolated

_HEIGHT = 72
_WIDTH = 320


class WatchSection(QWidget):
    """Draws the watched folders."""

    def __init__(
        self, presenter: WatchPresenter, identity: IdentityPresenter, registry: ActionRegistry
    ) -> None:
        super().__init__()
        self._presenter = presenter
        self._folders: tuple[Path, ...] = ()
        self._hidden = identity.hidden
        self.list = QListWidget()
        self.list.setAccessibleName("Watched folders")
        self.list.setFixedHeight(_HEIGHT)
        self.list.setMinimumWidth(_WIDTH)
        self._words = Label("", "dim", wrap=True)
        self._words.setMinimumWidth(_WIDTH)
        self.add = QPushButton("Watch a folder…")
        follow_keys(self.add, registry, "file.watch")
        self.add.clicked.connect(lambda: registry.trigger("file.watch"))
        self.remove = QPushButton("Stop watching")
        self.remove.setToolTip("What came from the folder stays in the library")
        self.remove.clicked.connect(self._remove)
        self.list.currentRowChanged.connect(lambda _: self._update_buttons())
        self.setLayout(
            column(
                Label("Watched folders", "section"),
                self.list,
                self._words,
                row(self.add, self.remove, 1, gap=8),
                1,
                gap=4,
            )
        )
        presenter.attach(self)
        identity.attach(_Identity(self))

    def show_state(self, state: WatchState) -> None:
        """Draw the state."""
        self._words.setText(state.words)
        self._folders = state.folders
        self._fill()

    def hide_identity(self, hidden: bool) -> None:
        """Show only where a folder lies in the list; people name folders after patients."""
        self._hidden = hidden
        self._fill()

    def _fill(self) -> None:
        self.list.clear()
        for number, folder in enumerate(self._folders, 1):
            self.list.addItem(f"Folder {number}" if self._hidden else isolated(str(folder)))
        self.list.setVisible(bool(self._folders))
        self._update_buttons()

    def _update_buttons(self) -> None:
        self.remove.setEnabled(0 <= self.list.currentRow() < len(self._folders))

    def _remove(self) -> None:
        place = self.list.currentRow()
        if 0 <= place < len(self._folders):
            self._presenter.remove(self._folders[place])


class _Identity:
    """Passes on whether identity is hidden."""

    def __init__(self, section: WatchSection) -> None:
        self._section = section

    def show_state(self, state: IdentityState) -> None:
        self._section.hide_identity(state.hidden)
