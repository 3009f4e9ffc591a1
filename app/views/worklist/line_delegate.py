"""How a line of the worklist is painted: chevron, status or thumbnail, two lines of text, marks at the right."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QPainter, QPixmap
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_rows import PATIENT, SERIES, STUDY, Row
from app.presenters.worklist_words import STATUS_WORDS, Words
from app.views.theme import Theme
from app.views.worklist.lines_model import LinesModel
from core.domain.study import ReadStatus

Index = QModelIndex | QPersistentModelIndex
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_INDENT = 12
_ROW_HEIGHT = 44
_CHIP_HEIGHT, _CHIP_PAD, _CHIP_LEAST = 16, 10, 28
_CHIP_SHORTENED = 56
_BESIDE_SHARE = 0.45
_STATUS_ICONS = {
    STATUS_WORDS[ReadStatus.UNREAD]: ("status-unread", "accent"),
    STATUS_WORDS[ReadStatus.IN_PROGRESS]: ("status-in-progress", "text_dim"),
    STATUS_WORDS[ReadStatus.REVIEWED]: ("status-reviewed", "verified"),
}


class LineDelegate(QStyledItemDelegate):
    """Paints on the 4-px grid; colours come from the theme. Text is drawn as it is: no markup is ever read."""

    def __init__(
        self, theme: Theme, view: QListView, model: LinesModel, presenter: WorklistPresenter
    ) -> None:
        super().__init__(view)
        self._view = view
        self._model = model
        self._presenter = presenter
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Take colours and fonts of another theme."""
        self._theme = theme
        self._strong = theme.font(weight=QFont.Weight.DemiBold)
        self._plain = theme.font()
        self._small = theme.font("font_small")
        self._metrics = {font.key(): QFontMetrics(font) for font in (self._strong, self._plain, self._small)}

    def sizeHint(self, _: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(0, _ROW_HEIGHT)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        row = self._model.row_at(index)
        if row is None:
            return
        words = self._model.words_at(index)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_back(painter, option, row)
        area: QRect = option.rect.adjusted(8 + row.depth * _INDENT, 0, -8, 0)
        if row.kind == SERIES:
            self._paint_series(painter, area, row, words)
        elif row.kind in (PATIENT, STUDY):
            self._paint_parent(painter, area, row, words)
        else:
            self._text(painter, area, words.title, self._small, "text_dim")
        painter.restore()

    def _paint_back(self, painter: QPainter, option: QStyleOptionViewItem, row: Row) -> None:
        state, rect = option.state, option.rect
        theme, shown = self._theme, self._presenter.state
        is_open = (row.kind == SERIES and row.uid == shown.current_series) or (
            row.kind == STUDY and row.uid == shown.current_study
        )
        selected = bool(state & QStyle.StateFlag.State_Selected)
        if is_open or selected:
            painter.fillRect(rect, theme.qcolor("selection" if is_open else "hover"))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, theme.qcolor("hover"))
        if is_open:
            painter.fillRect(QRect(rect.left(), rect.top(), 2, rect.height()), theme.qcolor("accent"))
        if state & QStyle.StateFlag.State_HasFocus and self._view.hasFocus():
            painter.setPen(theme.qcolor("focus"))
            painter.drawRoundedRect(rect.adjusted(1, 1, -2, -2), 4, 4)

    # -- lines ---------------------------------------------------------------------------------------

    def _paint_parent(self, painter: QPainter, area: QRect, row: Row, words: Words) -> None:
        name = "chevron-down" if self._presenter.is_unfolded(row) else "chevron-right"
        painter.drawPixmap(area.left(), area.top() + 8, self._pixmap(name, "text_dim", 12))
        inner = area.adjusted(16, 0, 0, 0)
        if words.status:
            icon, token = _STATUS_ICONS[words.status]
            painter.drawPixmap(inner.left(), inner.top() + 6, self._pixmap(icon, token))
            inner.setLeft(inner.left() + 20)
        self._two_lines(painter, inner, words, self._strong if words.strong else self._plain)

    def _paint_series(self, painter: QPainter, area: QRect, row: Row, words: Words) -> None:
        size = self._theme.size("thumbnail")
        frame = QRect(area.left() + 4, area.top() + 2, size, size)
        painter.fillRect(frame, self._theme.qcolor("picture"))
        found = self._presenter.series(row.uid)
        # Objects without pixels of their own keep their icon; nobody should wait for a picture of a report.
        picture = self._model.picture(row.uid) if found is not None and found.kind != "other" else None
        if picture is not None and not picture.isNull():
            fitted = picture.size().scaled(frame.size(), Qt.AspectRatioMode.KeepAspectRatio)
            target = QRect(frame.topLeft(), fitted)
            target.moveCenter(frame.center())
            painter.drawPixmap(target, picture)
            self._kind_mark(painter, frame, words)
        else:
            icon = self._pixmap(words.icon or "image", "#8A919B", 20)
            painter.drawPixmap(frame.center().x() - 9, frame.center().y() - 9, icon)
        text = QRect(frame.right() + 9, area.top(), area.right() - frame.right() - 9, area.height())
        self._two_lines(painter, text, words, self._plain)

    def _kind_mark(self, painter: QPainter, frame: QRect, words: Words) -> None:
        """Put the icon of the kind into the corner of the thumbnail, on a patch that keeps it readable."""
        patch = QRect(frame.right() - 15, frame.bottom() - 15, 16, 16)
        painter.fillRect(patch, self._theme.qcolor("picture", 220))
        painter.drawPixmap(patch.left() + 1, patch.top() + 1, self._pixmap(words.icon, "overlay_text", 14))

    # -- pieces --------------------------------------------------------------------------------------

    def _two_lines(self, painter: QPainter, area: QRect, words: Words, font: QFont) -> None:
        marks = self._marks(painter, area, words)
        upper = QRect(area.left(), area.top() + 3, marks - area.left(), 20)
        lower = QRect(area.left(), area.top() + 22, marks - area.left(), 18)
        self._name(painter, upper, words, font)
        if words.relation:
            lower.setRight(self._relation(painter, lower, words.relation))
        if words.icon:
            # What kind of series it is comes before its numbers.
            lower.setLeft(self._chips(painter, lower, words.chips))
            self._text(painter, lower, words.detail, self._small, "text_dim")
            return
        # Tags come after the details and give way to them; the tool tip has all.
        room = lower.width() - (_CHIP_LEAST if words.chips else 0)
        detail = QRect(lower.left(), lower.top(), min(room, self._width(words.detail, self._small)), 18)
        self._text(painter, detail, words.detail, self._small, "text_dim")
        self._chips(painter, lower.adjusted(detail.width() + 8 if words.detail else 0, 0, 0, 0), words.chips)

    def _chips(self, painter: QPainter, room: QRect, chips: tuple[str, ...]) -> int:
        """Paint as many chips as fit and how many more there are; return where the next piece begins."""
        left, right = room.left(), room.right()
        for place, chip in enumerate(chips):
            rest = len(chips) - place
            more = self._width(f"+{rest}", self._small) + 4 if rest > 1 else 0
            width = self._width(chip, self._small) + _CHIP_PAD
            if left + width + more > right and (place or right - left - more < _CHIP_SHORTENED):
                text = f"+{rest}"
                self._text(painter, QRect(left, room.top(), right - left, 18), text, self._small, "text_dim")
                return right
            width = min(width, right - left - more)
            self._chip(painter, QRect(left, room.top() + 1, width, _CHIP_HEIGHT), chip)
            left += width + 4
        return left

    def _marks(self, painter: QPainter, area: QRect, words: Words) -> int:
        """Paint caution, waiting results and count at the right; return where the text must end."""
        right = area.right()
        if words.caution:
            painter.drawPixmap(right - 15, area.top() + 14, self._pixmap("warning", "caution"))
            right -= 20
        if words.results:
            number = str(words.results)
            width = self._width(number, self._small)
            box = QRect(right - width - 20, area.top() + 13, width + 20, 18)
            painter.drawPixmap(box.left(), box.top() + 2, self._pixmap("findings", "accent", 14))
            self._text(
                painter, QRect(box.left() + 17, box.top(), width + 2, 18), number, self._small, "accent"
            )
            right = box.left() - 4
        if words.count:
            width = self._width(words.count, self._small)
            self._text(
                painter, QRect(right - width, area.top() + 3, width, 20), words.count, self._small, "text_dim"
            )
            right -= width + 8
        return right

    def _name(self, painter: QPainter, area: QRect, words: Words, font: QFont) -> None:
        """Paint the first line; a name's other script keeps its place when the name is cut."""
        if not words.beside:
            self._text(painter, area, words.title, font, "text")
            return
        wanted = self._width(words.beside, self._plain)
        first = min(
            self._width(words.title, font), area.width() - 8 - min(wanted, int(area.width() * _BESIDE_SHARE))
        )
        self._text(painter, QRect(area.left(), area.top(), first, area.height()), words.title, font, "text")
        rest = QRect(area.left() + first + 8, area.top(), area.width() - first - 8, area.height())
        self._text(painter, rest, words.beside, self._plain, "text_dim")

    def _chip(self, painter: QPainter, box: QRect, text: str) -> None:
        """Paint a short text in a rounded frame."""
        painter.setPen(self._theme.qcolor("control"))
        painter.drawRoundedRect(box.adjusted(0, 0, -1, -1), 4, 4)
        inner = box.adjusted(_CHIP_PAD // 2, 0, -_CHIP_PAD // 2, 0)
        self._text(painter, inner, text, self._small, "text_dim")

    def _relation(self, painter: QPainter, lower: QRect, relation: str) -> int:
        """Say at the right whether a study is the current one or a prior; return where the text must end."""
        width = self._width(relation, self._small)
        token = {"current": "accent", "newer": "caution"}.get(relation, "text_dim")
        self._text(
            painter, QRect(lower.right() - width, lower.top(), width + 1, 18), relation, self._small, token
        )
        return lower.right() - width - 8

    def _text(self, painter: QPainter, area: QRect, text: str, font: QFont, token: str) -> None:
        if area.width() <= 0 or not text:
            return
        painter.setFont(font)
        painter.setPen(self._theme.qcolor(token))
        shown = self._metrics[font.key()].elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, _LEFT | Qt.TextFlag.TextSingleLine, shown)

    def _width(self, text: str, font: QFont) -> int:
        return self._metrics[font.key()].horizontalAdvance(text) + 1

    def _pixmap(self, name: str, token: str, size: int = 16) -> QPixmap:
        return self._theme.pixmap(name, token, size, self._view.devicePixelRatioF())
