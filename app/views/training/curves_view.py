"""Live curves: two plots side by side, each with its keys above it. The drawing library is loaded when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.presenters.ports import Tasks
from app.presenters.training_curves import LOSS, SCORE, Curve
from app.views.theme import Theme
from app.views.widgets.controls import Label, clear_layout, column

STYLES = {
    "loss": ("curve_1", Qt.PenStyle.SolidLine, ""),
    "train_loss": ("curve_1", Qt.PenStyle.SolidLine, ""),
    "validation_loss": ("curve_2", Qt.PenStyle.DashLine, "s"),
}
OTHERS = (
    ("curve_3", Qt.PenStyle.SolidLine, "o"),
    ("curve_2", Qt.PenStyle.DashLine, "s"),
    ("curve_1", Qt.PenStyle.DotLine, "o"),
)
Style = tuple[str, Qt.PenStyle, str]
_KEY_WIDTH, _SYMBOL_PX, _FEW_POINTS = 24, 6, 120


def load_drawing() -> Any:
    """Import the drawing library; half a second of work, for a thread that nobody waits for."""
    import pyqtgraph

    return pyqtgraph


class CurveKey(QWidget):
    """The line of a curve as the plot draws it, with its name and newest value."""

    def __init__(self, theme: Theme, curve: Curve, style: Style) -> None:
        super().__init__()
        token, self._pen_style, self._symbol = style
        self._color = theme.qcolor(token)
        self._ink = theme.qcolor("text_dim")
        self._text = f"{curve.title} {curve.values[-1]:.3g}" if curve.values else curve.title
        self.setFont(theme.font("font_small"))
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(self._text)

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        return QSize(_KEY_WIDTH + 8 + metrics.horizontalAdvance(self._text), metrics.height() + 4)

    def minimumSizeHint(self) -> QSize:
        return QSize(_KEY_WIDTH, self.sizeHint().height())

    def paintEvent(self, _: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle = self.height() / 2
        painter.setPen(QPen(self._color, 2.0, self._pen_style))
        painter.drawLine(0, round(middle), _KEY_WIDTH, round(middle))
        if self._symbol:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(self._color)
            half = _SYMBOL_PX / 2
            mark = QRectF(_KEY_WIDTH / 2 - half, middle - half, 2 * half, 2 * half)
            if self._symbol == "s":
                painter.drawRect(mark)
            else:
                painter.drawEllipse(mark)
        painter.setPen(self._ink)
        room = self.rect().adjusted(_KEY_WIDTH + 8, 0, 0, 0)
        shown = self.fontMetrics().elidedText(self._text, Qt.TextElideMode.ElideRight, room.width())
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), shown)


class CurvesView(QWidget):
    """Draws curves; ``empty`` is what it says before there are any.

    Parameters
    ----------
    plots : sequence of (str, str)
        Name and label of the vertical axis of each plot, left to right.
    bottom : str
        Label of the horizontal axes.
    """

    def __init__(
        self,
        theme: Theme,
        tasks: Tasks,
        plots: Sequence[tuple[str, str]] = ((LOSS, "Loss"), (SCORE, "Score")),
        bottom: str = "Step",
        empty: str = "Curves appear with the first steps.",
    ) -> None:
        super().__init__()
        self._theme = theme
        self._tasks = tasks
        self._wanted = tuple(plots)
        self._bottom = bottom
        self._drawing: Any = None
        self._loading = False
        self._shown: tuple[Curve, ...] = ()
        self._ticks: tuple[tuple[float, str], ...] = ()
        self.plots: dict[str, Any] = {}
        self._lines: dict[str, Any] = {}
        self._empty = Label(empty, "dim", wrap=True)
        self._keys: dict[str, QVBoxLayout] = {}
        self._places = QHBoxLayout()
        self._places.setSpacing(8)
        body = column(self._empty, self._places, gap=4)
        body.setStretch(1, 1)
        self.setLayout(body)
        self.setMinimumSize(200, 120)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme
        for name, plot in self.plots.items():
            self._dress(name, plot)
        self._lines_anew()

    def show_curves(self, curves: tuple[Curve, ...], ticks: tuple[tuple[float, str], ...] = ()) -> None:
        """Draw curves; ``ticks`` name places of the horizontal axes."""
        self._shown, self._ticks = curves, ticks
        self._empty.setVisible(not curves)
        if curves and self._drawing is None:
            self._load()
            return
        self._draw()

    def _load(self) -> None:
        if self._loading:
            return
        self._loading = True

        def done(drawing: Any) -> None:
            self._drawing = drawing
            for name, label in self._wanted:
                self.plots[name] = self._plot(name, label)
                self._keys[name] = QVBoxLayout()
                self._keys[name].setSpacing(0)
                place = column(self._keys[name], self.plots[name], gap=4)
                place.setStretch(1, 1)
                self._places.addLayout(place, 1)
            self._draw()

        self._tasks.io(load_drawing, done, lambda error: self._empty.setText(error.user_message))

    def _plot(self, name: str, label: str) -> Any:
        plot = self._drawing.PlotWidget()
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setMouseEnabled(x=False, y=False)
        plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        plot.setAntialiasing(True)
        plot.getPlotItem().setClipToView(True)
        plot.setAccessibleName(label)
        if name == SCORE:
            plot.setLimits(yMin=-0.02, yMax=1.02)
        self._dress(name, plot)
        return plot

    def _dress(self, name: str, plot: Any) -> None:
        theme, label = self._theme, dict(self._wanted)[name]
        plot.setBackground(theme.qcolor("panel"))
        plot.showGrid(x=False, y=True, alpha=0.15)
        for side, text in (("left", label), ("bottom", self._bottom)):
            axis = plot.getAxis(side)
            axis.setPen(theme.qcolor("control"))
            axis.setTextPen(theme.qcolor("text_dim"))
            axis.setTickFont(theme.font("font_small"))
            axis.enableAutoSIPrefix(False)
            axis.setLabel(
                text, color=theme.color("text_dim"), **{"font-size": f"{theme.size('font_small')}px"}
            )

    def _lines_anew(self) -> None:
        for line in self._lines.values():
            for plot in self.plots.values():
                plot.removeItem(line)
        self._lines = {}
        self._draw()

    def _draw(self) -> None:
        if self._drawing is None:
            return
        for name, keys in self._keys.items():
            clear_layout(keys)
            for curve in self._shown:
                if curve.plot == name:
                    keys.addWidget(CurveKey(self._theme, curve, self._style_of(curve)))
        present = {curve.name for curve in self._shown}
        for name in [name for name in self._lines if name not in present]:
            line = self._lines.pop(name)
            for plot in self.plots.values():
                plot.removeItem(line)
        for curve in self._shown:
            self._draw_curve(curve)
        if self._ticks:
            for plot in self.plots.values():
                plot.getAxis("bottom").setTicks([self._ticks])
        for name, plot in self.plots.items():
            plot.setVisible(any(curve.plot == name for curve in self._shown))

    def _style_of(self, curve: Curve) -> Style:
        """Return colour, line and mark of a curve; those without a style of their own differ within a plot."""
        if curve.name in STYLES:
            return STYLES[curve.name]
        others = [c.name for c in self._shown if c.plot == curve.plot and c.name not in STYLES]
        return OTHERS[others.index(curve.name) % len(OTHERS)]

    def _draw_curve(self, curve: Curve) -> None:
        plot = self.plots.get(curve.plot)
        if plot is None:
            return
        token, pen_style, symbol = self._style_of(curve)
        color: QColor = self._theme.qcolor(token)
        line = self._lines.get(curve.name)
        if line is None:
            # A pen wider than one pixel makes Qt draw long lines slowly; the curves have a bounded number of points.
            pen = self._drawing.mkPen(color, width=1.5, style=pen_style)
            line = self._lines[curve.name] = plot.plot(pen=pen, symbolPen=None, symbolBrush=color)
            line.setSymbolSize(_SYMBOL_PX)
        few = len(curve.steps) <= _FEW_POINTS
        line.setSymbol(symbol if symbol and few else None)
        line.setData(list(curve.steps), list(curve.values))
