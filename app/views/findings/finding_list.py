"""The list of findings: swatch, name, size and confidence, verdict, visibility."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import (
    QAbstractListModel,
    QEvent,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
)
from PySide6.QtGui import QColor, QFont, QMouseEvent, QPainter
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from app.presenters.finding_rows import FindingRow
from app.views.theme import Theme

Index = QModelIndex | QPersistentModelIndex
ROW_ROLE = int(Qt.ItemDataRole.UserRole)
VERDICTS = {
    "accept": ("accept", "verified", "accepted"),
    "edit": ("edit", "accent", "edited"),
    "reject": ("reject", "danger", "rejected"),
    "unsure": ("unsure", "caution", "unsure"),
}
_HEIGHT = 44
_EYE = 28
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter


class FindingModel(QAbstractListModel):
    """The rows of the presenter."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[FindingRow, ...] = ()

    def set_rows(self, rows: tuple[FindingRow, ...]) -> None:
        """Take new rows; the same findings keep their place."""
        if [row.id for row in rows] == [row.id for row in self._rows]:
            self._rows = rows
            if rows:
                self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> object:
        if not 0 <= index.row() < len(self._rows):
            return None
        row = self._rows[index.row()]
        if role == ROW_ROLE:
            return row
        if role == int(Qt.ItemDataRole.DisplayRole):
            return row.label
        if role == int(Qt.ItemDataRole.ToolTipRole):
            verdict = VERDICTS[row.verdict][2] if row.verdict else "no verdict yet"
            return "\n".join(part for part in (row.label, row.detail, verdict, row.reason) if part)
        return None


class FindingDelegate(QStyledItemDelegate):
    """Paints a finding; the eye at the right shows and hides its segment."""

    def __init__(self, theme: Theme, view: QListView, toggle: Callable[[int], None]) -> None:
        super().__init__(view)
        self._view = view
        self._toggle = toggle
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Take colours and fonts of another theme."""
        self._theme = theme
        self._plain = theme.font(weight=QFont.Weight.Medium)
        self._small = theme.font("font_small")

    def sizeHint(self, _option: QStyleOptionViewItem, _index: Index) -> QSize:
        return QSize(0, _HEIGHT)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        row: FindingRow = index.data(ROW_ROLE)
        area: QRect = option.rect
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_back(painter, option)
        self._paint_swatch(painter, area, row)
        right = self._paint_marks(painter, area, row)
        text = QRect(area.left() + 32, area.top(), right - area.left() - 36, area.height())
        self._text(
            painter, QRect(text.left(), text.top() + 4, text.width(), 20), row.label, self._plain, "text"
        )
        second = " · ".join(part for part in (row.detail, row.reason) if part)
        self._text(
            painter, QRect(text.left(), text.top() + 22, text.width(), 18), second, self._small, "text_dim"
        )
        painter.restore()

    def _paint_back(self, painter: QPainter, option: QStyleOptionViewItem) -> None:
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(option.rect, self._theme.qcolor("selection"))
            painter.fillRect(
                QRect(option.rect.left(), option.rect.top(), 2, _HEIGHT), self._theme.qcolor("accent")
            )
        elif option.state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(option.rect, self._theme.qcolor("hover"))

    def _paint_swatch(self, painter: QPainter, area: QRect, row: FindingRow) -> None:
        swatch = QRect(area.left() + 12, area.top() + 16, 12, 12)
        color = QColor(*row.color_rgb) if row.color_rgb else self._theme.qcolor("text_faint")
        painter.setPen(color)
        painter.setBrush(color if row.visible and row.color_rgb else Qt.BrushStyle.NoBrush)
        if row.segment_value is None:
            painter.drawEllipse(swatch)
        else:
            painter.drawRoundedRect(swatch, 2, 2)

    def _paint_marks(self, painter: QPainter, area: QRect, row: FindingRow) -> int:
        right = area.right() - 8
        ratio = self._view.devicePixelRatioF()
        if row.segment_value is not None:
            name, token = ("eye", "text_dim") if row.visible else ("eye-off", "text_faint")
            painter.drawPixmap(right - 20, area.top() + 14, self._theme.pixmap(name, token, scale=ratio))
        right -= _EYE
        if row.verdict:
            name, token, _ = VERDICTS[row.verdict]
            painter.drawPixmap(right - 20, area.top() + 14, self._theme.pixmap(name, token, scale=ratio))
        return right - 24

    def _text(self, painter: QPainter, area: QRect, text: str, font: QFont, token: str) -> None:
        painter.setFont(font)
        painter.setPen(self._theme.qcolor(token))
        shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, _LEFT, shown)

    def editorEvent(self, event: QEvent, _model: object, option: QStyleOptionViewItem, index: Index) -> bool:
        if event.type() == QEvent.Type.MouseButtonRelease and isinstance(event, QMouseEvent):
            position: QPoint = event.position().toPoint()
            row: FindingRow = index.data(ROW_ROLE)
            if row.segment_value is not None and position.x() >= option.rect.right() - 8 - _EYE:
                self._toggle(index.row())
                return True
        return False


class FindingList(QListView):
    """The list; ``chosen`` is called with the number of the finding that was clicked or reached by arrows."""

    def __init__(self, theme: Theme, chosen: Callable[[int], None], toggle: Callable[[int], None]) -> None:
        super().__init__()
        self._rows = FindingModel()
        self._chosen = chosen
        self._quiet = False
        self.setModel(self._rows)
        self._delegate = FindingDelegate(theme, self, toggle)
        self.setItemDelegate(self._delegate)
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.setAccessibleName("Findings")
        self.clicked.connect(lambda index: chosen(index.row()))
        self.selectionModel().currentChanged.connect(self._on_current)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._delegate.set_theme(theme)
        self.viewport().update()

    def show_rows(self, rows: tuple[FindingRow, ...], selected: int) -> None:
        """Draw the rows without telling anybody that the selection moved."""
        self._quiet = True
        self._rows.set_rows(rows)
        self.setCurrentIndex(self._rows.index(selected) if selected >= 0 else QModelIndex())
        self._quiet = False

    def _on_current(self, index: QModelIndex) -> None:
        if not self._quiet and index.isValid():
            self._chosen(index.row())
