"""The elements as a tree that is asked for piece by piece, or the list of what a search found."""

from __future__ import annotations

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtGui import QColor

from app.presenters.tags import value_to_show
from app.views.theme import Theme
from app.views.widgets.controls import plain_tip
from core.domain.person_name import isolated
from core.domain.tags import TagDocument, TagLine, TagPath

Index = QModelIndex | QPersistentModelIndex
COLUMNS = ("Tag", "Name", "VR", "Value")
TAG, NAME, VR, VALUE = range(4)
_PIECE = 200
_TOP = 20_000
_LONGEST_TIP = 2000


class _Node:
    """A line and what was read below it."""

    __slots__ = ("children", "line", "parent", "row")

    def __init__(self, line: TagLine | None, parent: _Node | None, row: int) -> None:
        self.line = line
        self.parent = parent
        self.row = row
        self.children: list[_Node] = []

    @property
    def path(self) -> TagPath:
        return self.line.path if self.line is not None else ()

    @property
    def total(self) -> int:
        return self.line.children if self.line is not None else 0


class TagModel(QAbstractItemModel):
    """Lines are made when they are scrolled to; a new file of the same build keeps what is unfolded."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._document: TagDocument | None = None
        self._found: tuple[TagLine, ...] | None = None
        self._hidden = False
        self._root = _Node(None, None, 0)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme
        self._changed(self._root)

    def show_document(
        self, document: TagDocument | None, found: tuple[TagLine, ...] | None, identity_hidden: bool
    ) -> None:
        """Take another file, what a search found in it (None: the whole tree), and whether to mask."""
        masked = identity_hidden != self._hidden
        self._hidden = identity_hidden
        if document is self._document and found is self._found:
            if masked:
                self._changed(self._root)
            return
        same_kind = self._found is None and found is None and self._document is not None
        self._document, self._found = document, found
        if same_kind and document is not None and self._takes_lines(self._root):
            self._changed(self._root)
            return
        self.beginResetModel()
        self._root = _Node(None, None, 0)
        lines = found
        if lines is None:
            lines = document.lines((), 0, _TOP) if document is not None else ()
        self._root.children = [_Node(line, self._root, row) for row, line in enumerate(lines)]
        self.endResetModel()

    def _takes_lines(self, node: _Node) -> bool:
        """Fill the loaded lines with the values of the present file; False when it is built otherwise."""
        assert self._document is not None
        loaded = len(node.children)
        if node is self._root and self._document.count() != loaded:
            return False
        lines = self._document.lines(node.path, 0, loaded)
        if [line.path for line in lines] != [child.path for child in node.children]:
            return False
        for child, line in zip(node.children, lines, strict=True):
            if child.children and (child.line is None or child.line.children != line.children):
                return False
            child.line = line
        return all(self._takes_lines(child) for child in node.children if child.children)

    def _changed(self, node: _Node) -> None:
        if not node.children:
            return
        parent = self._index_of(node)
        last = len(node.children) - 1
        self.dataChanged.emit(self.index(0, 0, parent), self.index(last, VALUE, parent))
        for child in node.children:
            if child.children:
                self._changed(child)

    def line(self, index: Index) -> TagLine | None:
        """Return the line at an index."""
        return self._node(index).line

    # -- Qt's questions ----------------------------------------------------------------------------

    def _node(self, index: Index) -> _Node:
        found = index.internalPointer() if index.isValid() else None
        return found if isinstance(found, _Node) else self._root

    def _index_of(self, node: _Node) -> QModelIndex:
        return QModelIndex() if node.parent is None else self.createIndex(node.row, 0, node)

    def index(self, row: int, column: int, parent: Index = QModelIndex()) -> QModelIndex:
        node = self._node(parent)
        if not 0 <= row < len(node.children) or not 0 <= column < len(COLUMNS):
            return QModelIndex()
        return self.createIndex(row, column, node.children[row])

    def parent(self, child: Index) -> QModelIndex:  # type: ignore[override]
        parent = self._node(child).parent
        return QModelIndex() if parent is None else self._index_of(parent)

    def rowCount(self, parent: Index = QModelIndex()) -> int:
        return 0 if parent.column() > 0 else len(self._node(parent).children)

    def columnCount(self, parent: Index = QModelIndex()) -> int:
        return len(COLUMNS)

    def hasChildren(self, parent: Index = QModelIndex()) -> bool:
        if parent.column() > 0:
            return False
        node = self._node(parent)
        return bool(node.children) or node.total > 0

    def canFetchMore(self, parent: Index) -> bool:
        node = self._node(parent)
        return node is not self._root and len(node.children) < node.total

    def fetchMore(self, parent: Index) -> None:
        node = self._node(parent)
        if self._document is None or node is self._root:
            return
        begin = len(node.children)
        lines = self._document.lines(node.path, begin, begin + _PIECE)
        if not lines:
            return
        self.beginInsertRows(self._index_of(node), begin, begin + len(lines) - 1)
        node.children += [_Node(line, node, begin + n) for n, line in enumerate(lines)]
        self.endInsertRows()

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = int(Qt.ItemDataRole.DisplayRole)
    ) -> object:
        if orientation is Qt.Orientation.Horizontal and role == int(Qt.ItemDataRole.DisplayRole):
            return COLUMNS[section]
        return None

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> object:
        line = self._node(index).line
        if line is None:
            return None
        if role == int(Qt.ItemDataRole.DisplayRole):
            return self._text(line, index.column())
        if role == int(Qt.ItemDataRole.ForegroundRole):
            return self._color(line, index.column())
        if role == int(Qt.ItemDataRole.ToolTipRole):
            return self._tip(line, index.column())
        return None

    def _text(self, line: TagLine, column: int) -> str:
        if column == TAG:
            return line.tag or line.name
        if column == NAME:
            return self._name(line)
        if column == VR:
            return line.vr
        mark = "≠ " if line.differs else ""
        return f"{mark}{value_to_show(line, self._hidden)}"

    def _name(self, line: TagLine) -> str:
        name = line.name if line.tag else ""
        if line.creator:
            name = " · ".join(part for part in (name, isolated(line.creator)) if part)
        if self._found is not None and line.where:
            return f"{name}  in {isolated(line.where)}"
        return name

    def _color(self, line: TagLine, column: int) -> QColor | None:
        if line.differs:
            return self._theme.qcolor("caution")
        return self._theme.qcolor("text_dim") if column in (TAG, VR) else None

    def _tip(self, line: TagLine, column: int) -> str:
        if column == VALUE:
            return plain_tip(value_to_show(line, self._hidden)[:_LONGEST_TIP])
        parts = [line.keyword, self._name(line), line.where]
        return plain_tip("\n".join(dict.fromkeys(part for part in parts if part)))
