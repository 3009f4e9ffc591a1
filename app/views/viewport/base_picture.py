"""The pixels of a viewport below its annotations, kept until something in them changes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QImage, QPainter, QPen, QPolygonF

from app.presenters.reading_state import Gap, LabelLayer, Line, ViewportState
from core.render.overlay import draw_labels
from core.render.placement import Placement, place

Size = tuple[int, int]
_LINE_PX = 2.0
_DASHES = [5.0, 3.0]
_GAP_ALPHA = 70


def image_over(pixels: NDArray[np.uint32], image_format: QImage.Format) -> QImage:
    """Wrap screen pixels without a copy; the array must outlive the image."""
    rows, columns = pixels.shape
    return QImage(pixels.data, columns, rows, columns * 4, image_format)


class BasePicture:
    """Composes picture, heat map and segments in device pixels and remembers the outcome."""

    def __init__(self, background: QColor) -> None:
        self._background = background
        self._key: Hashable = None
        self._image = QImage()
        self._picture_key: Hashable = None
        self._pixels: NDArray[np.uint32] | None = None
        self._small: QImage | None = None

    def image(self, state: ViewportState, size: Size, ratio: float = 1.0) -> QImage:
        """Return the composition for a viewport of ``size`` device pixels; do not modify it.

        ``ratio`` is the number of device pixels per pixel: outlines are as thick on every screen.
        """
        labels, heat = state.labels, state.heat
        key = (
            state.picture.key if state.picture else None,
            (labels.key, labels.style, labels.hidden) if labels else None,
            heat.key if heat else None,
            state.values.key if state.values else None,
            tuple((layer.key, layer.style, layer.hidden) for layer in state.overlays),
            tuple(layer.key for layer in state.lines),
            state.gaps,
            state.camera,
            size,
            ratio,
        )
        if key != self._key:
            self._compose(state, size, ratio)
            self._key = key
        return self._image

    def _compose(self, state: ViewportState, size: Size, ratio: float) -> None:
        if self._image.size() != QSize(*size):
            self._image = QImage(*size, QImage.Format.Format_RGB32)
        self._image.fill(self._background)
        if state.grid is None or (state.picture is None and not state.gaps):
            return
        placement = place(state.grid, size, state.camera)
        painter = QPainter(self._image)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self._draw_picture(painter, state, placement)
        for layer in (state.values, state.heat):
            if layer is not None:
                heat = layer.load()
                image = image_over(heat, QImage.Format.Format_ARGB32_Premultiplied)
                painter.drawImage(_target(placement), image)
        _draw_gaps(painter, state.gaps, placement)
        for overlay in state.overlays:
            _draw_labels(painter, overlay, placement, size, ratio)
        for lines in state.lines:
            _draw_lines(painter, lines.load(), placement, ratio)
        if state.labels is not None:
            _draw_labels(painter, state.labels, placement, size, ratio)
        painter.end()

    def _draw_picture(self, painter: QPainter, state: ViewportState, placement: Placement) -> None:
        picture = state.picture
        if picture is None:
            return
        if self._pixels is None or picture.key != self._picture_key:
            self._pixels = picture.load()
            self._picture_key, self._small = picture.key, None
        image = image_over(self._pixels, QImage.Format.Format_RGB32)
        if min(placement.dx, placement.dy) >= 0.5:
            painter.drawImage(_target(placement), image)
            return
        # Two-by-two interpolation would skip pixels of a big radiograph: average them instead, once.
        wanted = QSize(max(1, round(placement.width)), max(1, round(placement.height)))
        if self._small is None or self._small.size() != wanted:
            self._small = image.scaled(
                wanted, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
        painter.drawImage(QPointF(round(placement.left), round(placement.top)), self._small)


def _target(placement: Placement) -> QRectF:
    return QRectF(placement.left, placement.top, placement.width, placement.height)


def _draw_labels(
    painter: QPainter, layer: LabelLayer, placement: Placement, size: Size, ratio: float
) -> None:
    style = replace(layer.style, outline_px=max(1, round(layer.style.outline_px * ratio)))
    patch = draw_labels(layer.load(), placement, size, layer.colors, style, layer.hidden)
    if patch is None:
        return
    image = image_over(np.ascontiguousarray(patch.pixels), QImage.Format.Format_ARGB32_Premultiplied)
    painter.drawImage(QPointF(patch.x, patch.y), image)


def _draw_lines(painter: QPainter, lines: tuple[Line, ...], placement: Placement, ratio: float) -> None:
    """Draw contours point by point; the dashes tell them from segments of our models."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for line in lines:
        pen = QPen(QColor(*line.color), _LINE_PX * ratio)
        pen.setDashPattern(_DASHES)
        painter.setPen(pen)
        points = [QPointF(*placement.to_viewport(float(c), float(r))) for c, r in line.points]
        if len(line.points) == 1:
            painter.drawEllipse(points[0], 3 * ratio, 3 * ratio)
        elif line.closed:
            painter.drawPolygon(QPolygonF(points))
        else:
            painter.drawPolyline(QPolygonF(points))
    painter.restore()


def _draw_gaps(painter: QPainter, gaps: tuple[Gap, ...], placement: Placement) -> None:
    """Hatch what was never acquired: it must not be taken for air."""
    for gap in gaps:
        area = QRectF(
            placement.left + gap.column * placement.dx,
            placement.top + gap.row * placement.dy,
            gap.columns * placement.dx,
            gap.rows * placement.dy,
        )
        painter.fillRect(area, QColor(0, 0, 0))
        painter.fillRect(area, QBrush(QColor(255, 255, 255, _GAP_ALPHA), Qt.BrushStyle.BDiagPattern))
