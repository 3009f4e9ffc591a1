"""The other studies of the patient whose study is open: date, modalities, how far back, description."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt, Signal
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QPainter
from PySide6.QtWidgets import (
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from app.presenters.worklist_state import PriorRow
from app.views.theme import Theme
from app.views.widgets.controls import plain_tip

_ROW = int(Qt.ItemDataRole.UserRole)
_HEIGHT, _SHOWN = 40, 4
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter


class _PriorDelegate(QStyledItemDelegate):
    """Two lines: date, modalities, interval; description."""

    def __init__(self, theme: Theme, view: QListWidget) -> None:
        super().__init__(view)
        self._view = view
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Take colours and fonts of another theme."""
        self._theme = theme
        self._strong, self._small = theme.font(weight=QFont.Weight.Medium), theme.font("font_small")

    def sizeHint(self, _: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(0, _HEIGHT)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        prior: PriorRow = index.data(_ROW)
        theme, rect = self._theme, option.rect
        painter.save()
        if option.state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, theme.qcolor("hover"))
        if option.state & QStyle.StateFlag.State_HasFocus and self._view.hasFocus():
            painter.setPen(theme.qcolor("focus"))
            painter.drawRoundedRect(rect.adjusted(1, 1, -2, -2), 4, 4)
        area = rect.adjusted(12, 2, -12, -2)
        token = "caution" if prior.relation == "newer" else "text_dim"
        words = f"newer · {prior.interval}" if prior.relation == "newer" else prior.interval
        width = QFontMetrics(self._small).horizontalAdvance(words) + 1
        upper = QRect(area.left(), area.top(), area.width(), 18)
        self._text(painter, QRect(area.right() - width, upper.top(), width, 18), words, self._small, token)
        upper.setRight(area.right() - width - 8)
        title = "  ".join(part for part in (prior.date, prior.modalities) if part)
        self._text(painter, upper, title, self._strong, "text")
        lower = QRect(area.left(), area.top() + 18, area.width(), 18)
        self._text(painter, lower, prior.title, self._small, "text_dim")
        painter.restore()

    def _text(self, painter: QPainter, area: QRect, text: str, font: QFont, token: str) -> None:
        painter.setFont(font)
        painter.setPen(self._theme.qcolor(token))
        shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, _LEFT | Qt.TextFlag.TextSingleLine, shown)


class PriorsList(QListWidget):
    """A click or Enter opens a study."""

    chosen = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._priors: tuple[PriorRow, ...] = ()
        self._delegate = _PriorDelegate(theme, self)
        self.setItemDelegate(self._delegate)
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Other studies of this patient")
        self.itemClicked.connect(self._open)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._delegate.set_theme(theme)
        self.viewport().update()

    def show_priors(self, priors: tuple[PriorRow, ...]) -> None:
        """Show these studies; the line that was current stays so."""
        if priors == self._priors:
            return
        before, self._priors = self.currentRow(), priors
        self.clear()
        for prior in priors:
            item = QListWidgetItem()
            item.setData(_ROW, prior)
            words = (prior.date, prior.modalities, prior.title, prior.relation, prior.interval, prior.status)
            spoken = ", ".join(word for word in words if word)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, spoken)
            item.setToolTip(plain_tip("\n".join((prior.title, spoken))))
            self.addItem(item)
        self.setCurrentRow(min(max(before, 0), len(priors) - 1))
        self.setFixedHeight(_HEIGHT * min(len(priors), _SHOWN) + 4)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentItem() is not None:
            self._open(self.currentItem())
            return
        super().keyPressEvent(event)

    def _open(self, item: QListWidgetItem) -> None:
        self.chosen.emit(item.data(_ROW).uid)
