"""“Why?”: method, class, opacity, threshold, blink, and how far the map may be trusted."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QGridLayout, QSlider, QWidget

from app.actions.action import ActionRegistry
from app.presenters.explanation import ExplanationPresenter, ExplanationState
from app.views.theme import Theme
from app.views.widgets.controls import ElidedCombo, IconPushButton, Label, ProgressBar, column, follow_keys
from app.views.widgets.section import Section
from core.render.annotations import METHOD_TITLES


class ExplanationPanel(QWidget):
    """Draws the explanation's state and passes on the reader's choices."""

    def __init__(self, presenter: ExplanationPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self._presenter = presenter
        self._asked = (False, False)
        self.method = ElidedCombo("Method")
        self.method.activated.connect(lambda i: presenter.choose(method=self.method.itemData(i)))
        self.class_label = ElidedCombo("Class")
        self.class_label.activated.connect(
            lambda i: presenter.choose(class_label=self.class_label.itemData(i))
        )
        self.ask = IconPushButton(theme, "why", "Why?")
        follow_keys(self.ask, registry, "why.toggle")
        self.ask.clicked.connect(lambda: registry.trigger("why.toggle"))
        self.blink = IconPushButton(theme, "blink", "Blink")
        self.blink.setCheckable(True)
        follow_keys(self.blink, registry, "why.blink")
        self.blink.clicked.connect(lambda: registry.trigger("why.blink"))
        self.opacity = _slider("Opacity of the heat map")
        self.opacity.valueChanged.connect(lambda value: presenter.set_style(opacity=value / 100))
        self.threshold = _slider("Values below are not drawn")
        self.threshold.valueChanged.connect(lambda value: presenter.set_style(threshold=value / 100))
        self._opacity_text, self._threshold_text = Label("", "dim"), Label("", "dim")
        self._progress = ProgressBar()
        self._phase = Label("", "faint")
        self._resolution = Label("", "faint", wrap=True)
        self._sanity = Label("", "faint", wrap=True)
        self._message = Label("", "dim", wrap=True)
        self._controls = QWidget()
        self._controls.setLayout(
            column(
                self._choices(),
                self._sliders(),
                self._phase,
                self._progress,
                self._resolution,
                self._sanity,
                gap=8,
            )
        )
        body = QWidget()
        body.setLayout(column(self._message, self._controls, gap=8, margins=(12, 8, 12, 12)))
        self.section = Section(theme, "Explain", body)
        self.setLayout(column(self.section, gap=0))
        presenter.attach(self)

    def _choices(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(8)
        grid.addWidget(self.method, 0, 0)
        grid.addWidget(self.class_label, 0, 1)
        grid.addWidget(self.ask, 1, 0)
        grid.addWidget(self.blink, 1, 1)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        return grid

    def _sliders(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(0)
        for line, (name, slider, text) in enumerate(
            (
                ("Opacity", self.opacity, self._opacity_text),
                ("Threshold", self.threshold, self._threshold_text),
            )
        ):
            grid.addWidget(Label(name, "dim"), line, 0)
            grid.addWidget(slider, line, 1)
            text.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            text.setFixedWidth(40)
            grid.addWidget(text, line, 2)
        grid.setColumnStretch(1, 1)
        return grid

    def show_state(self, state: ExplanationState) -> None:
        """Draw the state; a question that is asked or answered unfolds the panel, with its caveats."""
        asked = (state.job is not None, state.shown)
        if any(now and not before for now, before in zip(asked, self._asked, strict=True)):
            self.section.set_folded(False)
        self._asked = asked
        self._message.setVisible(not state.available)
        self._message.setText(state.message)
        self._controls.setVisible(state.available)
        titles = [(METHOD_TITLES.get(method, method), method) for method in state.methods]
        _fill(self.method, titles, state.method)
        _fill(self.class_label, [(label, label) for label in state.classes], state.class_label)
        self.ask.setText("Hide" if state.shown else "Why?")
        self.ask.setEnabled(state.job is None)
        self.blink.setEnabled(state.shown)
        self.blink.setChecked(state.blinking)
        self._show_style(state)
        self._show_job(state)
        self._resolution.setVisible(bool(state.resolution))
        self._resolution.setText(state.resolution)
        self._sanity.setVisible(bool(state.sanity))
        self._sanity.setText(state.sanity)
        self._sanity.set_role({True: "verified", False: "danger", None: "faint"}[state.sanity_passed])

    def _show_style(self, state: ExplanationState) -> None:
        for slider, text, value in (
            (self.opacity, self._opacity_text, state.opacity),
            (self.threshold, self._threshold_text, state.threshold),
        ):
            slider.blockSignals(True)
            slider.setValue(round(value * 100))
            slider.blockSignals(False)
            text.setText(f"{value:.0%}")

    def _show_job(self, state: ExplanationState) -> None:
        self._progress.setVisible(state.job is not None)
        self._phase.setVisible(state.job is not None)
        if state.job is not None:
            self._progress.set_fraction(state.job.fraction)
            self._phase.setText(state.job.phase or "starting")


def _slider(tip: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, 100)
    slider.setToolTip(tip)
    slider.setAccessibleName(tip)
    return slider


def _fill(combo: QComboBox, wanted: list[tuple[str, str]], current: str) -> None:
    present = [(combo.itemText(i), combo.itemData(i)) for i in range(combo.count())]
    if wanted != present:
        combo.clear()
        for text, data in wanted:
            combo.addItem(text, data)
    combo.setCurrentIndex(max(0, combo.findData(current)))
