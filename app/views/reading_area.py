"""The reading area: viewports in a grid, or the one sentence that says what to do next."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRectF, QTimer, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QStackedLayout, QWidget

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import LayoutState, Notice, SceneState, Slot, ViewportState
from app.views.theme import Theme
from app.views.viewport.menu import scene_menu, viewport_menu
from app.views.viewport.slice_view import SliceView
from app.views.viewport_text import draw_notice, overlay_color
from app.views.volume3d.scene_view import SceneView

#: A blinking heat map is shown and hidden for this long.
BLINK_MS = 500


class ReadingArea(QWidget):
    """Shows what a ``ReadingPresenter`` resolves. Viewports are made when a layout first needs them."""

    viewport_painted = Signal(str)

    def __init__(self, presenter: ReadingPresenter, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._presenter = presenter
        self._theme = theme
        self._slices: dict[Slot, SliceView] = {}
        self._scene: SceneView | None = None
        self._notice = NoticeView(theme)
        self._page = QWidget()
        palette = self._page.palette()
        palette.setColor(QPalette.ColorRole.Window, theme.qcolor("line"))
        self._page.setPalette(palette)
        self._page.setAutoFillBackground(True)
        self._grid = QGridLayout(self._page)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self._notice)
        self._stack.addWidget(self._page)
        self._blinker = QTimer(self)
        self._blinker.setInterval(BLINK_MS)
        self._blinker.timeout.connect(presenter.blink_tick)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(320, 240)
        presenter.attach(self)

    def shutdown(self) -> None:
        """Stop the blinking and the 3-D thread; to be called before the window goes."""
        self._blinker.stop()
        if self._scene is not None:
            self._scene.shutdown()

    def viewport(self, slot: Slot) -> QWidget:
        """Return the widget of a slot, made if need be."""
        return self._scene_view() if slot is Slot.SCENE else self._slice_view(slot)

    def show_layout(self, state: LayoutState) -> None:
        """Arrange the viewports, or show the notice."""
        if state.notice is not None:
            self._notice.set_notice(state.notice)
        for slot in Slot:
            if slot in self._slices or (slot is Slot.SCENE and self._scene is not None):
                widget = self.viewport(slot)
                self._grid.removeWidget(widget)
                widget.setVisible(any(cell.slot is slot for cell in state.cells))
        for line in range(max(self._grid.rowCount(), 3)):
            self._grid.setRowStretch(line, 0)
        for line in range(max(self._grid.columnCount(), 3)):
            self._grid.setColumnStretch(line, 0)
        for cell in state.cells:
            widget = self.viewport(cell.slot)
            self._grid.addWidget(widget, cell.row, cell.column, cell.row_span, cell.column_span)
            widget.show()
            for row in range(cell.row, cell.row + cell.row_span):
                self._grid.setRowStretch(row, 1)
            for column in range(cell.column, cell.column + cell.column_span):
                self._grid.setColumnStretch(column, 1)
        self._stack.setCurrentWidget(self._notice if state.notice is not None else self._page)

    def show_viewport(self, slot: Slot, state: ViewportState) -> None:
        """Show a plane."""
        self._slice_view(slot).set_state(state)

    def show_scene(self, state: SceneState) -> None:
        """Show the 3-D view."""
        self._scene_view().set_state(state)

    def show_readout(self, slot: Slot, text: str) -> None:
        """Show the value under the cursor."""
        if slot is not Slot.SCENE:
            self._slice_view(slot).set_readout(text)

    def set_blinking(self, active: bool) -> None:
        """Start or stop the clock of a blinking heat map."""
        if active:
            self._blinker.start()
        else:
            self._blinker.stop()

    def _slice_view(self, slot: Slot) -> SliceView:
        view = self._slices.get(slot)
        if view is None:
            view = SliceView(slot, self._presenter, self._theme, self._page)
            view.menu_requested.connect(lambda at, slot=slot: self._show_menu(slot, at))
            view.painted.connect(lambda slot=slot: self.viewport_painted.emit(slot.value))
            self._slices[slot] = view
        return view

    def _scene_view(self) -> SceneView:
        if self._scene is None:
            self._scene = SceneView(self._presenter, self._theme, self._page)
            self._scene.menu_requested.connect(lambda at: self._show_menu(Slot.SCENE, at))
            self._scene.painted.connect(lambda: self.viewport_painted.emit(Slot.SCENE.value))
        return self._scene

    def _show_menu(self, slot: Slot, at: QPoint) -> None:
        build = scene_menu if slot is Slot.SCENE else viewport_menu
        menu = build(self._presenter, self.viewport(slot))
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(at)


class NoticeView(QWidget):
    """A sentence in the middle of an empty area."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._notice = Notice("")

    def set_notice(self, notice: Notice) -> None:
        """Show a notice."""
        self._notice = notice
        self.setAccessibleName(" ".join((notice.title, notice.detail, notice.remedy)).strip())
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        area = QRectF(self.rect())
        painter.fillRect(area, self._theme.qcolor("picture"))
        size = self._theme.size("icon_large")
        name, token = {
            "danger": ("refusal", "danger"),
            "caution": ("info", "caution"),
        }.get(self._notice.tone, ("drop", "text_faint"))
        # The picture's ground is dark in every theme.
        color = overlay_color(self._theme, token).name()
        pixmap = self._theme.pixmap(name, color, size, self.devicePixelRatioF())
        painter.drawPixmap(round(area.center().x() - size / 2), round(area.center().y() - size * 2.2), pixmap)
        draw_notice(painter, self._theme, self._notice, area)
        painter.end()
