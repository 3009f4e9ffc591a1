"""What can be done with the selected lines: open, status, tags, tag viewer, delete; and which details a line shows."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QActionGroup
from PySide6.QtWidgets import QMenu

from app.actions.action import ActionRegistry
from app.presenters.study_marks import StudyMarks
from app.presenters.wording import count_in_words
from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_rows import SORTS, Row
from app.presenters.worklist_words import COLUMNS
from app.views.widgets.controls import plain_entry

_STATUS_ACTIONS = ("study.status.unread", "study.status.in_progress", "study.status.reviewed")
_UNDO = "study.undo"
_MORE_ACTIONS = ("study.older", "study.newer")
_TAGS = "series.tags"
Arrange = Callable[[tuple[str, ...], str], None]


def fill_study_menu(
    menu: QMenu,
    registry: ActionRegistry,
    presenter: WorklistPresenter,
    marks: StudyMarks,
    row: Row | None,
    open_row: Callable[[Row], None],
    inspect: Callable[[Row], None],
) -> None:
    """Fill the context menu of the list; entries whose action another part of the window brings come with it."""
    menu.clear()
    studies = marks.studies
    if row is not None:
        menu.addAction("Open").triggered.connect(lambda: open_row(row))
    if studies:
        _fill_marks(menu, registry, presenter, marks, studies)
    for action_id in _MORE_ACTIONS:
        add_action(menu, registry, action_id)
    if row is not None and _TAGS in registry:
        # Of the line that was clicked, so without the key: that one shows the elements of the picture.
        menu.addAction("DICOM elements").triggered.connect(lambda: inspect(row))
    menu.addSeparator()
    add_action(menu, registry, "view.columns")
    menu.addSeparator()
    add_action(menu, registry, "study.delete")


def _fill_marks(
    menu: QMenu,
    registry: ActionRegistry,
    presenter: WorklistPresenter,
    marks: StudyMarks,
    studies: tuple[str, ...],
) -> None:
    add_heading(menu, count_in_words(len(studies), "study", "studies"))
    for action_id in _STATUS_ACTIONS:
        add_action(menu, registry, action_id)
    tags = menu.addMenu("Tags")
    lines = marks.lines()
    for tag in presenter.state.tags:
        entry = tags.addAction(plain_entry(tag))
        entry.setCheckable(True)
        entry.setChecked(bool(lines) and all(tag in line.tags for line in lines))
        entry.triggered.connect(lambda _=False, tag=tag: marks.toggle_tag(tag))
    if presenter.state.tags:
        tags.addSeparator()
    add_action(tags, registry, "study.tag")
    add_action(menu, registry, _UNDO)
    menu.addSeparator()


def fill_columns_menu(menu: QMenu, presenter: WorklistPresenter, arrange: Arrange) -> None:
    """Fill the menu of the details that a line shows and of the order of the studies."""
    menu.clear()
    state = presenter.state
    add_heading(menu, "Order")
    group = QActionGroup(menu)
    for name, title in SORTS:
        entry = menu.addAction(title)
        entry.setCheckable(True)
        entry.setChecked(name == state.sort)
        group.addAction(entry)
        entry.triggered.connect(lambda _=False, name=name: arrange(presenter.state.columns, name))
    add_heading(menu, "Details")
    for name, title in COLUMNS:
        entry = menu.addAction(title)
        entry.setCheckable(True)
        entry.setChecked(name in state.columns)
        entry.triggered.connect(
            lambda on, name=name: arrange(_with(presenter, name, on), presenter.state.sort)
        )


def _with(presenter: WorklistPresenter, name: str, on: bool) -> tuple[str, ...]:
    chosen = {*presenter.state.columns} | {name} if on else {*presenter.state.columns} - {name}
    return tuple(column for column, _ in COLUMNS if column in chosen)


def add_heading(menu: QMenu, words: str) -> None:
    """Add a line that can't be chosen and says what follows; the style draws no text into separators."""
    if menu.actions():
        menu.addSeparator()
    menu.addAction(words).setEnabled(False)


def add_action(menu: QMenu, registry: ActionRegistry, action_id: str) -> None:
    """Add an action with its key, if the window has it."""
    if action_id not in registry:
        return
    action = registry.get(action_id)
    keys = registry.keys_of(action_id)
    # The key is shown as text: a second shortcut of the same key would make both ambiguous.
    entry = menu.addAction(f"{action.title}\t{keys[0]}" if keys else action.title)
    entry.setEnabled(action.enabled_when())
    entry.triggered.connect(lambda: registry.trigger(action_id))
