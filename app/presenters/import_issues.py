"""What imports left to decide: skipped files with their reasons, conflicts, quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.presenters.importing import ImportsState, masked_file
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.ports_library import ConflictRow, QuarantineRow
from app.presenters.status import Badge
from app.presenters.wording import count_in_words
from core.domain.errors import AppError
from core.domain.study import ImportReport, SkippedFile

SKIPPED, CONFLICTS, QUARANTINE = "skipped", "conflicts", "quarantine"
PAGES = (SKIPPED, CONFLICTS, QUARANTINE)
_CONFLICT = "import.conflict"


@dataclass(frozen=True)
class Reason:
    """A reason for which files were skipped, with how many."""

    code: str
    message: str
    count: int


@dataclass(frozen=True)
class IssuesState:
    """``page`` is what the panel lists; ``reason`` narrows the skipped files, empty for all.

    ``skipped`` are those of all imports of this session that are listed, the newest import first.
    """

    page: str = SKIPPED
    reason: str = ""
    skipped: tuple[SkippedFile, ...] = ()
    reasons: tuple[Reason, ...] = ()
    conflicts: tuple[ConflictRow, ...] = ()
    quarantine: tuple[QuarantineRow, ...] = ()
    busy: bool = False
    seen: bool = True

    @property
    def listed(self) -> tuple[SkippedFile, ...]:
        """The skipped files that the reason lets through."""
        if not self.reason:
            return self.skipped
        return tuple(skipped for skipped in self.skipped if skipped.code == self.reason)

    @property
    def badge(self) -> Badge | None:
        """What the status bar says; None when there is nothing to look at."""
        parts = []
        if self.conflicts:
            parts.append(count_in_words(len(self.conflicts), "conflict", "conflicts"))
        if self.quarantine:
            parts.append(f"{len(self.quarantine)} in quarantine")
        if self.skipped and not self.seen:
            parts.append(f"{len(self.skipped)} skipped")
        if not parts:
            return None
        return Badge(" · ".join(parts), "caution", "Show what imports left to look at")


class ImportIssuesPresenter(Presenter[IssuesState]):
    """Follows the imports (as a view of theirs) and what the library keeps about them."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(IssuesState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._generation = 0
        self._runs: tuple[int, ...] = ()
        self.library_changed: Callable[[], None] = lambda: None

    def show_state(self, state: ImportsState) -> None:
        """Take the imports: the skipped files of all that ended."""
        ended = tuple(run for run in state.runs if run.state == "done" and run.skipped)
        numbers = tuple(run.id for run in ended)
        if numbers == self._runs:
            return
        fresh = set(numbers) - set(self._runs)
        self._runs = numbers
        # Conflicts have a page of their own.
        skipped = tuple(s for run in ended for s in run.skipped if s.code != _CONFLICT)
        reason = self.state.reason if any(s.code == self.state.reason for s in skipped) else ""
        self._publish(
            replace(
                self.state,
                skipped=skipped,
                reasons=reasons_of(skipped),
                reason=reason,
                seen=self.state.seen and not fresh,
            )
        )

    def refresh(self) -> None:
        """Read conflicts and quarantine."""
        self._generation += 1
        generation = self._generation

        def work() -> tuple[list[ConflictRow], list[QuarantineRow]]:
            return self._engine.conflicts(), self._engine.quarantine()

        def done(found: tuple[list[ConflictRow], list[QuarantineRow]]) -> None:
            if generation == self._generation:
                conflicts, quarantine = found
                self._publish(replace(self.state, conflicts=tuple(conflicts), quarantine=tuple(quarantine)))

        self._tasks.db(work, done, self._notices.report)

    def show_page(self, page: str) -> None:
        """List skipped files, conflicts or the quarantine."""
        self._publish(replace(self.state, page=page))

    def choose_reason(self, code: str) -> None:
        """List only the files that were skipped for this reason; all for an empty one."""
        self._publish(replace(self.state, reason=code))

    def mark_seen(self) -> None:
        """The panel is on screen: the badge has done its work."""
        self._publish(replace(self.state, seen=True))

    def text_of_skipped(self, identity_hidden: bool) -> str:
        """Return the listed files with their reasons, one a line, for the clipboard."""
        return "\n".join(
            f"{masked_file(s.file) if identity_hidden else s.file}\t{s.code}\t{s.message}"
            for s in self.state.listed
        )

    def resolve(self, conflict_ids: Sequence[str], keep: str) -> None:
        """Decide conflicts: ``library`` keeps what is there, ``new`` takes the other file."""
        if not conflict_ids or self.state.busy:
            return
        chosen = tuple(conflict_ids)

        def work() -> None:
            for conflict_id in chosen:
                self._engine.resolve_conflict(conflict_id, keep)

        self._run(work, lambda _: None)

    def retry(self, file_ids: Sequence[str]) -> None:
        """Try to import files of the quarantine again."""
        if not file_ids or self.state.busy:
            return
        chosen = tuple(file_ids)

        def told(report: ImportReport) -> None:
            left = len(report.skipped)
            if left:
                words = count_in_words(left, "file is", "files are")
                self._notices.say("caution", f"{words} still damaged.", "Ask the sender for them again.")
            else:
                self._notices.say("done", "The files of the quarantine were imported.")

        self._run(lambda: self._engine.retry_quarantine(chosen), told)

    def forget(self, file_ids: Sequence[str]) -> None:
        """Take files out of the quarantine; what lies outside of the library is not touched."""
        if file_ids and not self.state.busy:
            chosen = tuple(file_ids)
            self._run(lambda: self._engine.forget_quarantine(chosen), lambda _: None)

    def _run(self, work: Callable[[], object], told: Callable[..., None]) -> None:
        self._publish(replace(self.state, busy=True))

        def done(answer: object) -> None:
            self._publish(replace(self.state, busy=False))
            told(answer)
            self.refresh()
            self.library_changed()

        def failed(error: AppError) -> None:
            self._publish(replace(self.state, busy=False))
            self._notices.report(error)
            self.refresh()

        self._tasks.io(work, done, failed)


def reasons_of(skipped: Sequence[SkippedFile]) -> tuple[Reason, ...]:
    """Return the reasons, the most frequent first; each with the first of its messages."""
    counts = Counter(s.code for s in skipped)
    messages: dict[str, str] = {}
    for s in skipped:
        messages.setdefault(s.code, s.message)
    return tuple(Reason(code, messages[code], count) for code, count in counts.most_common())
