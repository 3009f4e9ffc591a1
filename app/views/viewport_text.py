"""Words on dark pictures: outlined text, messages and edges, shared by plane and 3-D viewports."""

from __future__ import annotations

import math
from functools import lru_cache

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPainterPath, QPen

from app.presenters.reading_state import Notice
from app.views.theme import Theme

_OUTLINE_PX = 3.0
_NOTICE_WIDTH_PX = 480.0
_LIGHTEST_DARK, _LIFTED = 0.5, 0.68


@lru_cache(maxsize=16)
def _font(theme: Theme, size: str, bold: bool) -> QFont:
    return theme.font(size, QFont.Weight.DemiBold if bold else QFont.Weight.Normal)


@lru_cache(maxsize=1024)
def _line_image(
    text: str, theme: Theme, token: str, size: str, bold: bool, ratio: float
) -> tuple[QImage, QRectF]:
    """One line with its dark outline as a picture, and its box (advance and height) within it.

    Stroking glyphs costs a millisecond; most lines stay the same from frame to frame.
    """
    font = _font(theme, size, bold)
    metrics = QFontMetricsF(font)
    box = QRectF(_OUTLINE_PX, _OUTLINE_PX, metrics.horizontalAdvance(text), metrics.height())
    pixels = QSize(
        math.ceil((box.width() + 2 * _OUTLINE_PX) * ratio),
        math.ceil((box.height() + 2 * _OUTLINE_PX) * ratio),
    )
    image = QImage(pixels, QImage.Format.Format_ARGB32_Premultiplied)
    image.setDevicePixelRatio(ratio)
    image.fill(Qt.GlobalColor.transparent)
    path = QPainterPath()
    path.addText(QPointF(box.left(), box.top() + metrics.ascent()), font, text)
    shadow = QPen(theme.qcolor("overlay_shadow", 235), _OUTLINE_PX)
    shadow.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.strokePath(path, shadow)
    painter.fillPath(path, overlay_color(theme, token))
    painter.end()
    return image, box


@lru_cache(maxsize=64)
def overlay_color(theme: Theme, token: str, alpha: int = 255) -> QColor:
    """A token's colour as it is read on a dark picture: the dark ones of a light theme are lifted."""
    color = theme.qcolor(token, alpha)
    if color.lightnessF() < _LIGHTEST_DARK:
        hue, saturation = max(color.hslHueF(), 0.0), color.hslSaturationF()
        color = QColor.fromHslF(hue, saturation, _LIFTED, alpha / 255)
    return color


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
    device = painter.device()
    ratio = device.devicePixelRatioF() if device is not None else 1.0
    lines = [_line_image(line, theme, token, size, bold, ratio) for line in text.split("\n")]
    height = sum(box.height() for _, box in lines)
    y = area.top()
    if flags & Qt.AlignmentFlag.AlignBottom:
        y = area.bottom() - height
    elif flags & Qt.AlignmentFlag.AlignVCenter:
        y = area.center().y() - height / 2
    for image, box in lines:
        x = area.left()
        if flags & Qt.AlignmentFlag.AlignRight:
            x = area.right() - box.width()
        elif flags & Qt.AlignmentFlag.AlignHCenter:
            x = area.center().x() - box.width() / 2
        painter.drawImage(QPointF(round(x) - box.left(), round(y) - box.top()), image)
        y += box.height()


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
    color, width = overlay_color(theme, token, 255 if active else 120), 2.0 if active else 1.0
    for side in (
        QRectF(area.left(), area.top(), area.width(), width),
        QRectF(area.left(), area.bottom() - width, area.width(), width),
        QRectF(area.left(), area.top() + width, width, area.height() - 2 * width),
        QRectF(area.right() - width, area.top() + width, width, area.height() - 2 * width),
    ):
        painter.fillRect(side, color)
