"""A pane beside the pictures: a structured report, a list of key images, the pages of a document."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QImage, QKeyEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import (
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QSplitter,
    QStackedWidget,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)

from app.actions.action import ActionRegistry
from app.presenters.derived import DerivedPresenter
from app.presenters.derived_rows import KIND_WORDS, ObjectsState, Pane
from app.views.theme import Theme
from app.views.widgets.controls import (
    ElidedLabel,
    IconButton,
    Label,
    action_button,
    column,
    follow_keys,
    panel,
    row,
)

_TARGET = Qt.ItemDataRole.UserRole
_READ, _PAGES, _VEIL = range(3)
_VEILED = "Identity is hidden. Reports and documents may name the patient."
_PAGE_MARGIN = 24
_RESIZE_REST_MS = 120
_NAME_WIDTH, _WHERE_WIDTH = 80, 100
LEAST_WIDTH, USUAL_WIDTH = 300, 420


class ReadPane(QWidget):
    """Shows the pane of an ``ObjectsState``. Page keys turn pages, + and - zoom, Enter or a click goes to a place."""

    def __init__(self, presenter: DerivedPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self._presenter = presenter
        self._pane: Pane | None = None
        self._pixels: NDArray[np.uint8] | None = None
        self.setMinimumWidth(LEAST_WIDTH)
        self._title = ElidedLabel("", "title")
        self._detail = ElidedLabel("", "faint")
        self._cautions = Label("", "caution", wrap=True)
        close = action_button(theme, registry, "object.close", "close")
        steps = [action_button(theme, registry, name) for name in ("object.previous", "object.next")]
        head = column(row(self._title, *steps, close, gap=4), self._detail, self._cautions, gap=4)
        head.setContentsMargins(12, 8, 8, 8)
        self.measurements = _tree(("Measurement", "Value", "Where"))
        self.measurements.setRootIsDecorated(False)
        self.items = _tree(("Content", ""))
        for tree in (self.measurements, self.items):
            tree.itemClicked.connect(self._on_item)
            tree.itemActivated.connect(self._on_item)
        self._read = QSplitter(Qt.Orientation.Vertical)
        self._read.setHandleWidth(1)
        self._read.addWidget(self.measurements)
        self._read.addWidget(self.items)
        self._read.setStretchFactor(1, 1)
        self._page = QLabel()
        self._page.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        self._page.setMargin(_PAGE_MARGIN // 2)
        self.pages = QScrollArea()
        self.pages.setWidget(self._page)
        self.pages.setWidgetResizable(True)
        self.pages.setAccessibleName("Page")
        self._counter = Label("", "dim")
        self._buttons = {
            name: IconButton(theme, icon, tip)
            for name, icon, tip in (
                ("back", "previous", "Previous page (Page Up)"),
                ("forth", "next", "Next page (Page Down)"),
                ("out", "zoom-out", "Smaller (-)"),
                ("in", "zoom", "Larger (+)"),
            )
        }
        self._buttons["back"].clicked.connect(lambda: presenter.turn_page(-1))
        self._buttons["forth"].clicked.connect(lambda: presenter.turn_page(1))
        self._buttons["out"].clicked.connect(lambda: presenter.zoom_page(-1))
        self._buttons["in"].clicked.connect(lambda: presenter.zoom_page(1))
        turn = row(
            self._buttons["back"], self._counter, self._buttons["forth"], 1, self._buttons["out"],
            self._buttons["in"], gap=4, margins=(12, 0, 12, 0),
        )  # fmt: skip
        pages = QWidget()
        inside = column(panel("toolBar", turn), self.pages, gap=0)
        inside.setStretch(1, 1)
        pages.setLayout(inside)
        self._stack = QStackedWidget()
        self._stack.addWidget(self._read)
        self._stack.addWidget(pages)
        veil = QWidget()
        self._show_again = QPushButton("Show identity")
        follow_keys(self._show_again, registry, "view.identity")
        self._show_again.clicked.connect(lambda: registry.trigger("view.identity"))
        words = Label(_VEILED, "dim", wrap=True)
        veil.setLayout(column(words, row(self._show_again, 1), 1, gap=12, margins=(16, 16, 16, 16)))
        self._stack.addWidget(veil)
        layout = column(panel("panelHeader", head), self._stack, gap=0)
        layout.setStretch(1, 1)
        self.setLayout(layout)
        self._steps = steps
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_RESIZE_REST_MS)
        self._rest.timeout.connect(self._tell_width)
        presenter.page_drawn = self.show_page
        presenter.attach(self)

    def show_state(self, state: ObjectsState) -> None:
        """Draw the state."""
        pane = state.pane
        self.setVisible(pane is not None)
        if pane is None:
            self._pane, self._pixels = None, None
            self._page.clear()
            return
        changed = self._pane is None or self._pane.uid != pane.uid
        self._pane = pane
        veiled = state.veiled
        self._title.setText(KIND_WORDS.get(pane.kind, "Object") if veiled else pane.title)
        self._detail.setText("" if veiled else pane.detail)
        self._cautions.setText("\n".join(pane.cautions))
        self._cautions.setVisible(bool(pane.cautions) and not veiled)
        self._stack.setCurrentIndex(_VEIL if veiled else _PAGES if pane.pages else _READ)
        for button in self._steps:
            button.setVisible(not pane.pages)
        self._counter.setText(f"page {pane.page + 1} of {pane.pages}  {pane.zoom * 100:.0f} %")
        self._buttons["back"].setEnabled(pane.page > 0)
        self._buttons["forth"].setEnabled(pane.page + 1 < pane.pages)
        if changed:
            self._fill(pane)
            self._page.clear()
            self._rest.start()
        self._mark(state.chosen)

    def show_page(self, uid: str, page: int, pixels: NDArray[np.uint8]) -> None:
        """Show a page that was drawn."""
        if self._pane is None or (self._pane.uid, self._pane.page) != (uid, page):
            return
        ratio = self.devicePixelRatioF()
        self._pixels = np.ascontiguousarray(pixels)
        height, width, _ = self._pixels.shape
        image = QImage(self._pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        image.setDevicePixelRatio(ratio)
        self._page.setPixmap(QPixmap.fromImage(image))
        self._page.setMinimumSize(round(width / ratio) + _PAGE_MARGIN, round(height / ratio) + _PAGE_MARGIN)
        self.pages.verticalScrollBar().setValue(0)

    def _fill(self, pane: Pane) -> None:
        self.measurements.clear()
        self.measurements.setVisible(bool(pane.measurements))
        for line in pane.measurements:
            item = QTreeWidgetItem(self.measurements, [line.name, line.value, line.where])
            _prepare(item, line.target, 3)
        self.items.clear()
        self.items.setVisible(bool(pane.lines) or not pane.measurements)
        parents: list[QTreeWidgetItem] = []
        for entry in pane.lines:
            del parents[entry.depth :]
            above: QTreeWidget | QTreeWidgetItem = parents[-1] if parents else self.items
            item = QTreeWidgetItem(above, [entry.name, entry.value])
            _prepare(item, entry.target, 2)
            parents.append(item)
        self.items.expandAll()
        self._fit_columns()

    def _fit_columns(self) -> None:
        """Names get what they need, but no more than leaves room for the values."""
        width = max(self.width(), LEAST_WIDTH)
        self.items.resizeColumnToContents(0)
        self.items.setColumnWidth(0, min(self.items.columnWidth(0), width // 2))
        for place in range(2):
            self.measurements.resizeColumnToContents(place)
        # A number is never cut: the name gives way, then the place.
        room = width - self.measurements.columnWidth(1) - _WHERE_WIDTH
        self.measurements.setColumnWidth(0, max(_NAME_WIDTH, min(self.measurements.columnWidth(0), room)))

    def _mark(self, chosen: int) -> None:
        for tree in (self.measurements, self.items):
            found = _find(tree, chosen) if chosen >= 0 else None
            if found is not None and tree.currentItem() is not found:
                tree.setCurrentItem(found)
                tree.scrollToItem(found)

    def _on_item(self, item: QTreeWidgetItem) -> None:
        target = item.data(0, _TARGET)
        if target is not None and target >= 0:
            self._presenter.choose(target)

    def _tell_width(self) -> None:
        if self._pane is not None and self._pane.pages:
            room = self.pages.viewport().width() - _PAGE_MARGIN
            self._presenter.set_page_width(round(room * self.devicePixelRatioF()))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_columns()
        self._rest.start()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        keys = Qt.Key
        turns = {keys.Key_PageDown: 1, keys.Key_PageUp: -1}
        zooms = {keys.Key_Plus: 1, keys.Key_Equal: 1, keys.Key_Minus: -1}
        key = Qt.Key(event.key())
        if self._pane is not None and self._pane.pages and key in turns:
            self._presenter.turn_page(turns[key])
        elif self._pane is not None and self._pane.pages and key in zooms:
            self._presenter.zoom_page(zooms[key])
        else:
            super().keyPressEvent(event)

    def focus(self) -> None:
        """Take the focus."""
        if self._pane is not None and self._pane.pages:
            self.setFocus(Qt.FocusReason.ShortcutFocusReason)
        else:
            tree = self.measurements if self.measurements.isVisible() else self.items
            tree.setFocus(Qt.FocusReason.ShortcutFocusReason)


def _tree(titles: tuple[str, ...]) -> QTreeWidget:
    tree = QTreeWidget()
    tree.setColumnCount(len(titles))
    tree.setHeaderLabels(list(titles))
    tree.setHeaderHidden(not any(titles[1:]))
    tree.setAccessibleName(titles[0])
    tree.setWordWrap(True)
    tree.header().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
    return tree


def _prepare(item: QTreeWidgetItem, target: int, columns: int) -> None:
    item.setData(0, _TARGET, target)
    for place in range(columns):
        item.setToolTip(place, item.text(place))


def _find(tree: QTreeWidget, target: int) -> QTreeWidgetItem | None:
    waiting = [tree.topLevelItem(n) for n in range(tree.topLevelItemCount())]
    while waiting:
        item = waiting.pop()
        if item is None:
            continue
        if item.data(0, _TARGET) == target:
            return item
        waiting += [item.child(n) for n in range(item.childCount())]
    return None
