"""The actions of the desk: imports, elements, keeping the library in order, questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.actions.action import Action, ActionRegistry
from app.actions.window_actions import FILES, PANELS, PROGRAM, READING
from app.presenters.housekeeping import HousekeepingPresenter
from app.presenters.importing import ImportPresenter
from app.presenters.questions import QuestionsPresenter
from app.presenters.tags import TagsPresenter

LIBRARY = "Library"
RUNS = (
    "file.watch",
    "panel.import",
    "panel.library",
    "series.tags",
    "library.retention",
    "library.backup",
    "library.check",
)
"""Actions that need the window: ``add_library_actions`` is told what they do."""


@dataclass(frozen=True)
class DeskSubjects:
    """The presenters that the actions act on."""

    imports: ImportPresenter
    questions: QuestionsPresenter
    tags: TagsPresenter
    housekeeping: HousekeepingPresenter


def add_library_actions(
    registry: ActionRegistry, subjects: DeskSubjects, runs: Mapping[str, Callable[[], None]]
) -> None:
    """Add the actions; raises KeyError when ``runs`` misses one of ``RUNS``."""
    imports, questions = subjects.imports, subjects.questions
    tags, keeping = subjects.tags, subjects.housekeeping

    def add(
        action_id: str,
        title: str,
        group: str,
        icon: str,
        run: Callable[[], None],
        when: Callable[[], bool] = lambda: True,
    ) -> None:
        registry.add(Action(action_id, title, group, run, icon, when))

    def free() -> bool:
        return not keeping.state.busy and not keeping.state.restored

    def has_tags() -> bool:
        return tags.state.document is not None

    add("file.watch", "Watch a folder…", FILES, "eye", runs["file.watch"])
    add("import.cancel", "Cancel the import", FILES, "close", imports.cancel, lambda: imports.busy)
    add(
        "question.answer",
        "Go to the question that waits",
        PROGRAM,
        "help",
        questions.attend,
        lambda: bool(questions.state.questions),
    )
    add("panel.import", "Imports, skipped files, conflicts", PANELS, "import", runs["panel.import"])
    add("panel.library", "Retention, backup, check", PANELS, "layers", runs["panel.library"])
    add("series.tags", "DICOM elements of the picture", READING, "text", runs["series.tags"])
    add("tags.previous", "Elements of the file before", READING, "previous", lambda: tags.step(-1), has_tags)
    add("tags.next", "Elements of the file after", READING, "next", lambda: tags.step(1), has_tags)
    add("library.backup", "Back up the library", LIBRARY, "export", runs["library.backup"], free)
    add(
        "library.check",
        "Check the library",
        LIBRARY,
        "verified",
        runs["library.check"],
        lambda: free() and not keeping.state.checking,
    )
    add("library.retention", "Retention rules", LIBRARY, "layers", runs["library.retention"])
