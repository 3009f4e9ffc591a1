"""The actions of the study browser: marks on studies, ways to priors and waiting results, filters."""

from __future__ import annotations

from collections.abc import Callable

from app.actions.action import Action, ActionRegistry
from app.actions.window_actions import WORKLIST, Subjects
from core.domain.study import ReadStatus

_STATUSES = (
    (ReadStatus.UNREAD, "Mark as unread"),
    (ReadStatus.IN_PROGRESS, "Mark as in progress"),
    (ReadStatus.REVIEWED, "Mark as reviewed"),
)


def add_browser_actions(registry: ActionRegistry, subjects: Subjects) -> None:
    """Add what is done to studies; marks go to the selected studies, else to the open one."""
    worklist, opener, marks = subjects.worklist, subjects.opener, subjects.marks

    def add(action_id: str, title: str, run: Callable[[], None], icon: str, when: Callable[[], bool]) -> None:
        registry.add(Action(action_id, title, WORKLIST, run, icon, when))

    def has_studies() -> bool:
        return bool(marks.studies)

    for status, title in _STATUSES:
        icon = f"status-{status.value.replace('_', '-')}"
        add(f"study.status.{status.value}", title, _marker(subjects, status), icon, has_studies)
    add("study.undo", "Undo the last status or tag", marks.undo, "undo", lambda: marks.can_undo)
    add(
        "study.delete",
        "Delete from the library…",
        marks.request_delete,
        "delete",
        lambda: marks.delete_requested is not None and has_studies(),
    )
    add("filter.clear", "Clear filters", worklist.clear_filters, "filter", lambda: worklist.state.filtered)

    def has_priors() -> bool:
        return bool(worklist.state.priors)

    add("study.older", "The patient's study before", lambda: opener.step_in_time(-1), "prior", has_priors)
    add("study.newer", "The patient's study after", lambda: opener.step_in_time(1), "prior", has_priors)
    add(
        "results.waiting",
        "Go to results that wait",
        opener.open_waiting,
        "findings",
        lambda: worklist.waiting > 0,
    )


def _marker(subjects: Subjects, status: ReadStatus) -> Callable[[], None]:
    return lambda: subjects.marks.set_status(status)
