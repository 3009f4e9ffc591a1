"""The line at the top: menu, name, search, what waits, who reads."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QLineEdit, QMenu, QToolButton

from app.actions.action import ActionRegistry
from app.presenters.wording import count_in_words
from app.views.theme import Theme
from app.views.widgets.controls import ElidedLabel, IconButton, Label, action_button, follow_keys, row

_MENU = (
    ("file.open", "file.folder", "file.watch", "file.sample"),
    ("series.tags", "panel.import", "panel.library"),
    ("panel.left", "panel.right", "panel.jobs", "panel.audit", "panel.settings"),
    ("view.theme", "view.identity", "view.full_screen"),
    ("palette.open", "help.keys"),
    ("app.quit",),
)


_SEARCH = "Search patients, studies, series…"
_PAUSE_MS = 80
"""How long nobody types before the search is asked for."""


class SearchField(QLineEdit):
    """Searches while one types; Down and Enter go to what was found."""

    def __init__(self, search: Callable[[str], None], to_found: Callable[[], None]) -> None:
        super().__init__()
        self._search = search
        self._to_found = to_found
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self.search_now)
        self.setPlaceholderText(_SEARCH)
        self.setAccessibleName(_SEARCH)
        self.setClearButtonEnabled(True)
        self.textChanged.connect(self._on_changed)

    def _on_changed(self, text: str) -> None:
        if text:
            self._pause.start()
        else:
            self.search_now()

    def search_now(self) -> None:
        """Ask at once."""
        self._pause.stop()
        self._search(self.text().strip())

    def show_text(self, text: str) -> None:
        """Show what is searched for when something else has chosen it, such as a saved filter."""
        if not self._pause.isActive() and text != self.text().strip():
            self.blockSignals(True)
            self.setText(text)
            self.blockSignals(False)

    def hide_text(self, hidden: bool) -> None:
        """While identity is hidden, a search may name the patient: its letters are shown as dots."""
        self.setEchoMode(QLineEdit.EchoMode.Password if hidden else QLineEdit.EchoMode.Normal)
        self.setPlaceholderText("Search (what you type stays hidden)" if hidden else _SEARCH)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Down, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.search_now()
            self._to_found()
            return
        super().keyPressEvent(event)


class TopBar(QFrame):
    """40 px."""

    def __init__(self, theme: Theme, registry: ActionRegistry, search: Callable[[str], None]) -> None:
        super().__init__()
        self.to_found: Callable[[], None] = lambda: None
        self.setObjectName("topBar")
        self.setFixedHeight(theme.size("top_bar"))
        self._theme = theme
        self._registry = registry
        menu_button = IconButton(theme, "menu", "Menu")
        menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._menu = QMenu(menu_button)
        self._menu.setToolTipsVisible(True)
        self._menu.aboutToShow.connect(self._fill_menu)
        menu_button.setMenu(self._menu)
        self.search = SearchField(search, lambda: self.to_found())
        follow_keys(self.search, registry, "search.focus")
        self.search.setMaximumWidth(480)
        self._study = ElidedLabel("", "dim")
        self._waiting = QToolButton()
        self._waiting.setProperty("role", "badge")
        follow_keys(self._waiting, registry, "results.waiting")
        self._waiting.clicked.connect(lambda: registry.trigger("results.waiting"))
        self._newer = Label("", "caution")
        self._reader = Label("", "dim")
        buttons = [action_button(theme, registry, name) for name in ("palette.open", "panel.settings")]
        layout = row(
            menu_button,
            Label("Overread", "brand"),
            self.search,
            self._newer,
            self._study,
            self._waiting,
            *buttons,
            self._reader,
            gap=12,
            margins=(8, 0, 12, 0),
        )
        layout.setStretch(2, 2)
        layout.setStretch(4, 3)
        self.setLayout(layout)
        self.set_newer("")
        self.set_waiting(0)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme

    def set_waiting(self, count: int) -> None:
        """Show how many results wait for the reader."""
        self._waiting.setVisible(count > 0)
        self._waiting.setText(f"● {count_in_words(count, 'result', 'results')} waiting")

    def set_reader(self, reader: str) -> None:
        """Show who reads."""
        self._reader.setText(f"reader: {reader}" if reader else "")

    def set_study(self, words: str) -> None:
        """Show what is open."""
        self._study.setText(words)

    def set_newer(self, date: str) -> None:
        """Say that the open study isn't the patient's newest; an empty date says nothing."""
        self._newer.setVisible(bool(date))
        self._newer.setText(f"Prior · newest is {date}" if date else "")

    def _fill_menu(self) -> None:
        self._menu.clear()
        for group in _MENU:
            if self._menu.actions():
                self._menu.addSeparator()
            for action_id in group:
                self._add(action_id)

    def _add(self, action_id: str) -> None:
        action = self._registry.get(action_id)
        keys = self._registry.keys_of(action_id)
        # The key is shown as text: a second shortcut of the same key would make both ambiguous.
        text = f"{action.title}\t{keys[0]}" if keys else action.title
        entry = self._menu.addAction(self._theme.icon(action.icon or "more"), text)
        entry.setEnabled(action.enabled_when())
        entry.triggered.connect(lambda: self._registry.trigger(action_id))
