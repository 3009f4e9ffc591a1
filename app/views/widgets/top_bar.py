"""The line at the top: menu, name, search, what waits, who reads."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QFrame, QLineEdit, QMenu, QToolButton

from app.actions.action import ActionRegistry
from app.presenters.wording import count_in_words
from app.views.theme import Theme
from app.views.widgets.controls import ElidedLabel, IconButton, Label, action_button, follow_keys, row

_MENU = (
    ("file.open", "file.folder", "file.sample"),
    ("panel.left", "panel.right", "panel.jobs", "panel.audit", "panel.settings"),
    ("view.theme", "view.identity", "view.full_screen"),
    ("palette.open", "help.keys"),
    ("app.quit",),
)


class TopBar(QFrame):
    """40 px."""

    def __init__(self, theme: Theme, registry: ActionRegistry, search: Callable[[str], None]) -> None:
        super().__init__()
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
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search patients, studies, series…")
        follow_keys(self.search, registry, "search.focus")
        self.search.setClearButtonEnabled(True)
        self.search.setMaximumWidth(480)
        self.search.textChanged.connect(search)
        self._study = ElidedLabel("", "dim")
        self._waiting = QToolButton()
        self._waiting.setProperty("role", "badge")
        self._waiting.setToolTip("Results without a verdict, go to the findings (D)")
        self._waiting.clicked.connect(lambda: registry.trigger("focus.findings"))
        self._reader = Label("", "dim")
        buttons = [action_button(theme, registry, name) for name in ("palette.open", "panel.settings")]
        layout = row(
            menu_button,
            Label("Overread", "brand"),
            self.search,
            self._study,
            self._waiting,
            *buttons,
            self._reader,
            gap=12,
            margins=(8, 0, 12, 0),
        )
        layout.setStretch(2, 2)
        layout.setStretch(3, 3)
        self.setLayout(layout)
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
