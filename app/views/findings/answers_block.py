"""What a model says of the whole image, below its findings: measurements with units, classes, contrasts."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QWidget

from app.presenters.answer_rows import Answers, MeasureRow
from app.views.widgets.content_height import ContentHeight
from app.views.widgets.controls import ElidedLabel, Label, clear_layout, column, panel

_HIGHEST, _LOWEST = 208, 60
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class AnswersBlock(QWidget):
    """Draws answers; takes no room when there are none."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[MeasureRow, ...] = ()
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(4)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(0, 1)
        self.classes = Label("", "", wrap=True)
        self.classes.setToolTip("Calibrated probability of each class of the whole image")
        self.not_excluded = Label("", "faint", wrap=True)
        self.not_excluded.setToolTip(
            "The prediction set: classes that can't be excluded at the model's coverage"
        )
        self.inputs = Label("", "faint", wrap=True)
        self.caution = Label("", "caution", wrap=True)
        lines = (self.inputs, self.caution, self.classes, self.not_excluded, self._grid)
        body = panel("bottomPanel", column(*lines, gap=4, margins=(12, 8, 12, 8)))
        self._scroll = ContentHeight(body, _HIGHEST, _LOWEST)
        self.setLayout(column(self._scroll, gap=0))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def show_answers(self, answers: Answers) -> None:
        """Draw the lines."""
        self.setVisible(not answers.is_empty)
        texts = (
            (self.classes, answers.classes),
            (self.not_excluded, answers.not_excluded),
            (self.inputs, answers.inputs),
            (self.caution, answers.caution),
        )
        for label, text in texts:
            label.setVisible(bool(text))
            label.setText(text)
        if answers.measures != self._shown:
            self._fill(answers.measures)
        self._scroll.updateGeometry()

    def _fill(self, measures: tuple[MeasureRow, ...]) -> None:
        clear_layout(self._grid)
        for place, measure in enumerate(measures):
            value, unit = Label(measure.value), Label(measure.unit, "dim")
            value.setAlignment(_RIGHT)
            self._grid.addWidget(ElidedLabel(measure.name, "dim"), place, 0)
            self._grid.addWidget(value, place, 1)
            self._grid.addWidget(unit, place, 2)
        self._shown = measures
