"""The audit trail on screen: the newest events, and whether the chain holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import AuditCheck, AuditRow, Presenter, ReviewEngine, Tasks
from app.presenters.wording import count_in_words
from core.domain.errors import AppError

SHOWN = 500


@dataclass(frozen=True)
class AuditState:
    """Events, newest first; ``check`` is None before the first verification."""

    rows: tuple[AuditRow, ...] = ()
    check: AuditCheck | None = None
    verifying: bool = False

    @property
    def words(self) -> str:
        """The outcome of the last verification in words."""
        if self.verifying:
            return "Verifying…"
        if self.check is None:
            return "Not verified yet."
        if self.check.ok:
            return f"{count_in_words(self.check.events, 'event', 'events')}, chain intact."
        broken = f"The chain is broken at event {self.check.first_bad_seq}"
        why = f": {self.check.reason.rstrip('.')}" if self.check.reason else ""
        return f"{broken}{why}. Don't rely on later entries."


class AuditPresenter(Presenter[AuditState]):
    """Reads and verifies the audit trail on the database thread."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(AuditState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices

    def refresh(self) -> None:
        """Read the newest events."""

        def done(rows: list[AuditRow]) -> None:
            self._publish(replace(self.state, rows=tuple(rows)))

        self._tasks.db(lambda: self._engine.audit_events(SHOWN), done, self._notices.report)

    def verify(self) -> None:
        """Check the whole chain."""
        if self.state.verifying:
            return
        self._publish(replace(self.state, verifying=True))

        def done(check: AuditCheck) -> None:
            self._publish(replace(self.state, check=check, verifying=False))
            if not check.ok:
                self._notices.say(
                    "danger", self.state.words, "Keep the data folder as it is and tell whoever runs it."
                )

        def failed(error: AppError) -> None:
            self._publish(replace(self.state, verifying=False))
            self._notices.report(error)

        self._tasks.db(self._engine.verify_audit, done, failed)
