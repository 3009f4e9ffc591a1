"""Words and lines on a viewport: letters, corner texts, badges, scale bar, crosshair, edge."""

from __future__ import annotations

import math

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPen, QPolygonF

from app.presenters.reading_state import Crosshair, HeatLayer, MarkLayer, ViewportState
from app.views.theme import Theme
from app.views.viewport_text import draw_edge, draw_notice, draw_text, overlay_color
from core.render.annotations import Badge
from core.render.heat import color_ramp
from core.render.placement import Placement, scale_bar
from core.render.planes import Plane

CROSSHAIR_GAP_PX = 14.0
SCALE_BAR_SHARE = 0.22
_LEGEND_HEIGHT_PX = 120.0
_LEGEND_WIDTH_PX = 10.0
_LETTER_HALF_PX = 12.0
_BAR_HEIGHT_PX = 30.0


def plane_token(plane: Plane | None) -> str:
    """Colour token of a plane; images and the 3-D view have the neutral line colour."""
    return f"plane_{plane.value}" if plane is not None and plane is not Plane.IMAGE else "control"


def _widest(metrics: QFontMetricsF, text: str) -> float:
    return max((metrics.horizontalAdvance(line) for line in text.split("\n")), default=0.0)


class Annotator:
    """Draws what stands on top of the pixels, in device-independent pixels."""

    def __init__(self, theme: Theme) -> None:
        self._theme = theme
        self._text_font = theme.font("font_base")
        self._small_font = theme.font("font_small")

    def draw(
        self, painter: QPainter, state: ViewportState, placement: Placement, area: QRectF, readout: str
    ) -> None:
        """Draw everything that a state asks for; ``placement`` is in the painter's pixels."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        if state.crosshair is not None:
            self._crosshair(painter, state.crosshair, placement, area)
        for layer in state.marks:
            self._marks(painter, layer, placement, area)
        if state.picture is not None:
            self._letters(painter, state, area)
            self._scale_bar(painter, state, placement, area)
        if state.annotated:
            self._corners(painter, state, area, readout)
        elif readout:
            self._text(
                painter, readout, self._inner(area), Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom
            )
        if state.heat is not None:
            self._legend(painter, state.heat, area)
        elif state.values is not None:
            self._legend(painter, state.values, area)
        self._badges(painter, state.badges, area)
        if state.notice is not None:
            draw_notice(painter, self._theme, state.notice, area)
        draw_edge(painter, self._theme, plane_token(state.slot.plane), state.active, area)

    def _inner(self, area: QRectF) -> QRectF:
        pad = float(self._theme.size("pad"))
        return area.adjusted(pad, pad - 2, -pad, -pad + 2)

    def _text(
        self,
        painter: QPainter,
        text: str,
        area: QRectF,
        flags: Qt.AlignmentFlag,
        token: str = "overlay_text",
        size: str = "font_base",
        bold: bool = False,
    ) -> None:
        draw_text(painter, self._theme, text, area, flags, token, size, bold)

    def _corners(self, painter: QPainter, state: ViewportState, area: QRectF, readout: str) -> None:
        inner, align = self._inner(area), Qt.AlignmentFlag
        title, _, rest = state.corners.top_left.partition("\n")
        self._text(
            painter,
            title,
            inner,
            align.AlignLeft | align.AlignTop,
            plane_token(state.slot.plane),
            "font_small",
        )
        below = inner.adjusted(0, QFontMetricsF(self._small_font).height() + 2, 0, 0)
        lines = [rest] if rest else []
        lines += [layer.note for layer in (state.heat, state.values) if layer is not None]
        room = inner.width() * 0.6
        metrics = QFontMetricsF(self._text_font)
        text = "\n".join(metrics.elidedText(line, Qt.TextElideMode.ElideRight, room) for line in lines)
        self._text(painter, text, below, align.AlignLeft | align.AlignTop)
        if state.corners.marker:
            # Side and view of a projection are read before anything else.
            under = below.adjusted(0, len(lines) * metrics.height() + 6, 0, 0)
            where = align.AlignLeft | align.AlignTop
            self._text(painter, state.corners.marker, under, where, size="font_marker", bold=True)
        left = "\n".join(part for part in (readout, state.corners.bottom_left) if part)
        right = state.corners.bottom_right
        self._text(painter, right, inner, align.AlignRight | align.AlignBottom)
        if _widest(metrics, left) + _widest(metrics, right) + 8 > inner.width():
            # Too narrow for both: the left text goes above the right one and the scale bar.
            taken = (right.count("\n") + 1) * metrics.height() + _BAR_HEIGHT_PX
            inner = inner.adjusted(0, 0, 0, -taken)
        self._text(painter, left, inner, align.AlignLeft | align.AlignBottom)

    def _letters(self, painter: QPainter, state: ViewportState, area: QRectF) -> None:
        if state.grid is None:
            return
        letters, inner, align = state.grid.letters, self._inner(area), Qt.AlignmentFlag
        above = inner.adjusted(0, 0, 0, -self._crowded_height(state, inner))
        for text, where, room in (
            (letters.left, align.AlignLeft | align.AlignVCenter, inner),
            (letters.right, align.AlignRight | align.AlignVCenter, inner),
            (letters.top, align.AlignHCenter | align.AlignTop, inner),
            (letters.bottom, align.AlignHCenter | align.AlignBottom, above),
        ):
            if text:
                self._text(painter, text, room, where, size="font_title", bold=True)

    def _crowded_height(self, state: ViewportState, inner: QRectF) -> float:
        """Return how much of the bottom's middle the corner texts of a narrow viewport take."""
        metrics = QFontMetricsF(self._text_font)
        half = inner.width() / 2 - _LETTER_HALF_PX
        corners = (state.corners.bottom_left, state.corners.bottom_right)
        lines = 0
        for text in corners if state.annotated else ():
            for height, line in enumerate(reversed(text.split("\n")), start=1):
                if metrics.horizontalAdvance(line) > half:
                    lines = max(lines, height)
        return lines * metrics.height()

    def _scale_bar(self, painter: QPainter, state: ViewportState, placement: Placement, area: QRectF) -> None:
        if state.grid is None or not state.calibrated:
            return
        bar = scale_bar(placement.dx / state.grid.spacing_mm[1], area.width() * SCALE_BAR_SHARE)
        if bar is None:
            return
        inner = self._inner(area)
        lines = (
            state.corners.bottom_right.count("\n") + 1
            if state.annotated and state.corners.bottom_right
            else 0
        )
        y = round(inner.bottom() - lines * QFontMetricsF(self._text_font).height() - 8)
        right, left = inner.right(), inner.right() - round(bar.length_px)
        for token, grow in (("overlay_shadow", 1), ("overlay_text", 0)):
            color = self._theme.qcolor(token, 200 if grow else 255)
            painter.fillRect(QRectF(left, y, right - left, 1).adjusted(-grow, -grow, grow, grow), color)
            for x in (left, right - 1):
                painter.fillRect(QRectF(x, y - 4, 1, 9).adjusted(-grow, -grow, grow, grow), color)
        label = QRectF(
            right - 80,
            y - 6 - QFontMetricsF(self._small_font).height(),
            80,
            QFontMetricsF(self._small_font).height(),
        )
        self._text(painter, bar.label, label, Qt.AlignmentFlag.AlignRight, size="font_small")

    def _crosshair(self, painter: QPainter, cross: Crosshair, placement: Placement, area: QRectF) -> None:
        x, y = placement.to_viewport(cross.column, cross.row)
        gap, x, y = CROSSHAIR_GAP_PX, math.floor(x), math.floor(y)
        vertical = [
            QRectF(x, area.top(), 1, y - gap - area.top()),
            QRectF(x, y + gap, 1, area.bottom() - y - gap),
        ]
        horizontal = [
            QRectF(area.left(), y, x - gap - area.left(), 1),
            QRectF(x + gap, y, area.right() - x - gap, 1),
        ]
        for plane, bars in ((cross.vertical, vertical), (cross.horizontal, horizontal)):
            color = overlay_color(self._theme, plane_token(plane), 190)
            for bar in bars:
                # A crosshair outside the viewport leaves bars of negative length.
                if bar.width() > 0 and bar.height() > 0:
                    painter.fillRect(bar, color)

    def _badges(self, painter: QPainter, badges: tuple[Badge, ...], area: QRectF) -> None:
        inner = self._inner(area)
        metrics = QFontMetricsF(self._small_font)
        y = inner.top()
        for badge in badges:
            text = metrics.elidedText(badge.text, Qt.TextElideMode.ElideRight, area.width() * 0.35)
            box = QRectF(0, y, metrics.horizontalAdvance(text) + 14, metrics.height() + 6)
            box.moveRight(inner.right())
            caution = badge.tone == "caution"
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(0, 0, 0, 190))
            painter.drawRoundedRect(box, 4, 4)
            token = "caution" if caution else "text_dim"
            if caution:
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.setPen(QPen(overlay_color(self._theme, token, 160), 1.0))
                painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
            painter.setFont(self._small_font)
            painter.setPen(overlay_color(self._theme, token))
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)
            y += box.height() + 4

    def _marks(self, painter: QPainter, layer: MarkLayer, placement: Placement, area: QRectF) -> None:
        """Draw graphics with a dark border, so that they are seen on black and white."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        color = overlay_color(self._theme, layer.color)
        shadow = QPen(self._theme.qcolor("overlay_shadow", 200), 3.0)
        for mark in layer.marks:
            lines = [self._on_screen(layer, placement, line) for line in mark.lines_ij]
            dots = self._on_screen(layer, placement, np.asarray(mark.points_ij).reshape(-1, 2))
            for pen in (shadow, QPen(color, 1.4)):
                painter.setPen(pen)
                for line in lines:
                    painter.drawPolyline(QPolygonF(line))
                for dot in dots:
                    painter.drawLine(dot - QPointF(6, 0), dot + QPointF(6, 0))
                    painter.drawLine(dot - QPointF(0, 6), dot + QPointF(0, 6))
            if mark.text:
                at = self._on_screen(layer, placement, np.asarray([mark.anchor_ij]))[0]
                box = QRectF(at.x() + 8, at.y() - 18, area.right() - at.x() - 8, 60)
                self._text(painter, mark.text, box, Qt.AlignmentFlag.AlignLeft, layer.color, "font_small")
        painter.restore()

    def _on_screen(self, layer: MarkLayer, placement: Placement, points: np.ndarray) -> list[QPointF]:
        return [QPointF(*placement.to_viewport(float(c), float(r))) for c, r in layer.place(points)]

    def _legend(self, painter: QPainter, layer: HeatLayer, area: QRectF) -> None:
        """Draw a map's colours with their scale; the part below the threshold is dimmed."""
        style, words = layer.style, layer.legend
        ramp = np.ascontiguousarray(color_ramp(style.colors)[::-1].reshape(256, 1, 3))
        image = QImage(ramp.data, 1, 256, 3, QImage.Format.Format_RGB888)
        inner = self._inner(area)
        height = min(_LEGEND_HEIGHT_PX, area.height() * 0.35)
        box = QRectF(
            inner.right() - 34 - _LEGEND_WIDTH_PX, area.center().y() - height / 2, _LEGEND_WIDTH_PX, height
        )
        painter.drawImage(box, image)
        cut = box.bottom() - style.threshold * box.height()
        painter.fillRect(QRectF(box.left(), cut, box.width(), box.bottom() - cut), QColor(0, 0, 0, 190))
        painter.setPen(QPen(self._theme.qcolor("overlay_text"), 1.0))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(box)
        half = QFontMetricsF(self._small_font).height() / 2
        align = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for value, text in ((1.0, words.high), (style.threshold, words.cut), (0.0, words.low)):
            crowded = value == 0.0 and bool(words.cut) and style.threshold * box.height() < 2 * half
            if not text or crowded:
                continue
            y = box.bottom() - value * box.height()
            label = QRectF(area.left(), y - half, box.left() - 6 - area.left(), 2 * half)
            self._text(painter, text, label, align, size="font_small")
        if words.title:
            label = QRectF(area.left(), box.top() - 4 * half, box.right() - area.left(), 2 * half)
            self._text(painter, words.title, label, align, size="font_small")
