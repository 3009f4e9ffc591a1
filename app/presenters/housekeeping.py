"""The library in order: retention rules, deleting studies, backups, the check. What destroys is confirmed first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.ports_library import RemovalRow
from app.presenters.questions import Choice, QuestionsPresenter
from app.presenters.status import StatusPresenter
from app.presenters.wording import count_in_words
from core.domain.browse import BackupInfo, LibraryCheck, RemovedReport, RetentionRule, StudyLine
from core.domain.errors import AppError
from core.domain.progress import CancelToken
from core.domain.study import ReadStatus

_YES, _NO = "yes", "no"
STATUS_WORDS = {
    ReadStatus.UNREAD.value: "unread",
    ReadStatus.IN_PROGRESS.value: "in progress",
    ReadStatus.REVIEWED.value: "reviewed",
}


@dataclass(frozen=True)
class HousekeepingState:
    """What the Library panel shows. ``due`` is what the rule ``previewed`` would remove; None before a preview."""

    rules: tuple[RetentionRule, ...] = ()
    previewed: str = ""
    due: tuple[StudyLine, ...] | None = None
    backups: tuple[BackupInfo, ...] = ()
    check: LibraryCheck | None = None
    checking: bool = False
    busy: bool = False
    restored: bool = False

    @property
    def preview_words(self) -> str:
        """What the previewed rule would do."""
        if self.due is None:
            return ""
        if not self.due:
            return f"“{self.previewed}” would remove nothing now."
        return f"“{self.previewed}” would remove {due_in_words(self.due)}."

    @property
    def check_words(self) -> str:
        """The outcome of the last check."""
        if self.checking:
            return "Checking…"
        if self.check is None:
            return "Not checked yet."
        looked = (
            f"{count_in_words(self.check.studies, 'study', 'studies')}, {self.check.instances} files, "
            f"{self.check.events} events"
        )
        if self.check.ok and not self.check.findings:
            return f"All is well: {looked}."
        found = count_in_words(len(self.check.findings), "finding", "findings")
        return f"{'Usable' if self.check.ok else 'Damaged'}, {found}: {looked}."


class HousekeepingPresenter(Presenter[HousekeepingState]):
    """Asks before anything goes, says what went."""

    def __init__(
        self,
        engine: ReviewEngine,
        tasks: Tasks,
        notices: NoticesPresenter,
        questions: QuestionsPresenter,
        status: StatusPresenter,
    ) -> None:
        super().__init__(HousekeepingState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._questions = questions
        self._status = status
        self._cancel: CancelToken | None = None
        self.removed: Callable[[tuple[str, ...]], None] = lambda _: None
        self.quit: Callable[[], None] = lambda: None

    def refresh(self) -> None:
        """Read rules and backups."""

        def work() -> tuple[Sequence[RetentionRule], Sequence[BackupInfo]]:
            return self._engine.retention_rules(), self._engine.backups()

        def done(found: tuple[Sequence[RetentionRule], Sequence[BackupInfo]]) -> None:
            self._publish(replace(self.state, rules=tuple(found[0]), backups=tuple(found[1])))

        self._tasks.db(work, done, self._notices.report)

    # -- retention ---------------------------------------------------------------------------------

    def save_rule(self, rule: RetentionRule) -> None:
        """Add a rule, or change the one of that name. It removes nothing until it is applied."""
        self._tasks.db(
            lambda: self._engine.save_rule(rule), lambda _: self._rules_changed(), self._notices.report
        )

    def delete_rule(self, name: str) -> None:
        """Drop a rule."""
        self._tasks.db(
            lambda: self._engine.delete_rule(name), lambda _: self._rules_changed(), self._notices.report
        )

    def _rules_changed(self) -> None:
        self._publish(replace(self.state, due=None, previewed=""))
        self.refresh()

    def preview(self, name: str) -> None:
        """Show what a rule would remove now."""
        self._with_preview(name, lambda _rule, _due: None)

    def apply(self, name: str) -> None:
        """Ask whether the studies of a rule shall go, then remove them."""

        def ask(rule: RetentionRule, due: tuple[StudyLine, ...]) -> None:
            if not due:
                self._notices.say("info", f"“{rule.name}” removes nothing now.")
                return
            self._confirm(
                f"Remove {due_in_words(due)}, as “{rule.name}” says?",
                f"{_WHAT_GOES} {_WHAT_STAYS}",
                "Remove",
                lambda: self._remove(
                    lambda: self._engine.apply_rule(rule), tuple(line.study_uid for line in due)
                ),
            )

        self._with_preview(name, ask)

    def _with_preview(self, name: str, then: Callable[[RetentionRule, tuple[StudyLine, ...]], None]) -> None:
        rule = next((rule for rule in self.state.rules if rule.name == name), None)
        if rule is None:
            return

        def done(due: Sequence[StudyLine]) -> None:
            self._publish(replace(self.state, previewed=rule.name, due=tuple(due)))
            then(rule, tuple(due))

        self._tasks.db(lambda: self._engine.preview_rule(rule), done, self._notices.report)

    # -- deleting ----------------------------------------------------------------------------------

    def delete_studies(self, study_uids: Sequence[str]) -> None:
        """Ask whether studies shall leave the library, saying what goes and what stays; then remove them."""
        chosen = tuple(dict.fromkeys(study_uids))
        if not chosen or self.state.busy:
            return

        def ask(rows: list[RemovalRow]) -> None:
            what, why = removal_in_words(rows)
            self._confirm(
                what,
                why,
                "Delete",
                lambda: self._remove(lambda: self._engine.remove_studies(chosen), chosen),
            )

        self._tasks.db(lambda: self._engine.preview_removal(chosen), ask, self._notices.report)

    def _remove(self, work: Callable[[], RemovedReport], study_uids: tuple[str, ...]) -> None:
        self._publish(replace(self.state, busy=True))

        def done(report: RemovedReport) -> None:
            self._publish(replace(self.state, busy=False, due=None, previewed=""))
            level = "caution" if report.undeleted else "done"
            remedy = "Some files couldn't be deleted; the check lists them." if report.undeleted else ""
            self._notices.say(level, removed_in_words(report), remedy)
            self.removed(study_uids)

        def failed(error: AppError) -> None:
            self._publish(replace(self.state, busy=False))
            self._notices.report(error)
            # A part may be gone: whoever shows the studies looks again.
            self.removed(())

        self._tasks.io(work, done, failed)

    def _confirm(self, what: str, why: str, yes: str, run: Callable[[], None]) -> None:
        def answered(choice: str, _: str) -> None:
            if choice == _YES:
                run()

        # The harmless answer comes first: it is the one that has the focus.
        choices = (Choice(_NO, "Keep"), Choice(_YES, yes, "danger"))
        self._questions.ask(what, why, choices, answered, level="danger", at_once=True)

    # -- backup ------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """Write a backup now."""
        if self.state.busy:
            return
        self._publish(replace(self.state, busy=True))
        self._status.set_task("backup", "Backing up the library…", 0.0)

        def end() -> None:
            self._status.end_task("backup")
            self._publish(replace(self.state, busy=False))

        def done(_: Path) -> None:
            end()
            self._notices.say("done", "The library was backed up.", "Backups hold no pictures.")
            self.refresh()

        def failed(error: AppError) -> None:
            end()
            self._notices.report(error)

        self._tasks.io(self._engine.make_backup, done, failed)

    def restore(self, file: Path) -> None:
        """Ask whether a backup shall replace the library, then close the library and do it."""
        made = next((b.made_utc[:16].replace("T", " ") for b in self.state.backups if b.file == file), "")
        self._confirm(
            f"Replace the library by the backup of {made} (UTC)?",
            "Studies and verdicts that came since then will not be there; studies deleted since then stay deleted, and "
            "the audit trail stays whole. The present library is kept beside it. Afterwards the program has to be "
            "started again.",
            "Restore",
            lambda: self._restore(file),
        )

    def _restore(self, file: Path) -> None:
        self.cancel_check()
        self._publish(replace(self.state, busy=True))

        def done(_: None) -> None:
            self._publish(replace(self.state, busy=False, restored=True))
            self._questions.ask(
                "The backup was restored.",
                "Quit now and start the program again to work with it.",
                (Choice(_YES, "Quit", "primary"),),
                lambda _choice, _text: self.quit(),
                at_once=True,
            )

        def failed(error: AppError) -> None:
            self._publish(replace(self.state, busy=False))
            self._notices.report(error)

        self._tasks.db(lambda: self._engine.restore_backup(file), done, failed)

    # -- check -------------------------------------------------------------------------------------

    def check(self, full: bool = False) -> None:
        """Look whether index, files and audit trail belong together; ``full`` compares every file's content."""
        if self.state.checking:
            return
        cancel = CancelToken()
        self._cancel = cancel
        self._publish(replace(self.state, checking=True))
        self._status.set_task("check", "Checking the library…", 0.0)

        def progress(phase: str, fraction: float) -> None:
            self._tasks.post(lambda: self._on_progress(cancel, phase, fraction))

        def end() -> None:
            self._cancel = None
            self._status.end_task("check")

        def done(found: LibraryCheck) -> None:
            end()
            self._publish(replace(self.state, checking=False, check=found))
            if not found.ok:
                self._notices.say("danger", self.state.check_words, "The Library panel says what to do.")

        self._tasks.io(
            lambda: self._engine.check_library(full, progress, cancel), done, self._check_failed(end)
        )

    def _check_failed(self, end: Callable[[], None]) -> Callable[[AppError], None]:
        def failed(error: AppError) -> None:
            end()
            self._publish(replace(self.state, checking=False))
            self._notices.report(error)

        return failed

    def care(self) -> None:
        """Make the backup of the day, then check the library, once a week fully. Says only what isn't well."""
        if self.state.checking or self.state.busy or self.state.restored:
            return
        cancel = CancelToken()
        self._cancel = cancel
        self._publish(replace(self.state, checking=True))

        def progress(phase: str, fraction: float) -> None:
            # A quick check is over before anybody could read about it.
            self._tasks.post(lambda: self._on_progress(cancel, phase, fraction) if full[0] else None)

        full = [False]

        def work() -> tuple[LibraryCheck, AppError | None]:
            refused: AppError | None = None
            try:
                self._engine.daily_backup()
            except AppError as error:
                refused = error
            full[0] = self._engine.full_check_due()
            # Linked files may be terabytes on a network drive: reading them all is for those who ask.
            return self._engine.check_library(full[0], progress, cancel, linked=False), refused

        def end() -> None:
            self._cancel = None
            self._status.end_task("check")

        def done(answer: tuple[LibraryCheck, AppError | None]) -> None:
            found, refused = answer
            end()
            self._publish(replace(self.state, checking=False, check=found))
            if refused is not None:
                self._notices.report(refused)
            if found.findings:
                self._tell(found)

        self._tasks.io(work, done, self._check_failed(end))

    def _tell(self, found: LibraryCheck) -> None:
        """Say the gravest finding with its remedy, and the others below it."""
        first, *others = found.findings
        details = tuple(f"{finding.message} {finding.remedy}" for finding in others)
        self._notices.say(
            "caution" if found.ok else "danger", f"Library check: {first.message}", first.remedy, details
        )

    def _on_progress(self, cancel: CancelToken, phase: str, fraction: float) -> None:
        if cancel is self._cancel:
            self._status.set_task("check", f"Checking the library · {phase}", fraction)

    def cancel_check(self) -> None:
        """Stop the check; it changes nothing."""
        if self._cancel is not None:
            self._cancel.cancel()


