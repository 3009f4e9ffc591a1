"""The section "From the archive": what others made from the open series, with a switch for each and its parts."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor, QIcon, QPixmap
from PySide6.QtWidgets import QSizePolicy, QTreeWidget, QTreeWidgetItem, QWidget

from app.actions.action import ActionRegistry
from app.presenters.derived import DerivedPresenter
from app.presenters.derived_rows import ObjectRow, ObjectsState, PartRow
from app.views.theme import Theme
from app.views.widgets.controls import Label, action_button, column
from app.views.widgets.section import Section
from core.domain.study import ObjectKind

_ICONS = {
    ObjectKind.SEGMENTATION: "layers",
    ObjectKind.STRUCTURE_SET: "outline",
    ObjectKind.PARAMETRIC_MAP: "heat",
    ObjectKind.PRESENTATION: "window-level",
    ObjectKind.KEY_OBJECTS: "image",
    ObjectKind.REPORT: "text",
    ObjectKind.DOCUMENT: "document",
}
_UID, _VALUE = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1
_SWATCH = 12
_LEAST_LINES, _MOST_LINES = 3, 9


class ObjectsPanel(QWidget):
    """Space switches the line under the cursor, Enter goes to it."""

    def __init__(self, presenter: DerivedPresenter, theme: Theme, registry: ActionRegistry) -> None:
        super().__init__()
        self._presenter = presenter
        self._theme = theme
        self._showing = False
        self._uids: tuple[str, ...] = ()
        self.tree = QTreeWidget()
        self.tree.setColumnCount(2)
        self.tree.setHeaderHidden(True)
        self.tree.setIndentation(theme.size("section"))
        self.tree.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.tree.setAccessibleName("From the archive")
        self.tree.setIconSize(QSize(theme.size("icon"), theme.size("icon")))
        self.tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.tree.header().setStretchLastSection(False)
        self.tree.header().setSectionResizeMode(0, self.tree.header().ResizeMode.Stretch)
        self.tree.header().setSectionResizeMode(1, self.tree.header().ResizeMode.ResizeToContents)
        self.tree.itemChanged.connect(self._on_changed)
        self.tree.itemClicked.connect(self._on_clicked)
        self.tree.itemActivated.connect(self._on_activated)
        self.tree.currentItemChanged.connect(lambda *_: self._show_words())
        self._words = Label("", "caution", wrap=True)
        self._words.setContentsMargins(12, 4, 12, 8)
        self._maker = Label("", "faint", wrap=True)
        self._maker.setContentsMargins(12, 4, 12, 4)
        self._maker.setToolTip("Made by others, not by a model of this program")
        body = QWidget()
        body.setLayout(column(self.tree, self._maker, self._words, gap=0))
        hide = action_button(theme, registry, "derived.hide", "eye")
        self._hide = hide
        self.section = Section(theme, "From the archive", body, hide)
        self.setLayout(column(self.section, gap=0))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        presenter.attach(self)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme
        self._uids = ()
        self.show_state(self._presenter.state)

    def show_state(self, state: ObjectsState) -> None:
        """Draw the state."""
        self.setVisible(bool(state.rows) or bool(state.message))
        self._showing = True
        shape = tuple(f"{row.uid}:{len(row.parts)}" for row in state.rows)
        if shape != self._uids:
            self._build(state.lines)
            self._uids = shape
        for place, row in enumerate(state.lines):
            item = self.tree.topLevelItem(place)
            if item is not None:
                self._draw_row(item, row)
        self._showing = False
        shown = sum(row.shown for row in state.rows)
        words = f"{shown}/{len(state.rows)} shown" if shown else f"{len(state.rows)}"
        self.section.set_count("hidden" if state.hidden and shown else words)
        self._hide.set_icon("eye-off" if state.hidden else "eye")
        self._fit_height()
        self._show_words()

    def _build(self, rows: tuple[ObjectRow, ...]) -> None:
        current = self.tree.currentItem()
        kept = (current.data(0, _UID), current.data(0, _VALUE)) if current is not None else None
        self.tree.clear()
        for row in rows:
            item = QTreeWidgetItem(self.tree)
            item.setData(0, _UID, row.uid)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            for part in row.parts:
                child = QTreeWidgetItem(item)
                child.setData(0, _UID, row.uid)
                child.setData(0, _VALUE, part.value)
                child.setFlags(child.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                if kept == (row.uid, part.value):
                    self.tree.setCurrentItem(child)
            item.setExpanded(True)
            if kept == (row.uid, None):
                self.tree.setCurrentItem(item)

    def _draw_row(self, item: QTreeWidgetItem, row: ObjectRow) -> None:
        item.setText(0, row.title)
        item.setIcon(0, self._theme.icon(_ICONS.get(row.kind, "document")))
        item.setText(1, {"loading": "reading…", "failed": "refused"}.get(row.state, row.date))
        item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        item.setToolTip(0, "\n".join(part for part in (row.title, row.detail, row.words) if part))
        item.setCheckState(0, _checked(row.shown))
        for place, part in enumerate(row.parts):
            child = item.child(place)
            if child is not None:
                _draw_part(child, part)

    def _fit_height(self) -> None:
        """As high as its lines, within limits; longer lists scroll."""
        lines = sum(1 + len(row.parts) for row in self._presenter.state.rows)
        line = max(self._theme.size("hit"), self.tree.sizeHintForRow(0))
        self.tree.setFixedHeight(min(max(lines, 1), _MOST_LINES) * line + 4)

    def _current(self) -> ObjectRow | None:
        item = self.tree.currentItem()
        uid = item.data(0, _UID) if item is not None else None
        rows = self._presenter.state.lines
        shown = [row for row in rows if row.shown or row.state] or list(rows[:1])
        return next((row for row in rows if row.uid == uid), shown[0] if shown else None)

    def _show_words(self) -> None:
        row = self._current()
        self._maker.setVisible(row is not None)
        self._maker.setText(row.detail if row is not None else "")
        words = row.words if row is not None else self._presenter.state.message
        self._words.setVisible(bool(words))
        self._words.setText(words)
        self._words.set_role("danger" if row is not None and row.state == "failed" else "caution")

    def _on_changed(self, item: QTreeWidgetItem) -> None:
        if self._showing:
            return
        uid, value = item.data(0, _UID), item.data(0, _VALUE)
        if value is None:
            self._presenter.toggle(uid)
        else:
            self._presenter.toggle_part(uid, value)

    def _on_clicked(self, item: QTreeWidgetItem, place: int) -> None:
        """A click on the words of a part goes to it; one on the box only switches."""
        value = item.data(0, _VALUE)
        if value is not None and place == 1:
            self._presenter.jump_to_part(item.data(0, _UID), value)

    def _on_activated(self, item: QTreeWidgetItem) -> None:
        uid, value = item.data(0, _UID), item.data(0, _VALUE)
        if value is None:
            self._presenter.show(uid)
        else:
            self._presenter.jump_to_part(uid, value)


def _draw_part(item: QTreeWidgetItem, part: PartRow) -> None:
    item.setText(0, part.name)
    item.setText(1, part.detail)
    item.setToolTip(0, f"{part.name}  {part.detail}\nEnter or a double click goes there")
    swatch = QPixmap(_SWATCH, _SWATCH)
    swatch.fill(QColor(*part.color))
    item.setIcon(0, QIcon(swatch))
    item.setCheckState(0, _checked(part.visible))
    item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


def _checked(on: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if on else Qt.CheckState.Unchecked
