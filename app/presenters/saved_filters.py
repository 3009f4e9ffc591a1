"""Filters kept under a name: saved, chosen from the menu or the command palette, deleted."""

from __future__ import annotations

from collections.abc import Callable

from app.presenters.notices import NoticesPresenter
from app.presenters.palette import Command
from app.presenters.ports import ReviewEngine, Tasks
from app.presenters.wording import count_in_words
from app.presenters.worklist import WorklistPresenter
from core.domain.browse import SavedFilter, StudyFilter

COMMAND = "filter.use:"
LONGEST_NAME = 60


class SavedFilters:
    """Saves the filter that is in use, and uses one that was saved."""

    def __init__(
        self,
        engine: ReviewEngine,
        tasks: Tasks,
        notices: NoticesPresenter,
        worklist: WorklistPresenter,
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._worklist = worklist

    def save(self, name: str) -> None:
        """Keep the filter in use; one of the same name is replaced."""
        plain = " ".join(name.split())[:LONGEST_NAME]
        if plain and self._worklist.state.filtered:
            wanted = self._worklist.state.wanted
            self._write(lambda: self._engine.save_filter(plain, wanted))

    def delete(self, name: str) -> None:
        """Forget a saved filter; what is listed stays."""
        self._write(lambda: self._engine.delete_filter(name))

    def use(self, filter_id: str) -> None:
        """List what a saved filter lets through."""
        found = next((f for f in self._worklist.state.saved if f.filter_id == filter_id), None)
        if found is not None:
            self._worklist.use_filter(found.filter)

    def commands(self) -> list[Command]:
        """Return the saved filters as the command palette lists them."""
        return [
            Command(f"{COMMAND}{saved.filter_id}", f"Filter: {title}", "Worklist", "", True)
            for saved, title in self.titled()
        ]

    def titled(self) -> list[tuple[SavedFilter, str]]:
        """Return the saved filters and what to call them.

        One that searches for words may be named after a patient: while identity is hidden it has a number.
        """
        hidden = self._worklist.identity.hidden
        return [
            (saved, f"Saved filter {number}" if hidden and saved.filter.text else saved.name)
            for number, saved in enumerate(self._worklist.state.saved, 1)
        ]

    def _write(self, work: Callable[[], None]) -> None:
        def write() -> tuple[SavedFilter, ...]:
            work()
            return self._engine.saved_filters()

        self._tasks.db(write, self._worklist.set_saved, self._notices.report)


def filter_in_words(wanted: StudyFilter, hidden: bool = False) -> str:
    """Return what a filter narrows to, for the line under the filter bar."""
    parts = [
        "" if not wanted.text else "the search" if hidden else f"“{wanted.text}”",
        "/".join(wanted.modalities),
        "/".join(status.replace("_", " ") for status in wanted.statuses),
        _period_in_words(wanted.imported_within_days),
        ", ".join(wanted.tags),
        "with waiting results" if wanted.waiting_only else "",
    ]
    return " · ".join(part for part in parts if part)


def _period_in_words(days: int | None) -> str:
    if days is None:
        return ""
    return "imported today" if days == 0 else f"imported within {count_in_words(days, 'day', 'days')}"