_WHAT_GOES = "Their results with verdicts, thumbnails and the library's copies are deleted for good."
_WHAT_STAYS = "Linked files stay where they are, and the audit trail stays."


def due_in_words(due: Sequence[StudyLine]) -> str:
    """Return ``"2 studies with 96 files"``."""
    files = sum(line.instance_count for line in due)
    return f"{count_in_words(len(due), 'study', 'studies')} with {count_in_words(files, 'file', 'files')}"


def removal_in_words(rows: Sequence[RemovalRow]) -> tuple[str, str]:
    """Return the question and what goes and stays."""
    copied, linked = sum(row.copied for row in rows), sum(row.linked for row in rows)
    results = sum(row.results for row in rows)
    goes = [
        count_in_words(copied, "copied file", "copied files") if copied else "",
        count_in_words(results, "result with its verdicts", "results with their verdicts") if results else "",
        "thumbnails",
    ]
    stays = [
        f"{count_in_words(linked, 'linked file', 'linked files')} where they are" if linked else "",
        "the audit trail",
    ]
    what = f"Delete {count_in_words(len(rows), 'study', 'studies')} from the library?"
    gone = ", ".join(part for part in goes if part)
    kept = ", ".join(part for part in stays if part)
    return what, f"Deleted for good: {gone}. Stays: {kept}."


def removed_in_words(report: RemovedReport) -> str:
    """Return what a removal did."""
    parts = [f"{count_in_words(report.studies, 'study', 'studies')} removed"]
    if report.copies_deleted:
        freed = f" ({report.freed_bytes / 1e6:.0f} MB)" if report.freed_bytes >= 500_000 else ""
        parts.append(f"{count_in_words(report.copies_deleted, 'copy', 'copies')} deleted{freed}")
    if report.files_left:
        parts.append(
            f"{count_in_words(report.files_left, 'linked file', 'linked files')} left where they are"
        )
    return ", ".join(parts) + "."


def rule_in_words(rule: RetentionRule) -> str:
    """Return when a rule lets a study go."""
    states = " or ".join(STATUS_WORDS.get(status, status) for status in rule.statuses) or "in any state"
    parts = [f"imported more than {rule.older_than_days} days ago, {states}"]
    if rule.tags_kept:
        parts.append("without the tag " + " or ".join(f"“{tag}”" for tag in rule.tags_kept))
    if rule.copies_only:
        parts.append("copied into the library")
    if rule.keep_waiting:
        parts.append("no result waiting")
    return ", ".join(parts)
