"""The worklist's lines as a Qt model over the presenter's frozen rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QPixmap

from app.presenters.worklist_tree import PatientRow, SeriesRow, StudyRow

Row = PatientRow | StudyRow | SeriesRow
Index = QModelIndex | QPersistentModelIndex
ROW_ROLE = int(Qt.ItemDataRole.UserRole)
PICTURE_ROLE = ROW_ROLE + 1
DEPTH_ROLE = ROW_ROLE + 2


@dataclass
class Node:
    """One line: its row, its place, its children."""

    row: Row | None
    parent: Node | None = None
    place: int = 0
    depth: int = -1
    children: list[Node] = field(default_factory=list)

    def add(self, row: Row) -> Node:
        """Append a child."""
        child = Node(row, self, len(self.children), self.depth + 1)
        self.children.append(child)
        return child


def key_of(row: Row | None) -> str:
    """Return what identifies a line between two states."""
    if isinstance(row, StudyRow):
        return f"study:{row.uid}"
    if isinstance(row, SeriesRow):
        return f"series:{row.key}"
    return f"patient:{row.key}" if row is not None else ""


class WorklistModel(QAbstractItemModel):
    """Patients, studies and series. Thumbnails are asked for when a line is first painted."""

    def __init__(self, request: Callable[[str], None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._root = Node(None)
        self._request = request
        self._asked: set[str] = set()
        self._pictures: dict[str, QPixmap] = {}
        self._nodes: dict[str, Node] = {}

    def set_patients(self, patients: tuple[PatientRow, ...]) -> None:
        """Take new lines."""
        self.beginResetModel()
        self._root = Node(None)
        self._nodes = {}
        for patient in patients:
            at_patient = self._add(self._root, patient)
            for study in patient.studies:
                at_study = self._add(at_patient, study)
                for series in study.series:
                    self._add(at_study, series)
        self.endResetModel()

    def _add(self, parent: Node, row: Row) -> Node:
        node = parent.add(row)
        self._nodes[key_of(row)] = node
        return node

    def set_picture(self, series_key: str, picture: QPixmap) -> None:
        """Take a thumbnail."""
        self._pictures[series_key] = picture
        index = self.index_of(f"series:{series_key}")
        if index.isValid():
            self.dataChanged.emit(index, index, [PICTURE_ROLE])

    def index_of(self, key: str) -> QModelIndex:
        """Return the index of a line by its key; invalid when it isn't shown."""
        node = self._nodes.get(key)
        return self.createIndex(node.place, 0, node) if node else QModelIndex()

    def row_at(self, index: Index) -> Row | None:
        """Return the row of a line."""
        return self._node(index).row

    def _node(self, index: Index) -> Node:
        return index.internalPointer() if index.isValid() else self._root

    def index(self, row: int, column: int, parent: Index = QModelIndex()) -> QModelIndex:
        children = self._node(parent).children
        if column != 0 or not 0 <= row < len(children):
            return QModelIndex()
        return self.createIndex(row, 0, children[row])

    def parent(self, index: Index = QModelIndex()) -> QModelIndex:  # type: ignore[override]
        node = self._node(index).parent
        if node is None or node.row is None:
            return QModelIndex()
        return self.createIndex(node.place, 0, node)

    def rowCount(self, parent: Index = QModelIndex()) -> int:
        return len(self._node(parent).children)

    def columnCount(self, parent: Index = QModelIndex()) -> int:
        return 1

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> object:
        row = self._node(index).row
        if row is None:
            return None
        if role == ROW_ROLE:
            return row
        if role == DEPTH_ROLE:
            return self._node(index).depth
        if role == PICTURE_ROLE and isinstance(row, SeriesRow):
            return self._picture(row.key)
        if role in (int(Qt.ItemDataRole.DisplayRole), int(Qt.ItemDataRole.AccessibleTextRole)):
            return row.name if isinstance(row, PatientRow) else row.title
        if role == int(Qt.ItemDataRole.ToolTipRole):
            return _tool_tip(row)
        return None

    def _picture(self, key: str) -> QPixmap | None:
        if key not in self._asked:
            self._asked.add(key)
            self._request(key)
        return self._pictures.get(key)


def _tool_tip(row: Row) -> str:
    if isinstance(row, PatientRow):
        return f"{row.name}\n{row.detail}".strip()
    if isinstance(row, StudyRow):
        return f"{row.title}\n{row.date}".strip()
    return "\n".join(part for part in (row.title, row.detail, row.caution) if part)
