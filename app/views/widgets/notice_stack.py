"""Notices in the side panel: what, why, what to do, and a button to dismiss. They cover no picture."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from app.presenters.notices import Notice, NoticesPresenter, NoticesState
from app.views.theme import Theme
from app.views.widgets.controls import IconButton, Label, clear_layout, column, panel, row

_ICONS = {
    "info": ("info", "text_dim"),
    "done": ("verified", "verified"),
    "caution": ("warning", "caution"),
    "danger": ("refusal", "danger"),
}
_SHOWN = 2


class NoticeStack(QWidget):
    """The newest notices, newest at the bottom."""

    def __init__(self, presenter: NoticesPresenter, theme: Theme) -> None:
        super().__init__()
        self._presenter = presenter
        self._theme = theme
        self._unfolded: set[int] = set()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(8, 8, 8, 8)
        self._layout.setSpacing(8)
        presenter.attach(self)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme
        self.show_state(self._presenter.state)

    def show_state(self, state: NoticesState) -> None:
        """Draw the notices."""
        clear_layout(self._layout)
        for notice in state.notices[-_SHOWN:]:
            self._layout.addWidget(self._notice(notice))
        self.setVisible(bool(state.notices))

    def _notice(self, notice: Notice) -> QWidget:
        icon_name, token = _ICONS[notice.level]
        icon = Label()
        icon.setPixmap(self._theme.pixmap(icon_name, token, scale=self.devicePixelRatioF()))
        dismiss = IconButton(self._theme, "close", "Dismiss (Ctrl+D for the newest)", compact=True)
        dismiss.clicked.connect(lambda: self._presenter.dismiss(notice.id))
        words = column(Label(notice.what, wrap=True), gap=4, margins=(0, 4, 0, 4))
        if notice.remedy:
            words.addWidget(Label(notice.remedy, "dim", wrap=True))
        for line in notice.details:
            words.addWidget(Label(line, "faint", wrap=True))
        if notice.more:
            words.addLayout(self._more(notice))
        icon_column = column(icon, 1, margins=(0, 4, 0, 0))
        layout = row(icon_column, words, column(dismiss, 1, gap=0), gap=8, margins=(8, 4, 4, 4))
        layout.setStretch(1, 1)
        frame = panel("notice", layout)
        frame.setProperty("level", notice.level)
        return frame

    def _more(self, notice: Notice) -> QHBoxLayout:
        if notice.id in self._unfolded:
            return row(Label(notice.more, "dim", wrap=True))
        button = QPushButton("More")
        button.setProperty("role", "link")
        button.setToolTip("Show the whole notice")
        button.clicked.connect(lambda: self._unfold(notice.id))
        # The stretch keeps the button from setting the width of the words.
        return row(button, 1)

    def _unfold(self, notice_id: int) -> None:
        self._unfolded.add(notice_id)
        self.show_state(self._presenter.state)
