"""The line at the bottom: what runs, and whether geometry, pixels and audit may be trusted."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QFrame

from app.presenters.status import DISCLAIMER, Badge, StatusState
from app.views.theme import Theme
from app.views.widgets.controls import BadgeButton, ElidedLabel, IconButton, Label, ProgressBar, row

_NOT_STOPPED = ("export", "backup")
_ACTS = {"pause": ("pause", "Pause the training"), "resume": ("play", "Let the training go on")}
_ROLES = {"none": "dim", "verified": "verified", "caution": "caution", "danger": "danger"}


class StatusBar(QFrame):
    """28 px; ``cancel`` is called with what is to be cancelled (``import``, ``load``, ``job``); a click on
    the audit badge calls ``open_audit``.
    """

    def __init__(
        self,
        theme: Theme,
        cancel: Callable[[str], None],
        open_audit: Callable[[], None],
        *buttons: IconButton,
    ) -> None:
        super().__init__()
        self.setObjectName("statusBar")
        self.setFixedHeight(theme.size("status_bar"))
        self._cancels = ""
        self._activity = ElidedLabel("", "dim")
        self._progress = ProgressBar()
        self._progress.setFixedWidth(120)
        self._stop = IconButton(theme, "close", "Cancel (Ctrl+.)", compact=True)
        self._stop.clicked.connect(lambda: cancel(self._cancels))
        self._geometry, self._lossy = Label(), Label()
        self.questions, self.imports = BadgeButton(), BadgeButton()
        self.training = BadgeButton()
        self.training_act = IconButton(theme, "pause", "", compact=True)
        self.audit = BadgeButton()
        self.audit.clicked.connect(open_audit)
        self._device = Label("CPU", "dim")
        self._device.setToolTip("Models run on this device")
        disclaimer = Label(DISCLAIMER, "faint")
        disclaimer.setToolTip("For research and review support only. Not a medical device.")
        layout = row(
            self._activity,
            self._progress,
            self._stop,
            self.training,
            self.training_act,
            self.questions,
            self.imports,
            *buttons,
            disclaimer,
            self._geometry,
            self._lossy,
            self.audit,
            self._device,
            gap=12,
            margins=(12, 0, 12, 0),
        )
        layout.setStretch(0, 1)
        self.setLayout(layout)
        self.show_state(StatusState())

    def sizeHint(self) -> QSize:
        return QSize(0, self.height())

    def show_state(self, state: StatusState) -> None:
        """Draw the state."""
        busy = bool(state.activity)
        self._cancels = state.cancels
        self._activity.setText(state.activity or "Ready")
        self._progress.setVisible(busy)
        self._progress.set_fraction(state.fraction)
        self._stop.setVisible(busy and state.cancels not in _NOT_STOPPED)
        self._show_act(state.training_act)
        for button, waiting in (
            (self.questions, state.questions),
            (self.imports, state.imports),
            (self.training, state.training),
        ):
            button.setVisible(waiting is not None)
            if waiting is not None:
                _draw(button, waiting)
        for label, badge in (
            (self._geometry, state.geometry),
            (self._lossy, state.lossy),
            (self.audit, state.audit),
        ):
            _draw(label, badge)
        self._device.setText(state.device)

    def _show_act(self, act: str) -> None:
        self.training_act.setVisible(bool(act))
        if act:
            icon, tip = _ACTS[act]
            self.training_act.set_icon(icon)
            self.training_act.setToolTip(tip)
            self.training_act.setAccessibleName(tip)


def _draw(label: Label | BadgeButton, badge: Badge) -> None:
    label.setText(badge.text)
    label.setToolTip(badge.explanation)
    label.set_role(_ROLES[badge.level])
