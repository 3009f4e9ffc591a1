"""How a line of the worklist is painted: chevron, thumbnail, two lines of text, marks at the right."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QFont, QPainter, QPixmap
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem, QTreeView

from app.presenters.worklist_tree import PatientRow, SeriesRow, StudyRow
from app.views.theme import Theme
from app.views.worklist.tree_model import PICTURE_ROLE, ROW_ROLE

Index = QModelIndex | QPersistentModelIndex
_HEIGHTS = {PatientRow: 44, StudyRow: 44, SeriesRow: 52}
_INDENT = 12
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_ICONS = {"SEG": "segment", "SR": "document", "PR": "layers", "KO": "document", "DOC": "document"}


class WorklistDelegate(QStyledItemDelegate):
    """Paints on the 4-px grid; colours come from the theme."""

    def __init__(self, theme: Theme, tree: QTreeView) -> None:
        super().__init__(tree)
        self._tree = tree
        self.current_series = ""
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Take colours and fonts of another theme."""
        self._theme = theme
        self._strong = theme.font(weight=QFont.Weight.DemiBold)
        self._plain = theme.font()
        self._small = theme.font("font_small")

    def sizeHint(self, _: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(0, _HEIGHTS[type(index.data(ROW_ROLE))])

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        row = index.data(ROW_ROLE)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self._paint_back(painter, option, row)
        area: QRect = option.rect.adjusted(8, 0, -8, 0)
        if isinstance(row, PatientRow):
            self._paint_patient(painter, area, row, index)
        elif isinstance(row, StudyRow):
            self._paint_study(painter, area.adjusted(_INDENT, 0, 0, 0), row, index)
        else:
            self._paint_series(painter, area.adjusted(2 * _INDENT, 0, 0, 0), row, index)
        painter.restore()

    def _paint_back(self, painter: QPainter, option: QStyleOptionViewItem, row: object) -> None:
        state = option.state
        is_open = isinstance(row, SeriesRow) and row.key == self.current_series
        if is_open:
            painter.fillRect(option.rect, self._theme.qcolor("selection"))
            painter.fillRect(
                QRect(option.rect.left(), option.rect.top(), 2, option.rect.height()),
                self._theme.qcolor("accent"),
            )
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(option.rect, self._theme.qcolor("hover"))
        if state & QStyle.StateFlag.State_Selected and self._tree.hasFocus():
            painter.setPen(self._theme.qcolor("focus"))
            painter.drawRoundedRect(option.rect.adjusted(1, 1, -2, -2), 4, 4)

    def _chevron(self, painter: QPainter, area: QRect, index: Index) -> QRect:
        if index.model().rowCount(index):
            name = "chevron-down" if self._tree.isExpanded(self._plain_index(index)) else "chevron-right"
            painter.drawPixmap(area.left(), area.top() + 8, self._pixmap(name, "text_dim", 12))
        return area.adjusted(16, 0, 0, 0)

    def _plain_index(self, index: Index) -> QModelIndex:
        return (
            index.model().index(index.row(), 0, index.parent())
            if isinstance(index, QPersistentModelIndex)
            else index
        )

    def _pixmap(self, name: str, token: str, size: int = 16) -> QPixmap:
        return self._theme.pixmap(name, token, size, self._tree.devicePixelRatioF())

    def _two_lines(self, painter: QPainter, area: QRect, first: str, second: str, font: QFont) -> None:
        upper = QRect(area.left(), area.top() + 4, area.width(), 20)
        lower = QRect(area.left(), area.top() + 22, area.width(), 18)
        self._text(painter, upper, first, font, "text")
        self._text(painter, lower, second, self._small, "text_dim")

    def _text(self, painter: QPainter, area: QRect, text: str, font: QFont, token: str) -> None:
        painter.setFont(font)
        painter.setPen(self._theme.qcolor(token))
        shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, _LEFT, shown)

    def _paint_patient(self, painter: QPainter, area: QRect, row: PatientRow, index: Index) -> None:
        inner = self._chevron(painter, area, index)
        self._two_lines(painter, inner, row.name, row.detail or "No further identity", self._strong)

    def _paint_study(self, painter: QPainter, area: QRect, row: StudyRow, index: Index) -> None:
        inner = self._chevron(painter, area, index)
        if row.results:
            inner.setRight(inner.right() - 20)
            painter.drawPixmap(inner.right() + 6, inner.top() + 14, self._pixmap("findings", "accent"))
        parts = [row.date, " ".join(row.modalities), "" if row.status in ("", "unread") else row.status]
        self._two_lines(painter, inner, row.title, " · ".join(p for p in parts if p), self._plain)

    def _paint_series(self, painter: QPainter, area: QRect, row: SeriesRow, index: Index) -> None:
        size = self._theme.size("thumbnail")
        frame = QRect(area.left() + 4, area.top() + 4, size, size)
        painter.fillRect(frame, self._theme.qcolor("picture"))
        picture = index.data(PICTURE_ROLE)
        if isinstance(picture, QPixmap) and not picture.isNull():
            fitted = picture.size().scaled(frame.size(), Qt.AspectRatioMode.KeepAspectRatio)
            target = QRect(frame.topLeft(), fitted)
            target.moveCenter(frame.center())
            painter.drawPixmap(target, picture)
        else:
            icon = self._pixmap(
                _ICONS.get(row.modality, "volume" if row.kind == "volume" else "image"), "text_faint", 20
            )
            painter.drawPixmap(frame.center().x() - 9, frame.center().y() - 9, icon)
        text = QRect(frame.right() + 9, area.top() + 4, area.right() - frame.right() - 9, 44)
        if row.caution:
            text.setRight(text.right() - 20)
            painter.drawPixmap(text.right() + 4, area.top() + 18, self._pixmap("warning", "caution"))
        self._two_lines(painter, text, row.title, row.detail, self._plain)
