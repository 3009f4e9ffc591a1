"""The line under the pictures: time slider, play and pause, speed, and how fast it really goes."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QSizePolicy, QSlider

from app.actions.action import ActionRegistry
from app.presenters.playback import STACK, TIME, PlaybackPresenter, PlaybackState
from app.views.theme import Theme
from app.views.widgets.controls import Label, action_button, row

_WORDS_WIDTH, _RATE_WIDTH = 96, 200


class PlaybackBar(QFrame):
    """Shows a ``PlaybackState``; the clock that lets pictures move is here."""

    def __init__(self, presenter: PlaybackPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self.setObjectName("toolBar")
        self.setFixedHeight(theme.size("tool_bar"))
        self._presenter = presenter
        self.play = action_button(theme, registry, "cine.play", "play")
        back = action_button(theme, registry, "time.previous")
        forth = action_button(theme, registry, "time.next")
        slower = action_button(theme, registry, "cine.slower")
        faster = action_button(theme, registry, "cine.faster")
        self._time_buttons = (back, forth)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Time")
        self.slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.slider.setPageStep(1)
        self.slider.valueChanged.connect(self._on_value)
        self._position = Label()
        self._position.setFixedWidth(_WORDS_WIDTH)
        self._rate = Label("", "dim")
        self._rate.setMinimumWidth(_RATE_WIDTH)
        self._rate.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        layout = row(
            self.play, back, self.slider, forth, self._position, slower, faster, self._rate,
            gap=4, margins=(12, 0, 12, 0),
        )  # fmt: skip
        layout.setStretch(2, 1)
        self.setLayout(layout)
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._on_tick)
        self._showing = False
        presenter.set_clock(self)
        presenter.attach(self)

    def start(self, interval_ms: int) -> None:
        """Tick."""
        self._timer.start(interval_ms)

    def stop(self) -> None:
        """Stop ticking."""
        self._timer.stop()

    def note_painted(self) -> None:
        """A viewport has painted."""
        if self._timer.isActive():
            self._presenter.painted(time.monotonic() * 1000.0)

    def _on_tick(self) -> None:
        if not self.window().isVisible():
            # Nobody looks: a window that was closed or made small doesn't play on.
            self._presenter.stop()
            return
        self._presenter.tick(time.monotonic() * 1000.0)

    def _on_value(self, value: int) -> None:
        if not self._showing:
            self._presenter.slide_to(value)

    def show_state(self, state: PlaybackState) -> None:
        """Draw the state."""
        self._showing = True
        self.setVisible(state.visible)
        self.slider.setRange(0, max(0, state.count - 1))
        self.slider.setValue(state.loading - 1 if state.loading else state.position)
        self._showing = False
        for button in self._time_buttons:
            button.setVisible(state.kind == TIME)
        self.play.set_icon("pause" if state.playing else "play")
        self._position.setText(state.words)
        self._rate.setText(rate_words(state))
        self._rate.set_role("caution" if state.behind else "dim")
        self._rate.setToolTip(_rate_tip(state))


def rate_words(state: PlaybackState) -> str:
    """Return the speed in words, with the rate that is really reached while playing."""
    if state.loading:
        return f"reading t {state.loading}…"
    wanted = f"{state.rate:.3g} per s"
    if not state.playing or not state.actual:
        return wanted
    if state.behind:
        return f"only {state.actual:.3g} of {state.rate:.3g} per s"
    return f"{wanted}, kept"


def _rate_tip(state: PlaybackState) -> str:
    if state.behind:
        return "This computer can't keep up: pictures are left out so that the tempo stays right."
    if state.stated:
        return "The tempo that the recording states"
    what = "slices" if state.kind == STACK else "pictures"
    return f"Chosen here: the files state no tempo for these {what}"
