"""Inline notices: what happened, why, what to do. Nothing modal, nothing that leaves by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

from app.presenters.ports import Presenter
from core.domain.errors import AppError
from core.domain.progress import Cancelled

_KEPT = 4


@dataclass(frozen=True)
class Notice:
    """One notice.

    ``level`` is info, done, caution or danger; ``details`` are further lines (skipped files); ``more`` is shown
    when the reader asks for it.
    """

    id: int
    level: str
    what: str
    remedy: str = ""
    details: tuple[str, ...] = ()
    more: str = ""


@dataclass(frozen=True)
class NoticesState:
    """Newest notice last."""

    notices: tuple[Notice, ...] = ()


class NoticesPresenter(Presenter[NoticesState]):
    """Keeps the last few notices until the reader dismisses them."""

    def __init__(self) -> None:
        super().__init__(NoticesState())
        self._ids = count(1)

    def say(
        self, level: str, what: str, remedy: str = "", details: tuple[str, ...] = (), more: str = ""
    ) -> int:
        """Add a notice and return its id; the same words again replace the earlier ones."""
        notice = Notice(next(self._ids), level, what, remedy, details, more)
        others = tuple(n for n in self.state.notices if n.what != what)
        self._publish(replace(self.state, notices=(*others, notice)[-_KEPT:]))
        return notice.id

    def tell(self, level: str, text: str) -> int:
        """Add a notice of which only the first sentence is shown; the rest follows on request."""
        first, stop, rest = text.partition(". ")
        return self.say(level, first + ("." if stop else ""), more=rest)

    def report(self, error: AppError) -> None:
        """Show an error of the engine; a cancellation isn't one."""
        if not isinstance(error, Cancelled):
            self.say("danger", error.user_message, error.remedy)

    def dismiss(self, notice_id: int) -> None:
        """Remove one notice."""
        self._publish(NoticesState(tuple(n for n in self.state.notices if n.id != notice_id)))

    def dismiss_last(self) -> None:
        """Remove the newest notice, if any."""
        self._publish(NoticesState(self.state.notices[:-1]))
