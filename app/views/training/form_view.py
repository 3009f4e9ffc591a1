"""A form made from a schema's fields: one row each, headings by section, what is wrong under the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLineEdit, QWidget

from app.presenters.training_form import limits_in_words, matters
from app.views.widgets.controls import ElidedCombo, Label, plain_tip, row
from core.domain.forms import FormField

_FIELD_WIDTH = 112
_LONGEST = 64


class FormView(QWidget):
    """Draws fields; ``entered`` is told path and what was entered."""

    def __init__(self, entered: Callable[[str, Any], None]) -> None:
        super().__init__()
        self.setObjectName("plain")
        self._entered = entered
        self._fields: tuple[FormField, ...] = ()
        self.editors: dict[str, QWidget] = {}
        self._rows: dict[str, tuple[QWidget, ...]] = {}
        self.problems: dict[str, Label] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(0, 1)

    def show_form(
        self, fields: tuple[FormField, ...], entered: Mapping[str, Any], problems: Mapping[str, str]
    ) -> None:
        """Draw the fields, what they hold and what is wrong; editors are made anew only for other fields."""
        if fields != self._fields:
            self._make(fields)
        for field in fields:
            self._show_value(field, entered.get(field.path))
            shown = matters(field, entered)
            for widget in self._rows[field.path]:
                widget.setVisible(shown)
            problem = problems.get(field.path, "")
            self.problems[field.path].setText(problem)
            self.problems[field.path].setVisible(shown and bool(problem))

    def _make(self, fields: tuple[FormField, ...]) -> None:
        self._fields = fields
        for old in self.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            old.hide()
            old.deleteLater()
        self.editors, self._rows, self.problems = {}, {}, {}
        line, section = 0, ""
        for field in fields:
            if field.section and field.section != section:
                section = field.section
                heading = Label(section, "section")
                heading.setContentsMargins(0, 8 if line else 0, 0, 0)
                self._grid.addWidget(heading, line, 0, 1, 2)
                line += 1
            self._add(field, line)
            line += 2
        self._grid.setRowStretch(line, 1)

    def _add(self, field: FormField, line: int) -> None:
        editor = self._editor(field)
        tip = "\n".join(part for part in (field.help, limits_in_words(field)) if part)
        editor.setToolTip(plain_tip(tip))
        editor.setAccessibleName(field.title)
        unit = Label(field.unit, "faint")
        unit.setFixedWidth(24)
        held = QWidget()
        held.setObjectName("plain")
        held.setLayout(row(editor, unit, gap=4))
        problem = Label("", "danger", wrap=True)
        title = Label(field.title, "dim")
        title.setToolTip(plain_tip(tip))
        title.setBuddy(editor)
        self._grid.addWidget(title, line, 0)
        self._grid.addWidget(held, line, 1)
        self._grid.addWidget(problem, line + 1, 0, 1, 2)
        self.editors[field.path], self.problems[field.path] = editor, problem
        self._rows[field.path] = (title, held)

    def _editor(self, field: FormField) -> QWidget:
        path = field.path
        if field.kind == "choice":
            combo = ElidedCombo(field.title)
            for choice in field.choices:
                combo.addItem(choice.title, choice.value)
            combo.activated.connect(lambda place: self._entered(path, combo.itemData(place)))
            combo.setFixedWidth(_FIELD_WIDTH)
            return combo
        if field.kind == "bool":
            check = QCheckBox()
            check.clicked.connect(lambda on: self._entered(path, on))
            return check
        edit = QLineEdit()
        edit.setMaxLength(_LONGEST)
        edit.setFixedWidth(_FIELD_WIDTH)
        edit.setAcceptDrops(False)
        edit.textEdited.connect(lambda text: self._entered(path, text))
        return edit

    def _show_value(self, field: FormField, value: Any) -> None:
        editor = self.editors[field.path]
        if isinstance(editor, QComboBox):
            editor.setCurrentIndex(max(0, editor.findData(value)))
        elif isinstance(editor, QCheckBox):
            editor.setChecked(bool(value))
        elif isinstance(editor, QLineEdit) and editor.text() != str(value):
            editor.setText(str(value))
