"""The 3-D viewport: offers to build itself, then shows pictures that the render thread delivers."""

from __future__ import annotations

import math
from dataclasses import replace

from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QSizePolicy, QWidget

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import Notice, SceneState, Slot
from app.views.theme import Theme
from app.views.viewport_text import draw_edge, draw_notice, draw_text
from app.views.volume3d.render_thread import Look, Picture, RenderThread
from core.render.scene import Viewpoint, axis_marks
from core.render.scene_presets import SEGMENTS_ONLY, preset

#: The fine picture follows when the mouse has rested this long.
REST_MS = 180
#: While the scene is turned, pictures are this much smaller.
QUICK_SHRINK = 2
DEGREES_PER_PX = 0.5
#: Larger pictures are drawn at this many pixels and scaled up.
MOST_PIXELS = 1_200_000
_WHEEL_ZOOM = 1.12
_DRAG_ZOOM_PX = 200.0
_CLICK_SLACK_PX = 4.0
_MARK_RADIUS_PX = 26.0


class SceneView(QWidget):
    """Left drag turns, middle drag pans, right drag and wheel zoom; a right click opens the menu."""

    menu_requested = Signal(QPoint)
    painted = Signal()

    def __init__(self, presenter: ReadingPresenter, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._presenter = presenter
        self._theme = theme
        self._state = SceneState()
        self._view = Viewpoint()
        self._image: QImage | None = None
        self._picture: Picture | None = None
        self._failure: Notice | None = None
        self._button = Qt.MouseButton.NoButton
        self._began = self._last = QPointF()
        self._moved = False
        back = theme.qcolor("picture")
        self._renderer = RenderThread((back.red(), back.green(), back.blue()), self)
        self._renderer.drawn.connect(self._show_picture)
        self._renderer.failed.connect(self._show_failure)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._ask_full)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shutdown)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.setMinimumSize(QSize(96, 96))
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setAccessibleName("3-D viewport")

    @property
    def sharp(self) -> bool:
        """Whether the picture on screen is the full one, not the coarse one of a movement."""
        return self._image is not None and self._picture is not None and not self._picture.look.quick

    def shutdown(self) -> None:
        """End the render thread; the last picture stays."""
        self._rest.stop()
        self._renderer.stop()

    def set_state(self, state: SceneState) -> None:
        """Show a state; a picture of another series is taken off at once."""
        if state.key != self._state.key and state.volume is not self._state.volume:
            self._image, self._picture, self._failure = None, None, None
            self._view = Viewpoint()
        self._state = state
        if state.wanted:
            self._rest.start(0)
        self.update()

    def reset_view(self) -> None:
        """Look from the front again."""
        self._view = Viewpoint()
        self._ask(quick=False)

    @property
    def viewpoint(self) -> Viewpoint:
        """From where the scene is looked at."""
        return self._view

    # -- asking and showing ------------------------------------------------------------------------

    def _pixel_size(self, shrink: int = 1) -> tuple[int, int]:
        ratio = self.devicePixelRatioF() / shrink
        ratio *= min(1.0, math.sqrt(MOST_PIXELS / max(1.0, self.width() * self.height() * ratio * ratio)))
        return max(32, round(self.width() * ratio)), max(32, round(self.height() * ratio))

    def _ask(self, quick: bool) -> None:
        if not self._state.wanted or self._failure is not None or not self.isVisible():
            return
        look = Look(self._view, self._pixel_size(QUICK_SHRINK if quick else 1), quick)
        self._renderer.request(self._state, look)
        if quick:
            self._rest.start(REST_MS)

    def _ask_full(self) -> None:
        # The first picture of a series may be coarse: it is there in half the time.
        self._ask(quick=self._image is None)

    def _show_picture(self, picture: Picture) -> None:
        if picture.content != self._state.key:
            return
        height, width, _ = picture.pixels.shape
        self._picture = picture
        self._image = QImage(picture.pixels.data, width, height, width * 3, QImage.Format.Format_RGB888)
        self.update()

    def _show_failure(self, message: str, remedy: str) -> None:
        self._failure = Notice("No 3-D view", message, remedy, "danger")
        self._image = None
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        area = QRectF(self.rect())
        painter.fillRect(area, self._theme.qcolor("picture"))
        notice = self._notice()
        if notice is not None:
            draw_notice(painter, self._theme, notice, area)
        elif self._image is not None:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(area, self._image)
        pad = self._theme.size("pad")
        inner = area.adjusted(pad, pad - 2, -pad, -pad + 2)
        if self._presenter.intent.texts:
            draw_text(
                painter,
                self._theme,
                self._title(),
                inner,
                Qt.AlignmentFlag.AlignLeft,
                "text_dim",
                "font_small",
            )
        if self._image is not None and notice is None:
            self._draw_marks(painter, area)
            if (
                self._state.preset == SEGMENTS_ONLY
                and self._state.notice is not None
                and self._state.notice.detail
            ):
                flags = Qt.AlignmentFlag.AlignRight
                draw_text(
                    painter, self._theme, self._state.notice.detail, inner, flags, "caution", "font_small"
                )
        draw_edge(painter, self._theme, "control", self._state.active, area)
        painter.end()
        self.painted.emit()

    def _notice(self) -> Notice | None:
        if self._failure is not None:
            return self._failure
        if self._state.notice is not None and self._state.notice.title:
            return self._state.notice
        if not self._state.wanted:
            return Notice("3-D", "Click to build the view from this series.")
        return Notice("", "Building the 3-D view…") if self._image is None else None

    def _title(self) -> str:
        if not self._state.wanted:
            return "3-D"
        name = "Segments" if self._state.preset == SEGMENTS_ONLY else preset(self._state.preset).title
        return f"3-D   {name}"

    def _draw_marks(self, painter: QPainter, area: QRectF) -> None:
        """Draw the patient's directions as a small compass; those that point away are dim."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pad = self._theme.size("pad")
        center = QPointF(area.right() - pad - _MARK_RADIUS_PX - 8, area.bottom() - pad - _MARK_RADIUS_PX - 8)
        for mark in axis_marks(self._view):
            tip = center + QPointF(mark.x, mark.y) * _MARK_RADIUS_PX
            near = mark.toward_eye >= -0.05
            painter.setPen(QPen(self._theme.qcolor("overlay_text", 200 if near else 70), 1.2))
            painter.drawLine(center, tip)
            box = QRectF(tip.x() - 10, tip.y() - 9, 20, 18).translated(mark.x * 8, mark.y * 8)
            token = "overlay_text" if near else "control"
            draw_text(
                painter, self._theme, mark.letter, box, Qt.AlignmentFlag.AlignCenter, token, "font_small"
            )

    # -- hands -------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._presenter.activate(Slot.SCENE)
        self._button, self._moved = event.button(), False
        self._began = self._last = event.position()
        if not self._state.wanted and event.button() == Qt.MouseButton.LeftButton:
            self._presenter.want_scene()
            self._button = Qt.MouseButton.NoButton

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._button == Qt.MouseButton.NoButton:
            return
        if not self._moved and (event.position() - self._began).manhattanLength() < _CLICK_SLACK_PX:
            return
        self._moved = True
        step, self._last = event.position() - self._last, event.position()
        if self._button == Qt.MouseButton.LeftButton:
            elevation = min(89.0, max(-89.0, self._view.elevation_deg + step.y() * DEGREES_PER_PX))
            azimuth = (self._view.azimuth_deg - step.x() * DEGREES_PER_PX) % 360.0
            self._view = replace(self._view, azimuth_deg=azimuth, elevation_deg=elevation)
        elif self._button == Qt.MouseButton.MiddleButton:
            height = max(self.height(), 1)
            self._view = replace(
                self._view,
                pan_x=self._view.pan_x + step.x() / height,
                pan_y=self._view.pan_y + step.y() / height,
            )
        elif self._button == Qt.MouseButton.RightButton:
            self._zoom(math.exp(-step.y() / _DRAG_ZOOM_PX))
        self._ask(quick=True)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._button == Qt.MouseButton.RightButton and not self._moved:
            self.menu_requested.emit(event.globalPosition().toPoint())
        self._button = Qt.MouseButton.NoButton

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._state.wanted:
            self._presenter.maximise(Slot.SCENE)

    def wheelEvent(self, event: QWheelEvent) -> None:
        self._zoom(_WHEEL_ZOOM ** (event.angleDelta().y() / 120))
        self._ask(quick=True)
        event.accept()

    def resizeEvent(self, event: QResizeEvent) -> None:
        if self._state.wanted:
            self._rest.start(REST_MS)

    def _zoom(self, factor: float) -> None:
        self._view = replace(self._view, zoom=min(20.0, max(0.2, self._view.zoom * factor)))
