"""Words on dark pictures: outlined text, messages and edges, shared by plane and 3-D viewports."""

from __future__ import annotations

from functools import lru_cache

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFont, QFontMetricsF, QPainter, QPainterPath, QPen

from app.presenters.reading_state import Notice
from app.views.theme import Theme

_OUTLINE_PX = 2.5
_NOTICE_WIDTH_PX = 480.0


@lru_cache(maxsize=16)
def _font(theme: Theme, size: str, bold: bool) -> QFont:
    return theme.font(size, QFont.Weight.DemiBold if bold else QFont.Weight.Normal)


@lru_cache(maxsize=512)
def _outline(text: str, theme: Theme, size: str, bold: bool) -> tuple[QPainterPath, QRectF]:
    """Glyph outlines of one line at the origin's baseline, with ascent, descent and advance as a box."""
    font = _font(theme, size, bold)
    path = QPainterPath()
    path.addText(QPointF(0, 0), font, text)
    metrics = QFontMetricsF(font)
    return path, QRectF(0, -metrics.ascent(), metrics.horizontalAdvance(text), metrics.height())


def line_height(theme: Theme, size: str = "font_base") -> float:
    """Height of a line of text in pixels."""
    return QFontMetricsF(_font(theme, size, False)).height()


def draw_text(
    painter: QPainter,
    theme: Theme,
    text: str,
    area: QRectF,
    flags: Qt.AlignmentFlag,
    token: str = "overlay_text",
    size: str = "font_base",
    bold: bool = False,
) -> None:
    """Write lines of text with a dark outline, so that they are read over lung and bone alike."""
    if not text:
        return
    lines = [_outline(line, theme, size, bold) for line in text.split("\n")]
    height = sum(box.height() for _, box in lines)
    y = area.top()
    if flags & Qt.AlignmentFlag.AlignBottom:
        y = area.bottom() - height
    elif flags & Qt.AlignmentFlag.AlignVCenter:
        y = area.center().y() - height / 2
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    shadow = QPen(theme.qcolor("overlay_shadow", 200), _OUTLINE_PX)
    shadow.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    for path, box in lines:
        x = area.left()
        if flags & Qt.AlignmentFlag.AlignRight:
            x = area.right() - box.width()
        elif flags & Qt.AlignmentFlag.AlignHCenter:
            x = area.center().x() - box.width() / 2
        moved = path.translated(round(x), round(y - box.top()))
        painter.strokePath(moved, shadow)
        painter.fillPath(moved, theme.qcolor(token))
        y += box.height()
    painter.restore()


def draw_notice(painter: QPainter, theme: Theme, notice: Notice, area: QRectF) -> None:
    """Write a message in the middle: what, why, what to do."""
    lines = (
        (notice.title, _font(theme, "font_title", True), 255),
        (notice.detail, _font(theme, "font_base", False), 190),
        (notice.remedy, _font(theme, "font_base", False), 190),
    )
    width = min(area.width() - 2 * theme.size("wide"), _NOTICE_WIDTH_PX)
    flags = int(Qt.AlignmentFlag.AlignHCenter) | int(Qt.TextFlag.TextWordWrap)
    boxes = [
        (text, font, alpha, QFontMetricsF(font).boundingRect(QRectF(0, 0, width, 1e4), flags, text).height())
        for text, font, alpha in lines
        if text
    ]
    gap = float(theme.size("gap"))
    y = area.center().y() - (sum(box[3] for box in boxes) + gap * (len(boxes) - 1)) / 2
    for text, font, alpha, height in boxes:
        painter.setFont(font)
        painter.setPen(theme.qcolor("overlay_text", alpha))
        painter.drawText(QRectF(area.center().x() - width / 2, y, width, height + 1), flags, text)
        y += height + gap


def draw_edge(painter: QPainter, theme: Theme, token: str, active: bool, area: QRectF) -> None:
    """Draw the thin edge of a viewport, brighter and thicker on the active one."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    width = 2.0 if active else 1.0
    painter.setPen(QPen(theme.qcolor(token, 255 if active else 120), width))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    inset = width / 2
    painter.drawRect(area.adjusted(inset, inset, -inset, -inset))
