"""Bringing files in: one import after the other, in the background, with questions where one is needed.

Nothing here opens a study, takes the focus or covers a picture. What an import did stands in its line of the
Import panel; a notice says only that there is something to see.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.ports_library import COPY, FIXED, LINK, NETWORK, UNKNOWN, ImportOrder
from app.presenters.questions import Choice, QuestionsPresenter
from app.presenters.status import StatusPresenter
from app.presenters.wording import count_in_words
from core.domain.errors import AppError
from core.domain.progress import Cancelled, CancelToken, Progress
from core.domain.study import ImportReport, SeriesSummary, SkippedFile

KEPT_RUNS = 50
REFRESH_S = 1.0
POST_S = 0.05
ENCRYPTED = ("zip.encrypted", "zip.password")
_MEMBER = re.compile(r"(.*?\.zip):", re.IGNORECASE)
_LATER, _UNLOCK = "later", "unlock"
_ASKED_MEDIUM = {
    "removable": ("a removable medium", "Links break when the medium is taken out."),
    NETWORK: ("a network drive", "Links break while the drive can't be reached."),
}


@dataclass(frozen=True)
class ImportRun:
    """One import as a line of the panel; ``state`` is asking, waiting, running, done, cancelled or failed.

    ``title`` may hold names of files, which often name patients: it is for the screen, and only while identity
    is shown; ``plain_title`` is for the rest.
    """

    id: int
    title: str
    plain_title: str
    state: str
    mode: str = LINK
    phase: str = ""
    fraction: float = 0.0
    series: int = 0
    studies: int = 0
    added: int = 0
    already_present: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    seconds: float = 0.0
    error: str = ""
    watched: bool = False

    @property
    def words(self) -> str:
        """What happened, as the panel says it."""
        if self.state == "asking":
            return "Nothing imported yet: waits for your answer"
        if self.state == "running":
            return " · ".join(part for part in (self.phase, series_so_far(self.series)) if part)
        if self.state == "failed":
            return self.error
        if self.state == "waiting":
            return "Waits for the import before it"
        parts = [
            count_in_words(self.studies, "study", "studies") + f", {self.series} series",
            count_in_words(self.added, "new file", "new files") if self.added else "",
            f"{self.already_present} there already" if self.already_present else "",
            f"{len(self.skipped)} skipped" if self.skipped else "",
            f"{self.seconds:.1f}\u00a0s" if self.seconds else "",
        ]
        return " · ".join(part for part in parts if part)


@dataclass(frozen=True)
class ImportsState:
    """All imports of this session, newest first."""

    runs: tuple[ImportRun, ...] = ()

    @property
    def waiting(self) -> int:
        """How many imports stand in the queue."""
        return sum(run.state == "waiting" for run in self.runs)


@dataclass(frozen=True)
class _Job:
    """An import in the queue."""

    run_id: int
    title: str
    work: Callable[[Progress, CancelToken, Callable[[SeriesSummary], None]], ImportReport]
    order: ImportOrder | None
    quiet: bool = False


class ImportPresenter(Presenter[ImportsState]):
    """Runs one import after the other; ``imported`` is told the studies when one is done."""

    def __init__(
        self,
        engine: ReviewEngine,
        tasks: Tasks,
        notices: NoticesPresenter,
        status: StatusPresenter,
        questions: QuestionsPresenter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(ImportsState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._status = status
        self._questions = questions or QuestionsPresenter()
        self._clock = clock
        self._ids = count(1)
        self._queue: list[_Job] = []
        self._running: _Job | None = None
        self._cancel: CancelToken | None = None
        self._refreshed = float("-inf")
        self._owes_refresh = False
        self._asked: dict[int, int] = {}
        self.imported: Callable[[ImportReport], None] = lambda _: None
        self.series_arrived: Callable[[], None] = lambda: None

    @property
    def busy(self) -> bool:
        """Whether an import runs."""
        return self._cancel is not None

    def import_paths(self, paths: Sequence[Path]) -> None:
        """Import files and folders; where they may go away again, ask first how."""
        if not paths:
            return
        kept = tuple(paths)
        run = self._add(title_of(kept), plain_title_of(kept), "waiting")

        def known(medium: str) -> None:
            if medium in (FIXED, UNKNOWN):
                self._enqueue(run, ImportOrder(kept))
            else:
                self._ask_medium(run, kept, medium)

        # What can't be told is no reason not to import: the import says what is wrong with the paths.
        self._tasks.io(
            lambda: self._engine.medium_of(kept), known, lambda _: self._enqueue(run, ImportOrder(kept))
        )

    def import_watched(self, paths: Sequence[Path], mode: str) -> None:
        """Import what appeared in a watched folder; said only where something was skipped."""
        if paths:
            kept = tuple(paths)
            words = count_in_words(len(kept), "file", "files") + " of a watched folder"
            run = self._add(words, words, "waiting", watched=True)
            self._enqueue(run, ImportOrder(kept, mode), quiet=True)

    def import_sample(self) -> None:
        """Make the sample study and import it."""
        run = self._add("The sample study", "The sample study", "waiting", mode=COPY)
        self._push(_Job(run, "Making the sample", lambda p, c, _: self._engine.import_sample(p, c), None))

    def cancel(self) -> None:
        """Stop the import that runs and drop those that wait; what is in the library already stays."""
        for job in self._queue:
            self._change(job.run_id, state="cancelled")
        self._queue.clear()
        if self._cancel is not None:
            self._cancel.cancel()

    def close(self) -> None:
        """Stop, and take back what was asked."""
        self.cancel()
        for question_id in tuple(self._asked.values()):
            self._questions.withdraw(question_id)

    # -- questions ---------------------------------------------------------------------------------

    def _ask_medium(self, run: int, paths: tuple[Path, ...], medium: str) -> None:
        where, why = _ASKED_MEDIUM.get(medium, _ASKED_MEDIUM["removable"])
        self._change(run, state="asking")

        def answered(choice: str, _: str) -> None:
            self._asked.pop(run, None)
            if choice == _LATER:
                self._change(run, state="cancelled")
            else:
                self._enqueue(run, ImportOrder(paths, choice))

        choices = (
            Choice(COPY, "Copy into the library", "primary", "The pictures stay when the medium is gone"),
            Choice(LINK, "Link", tip="The pictures stay where they are"),
            Choice(_LATER, "Don't import"),
        )
        self._asked[run] = self._questions.ask(
            f"These files lie on {where}.",
            f"{why} Nothing is imported until you choose.",
            choices,
            answered,
        )

    def _ask_password(self, archive: Path, mode: str, again: bool) -> None:
        plain = plain_title_of((archive,))
        run = self._add(title_of((archive,)), plain, "asking")

        def answered(choice: str, password: str) -> None:
            self._asked.pop(run, None)
            if choice == _UNLOCK and password:
                self._enqueue(run, ImportOrder((archive,), mode, password))
            else:
                self._change(run, state="cancelled")

        self._asked[run] = self._questions.ask(
            "The password doesn't open the ZIP." if again else "A ZIP is encrypted.",
            "Give its password; it is used once and not kept.",
            (Choice(_UNLOCK, "Unlock", "primary"), Choice(_LATER, "Leave it")),
            answered,
            level="caution" if again else "info",
            secret=True,
        )

    # -- queue -------------------------------------------------------------------------------------

    def _enqueue(self, run: int, order: ImportOrder, quiet: bool = False) -> None:
        self._change(run, state="waiting", mode=order.mode)

        def work(
            progress: Progress, cancel: CancelToken, on_series: Callable[[SeriesSummary], None]
        ) -> ImportReport:
            return self._engine.import_paths(order, progress, cancel, on_series)

        self._push(_Job(run, "Importing", work, order, quiet))

    def _push(self, job: _Job) -> None:
        self._queue.append(job)
        if not self.busy:
            self._start()
        elif self._running is not None:
            self._show_task(self._running)

    def _start(self) -> None:
        job = self._queue.pop(0)
        cancel = CancelToken()
        self._running, self._cancel = job, cancel
        self._change(job.run_id, state="running")
        self._status.set_task("import", f"{job.title}…", 0.0)
        reporter = _Reporter(
            self._clock, lambda *told: self._tasks.post(lambda: self._on_progress(job, *told))
        )
        self._tasks.io(
            lambda: job.work(reporter.progress, cancel, reporter.on_series),
            lambda report: self._done(job, report),
            lambda error: self._failed(job, error),
        )

    def _on_progress(self, job: _Job, phase: str, fraction: float, series: int) -> None:
        if job is not self._running:
            return
        before = self._run(job.run_id)
        self._change(job.run_id, phase=phase, fraction=fraction, series=series)
        self._show_task(job)
        arrived = before is not None and series > before.series
        now = self._clock()
        if (arrived or self._owes_refresh) and now - self._refreshed >= REFRESH_S:
            self._refreshed, self._owes_refresh = now, False
            self.series_arrived()
        elif arrived:
            self._owes_refresh = True

    def _show_task(self, job: _Job) -> None:
        run = self._run(job.run_id)
        if run is None:
            return
        more = f"{len(self._queue)} more waiting" if self._queue else ""
        parts = (job.title, run.phase.lower(), series_so_far(run.series), more)
        self._status.set_task("import", " · ".join(part for part in parts if part), run.fraction)

    def _done(self, job: _Job, report: ImportReport) -> None:
        self._change(
            job.run_id,
            state="done",
            fraction=1.0,
            studies=len(report.studies),
            series=sum(len(study.series) for study in report.studies),
            added=report.counts.get("instances", 0),
            already_present=report.already_present,
            skipped=report.skipped,
            seconds=report.seconds,
        )
        self._end()
        locked = locked_archives(report, job.order)
        if not job.quiet and not (locked and not report.studies):
            level, what, remedy = report_in_words(report)
            self._notices.say(level, what, remedy)
        for archive in locked:
            again = job.order is not None and job.order.password is not None
            self._ask_password(archive, job.order.mode if job.order else LINK, again)
        self.imported(report)

    def _failed(self, job: _Job, error: AppError) -> None:
        cancelled = isinstance(error, Cancelled)
        self._change(job.run_id, state="cancelled" if cancelled else "failed", error=error.user_message)
        self._end()
        self._notices.report(error)
        # What was written before it ended stays in the library.
        self.series_arrived()

    def _end(self) -> None:
        self._cancel = self._running = None
        self._owes_refresh = False
        self._status.end_task("import")
        if self._queue:
            self._start()

    # -- lines -------------------------------------------------------------------------------------

    def _add(self, title: str, plain: str, state: str, *, mode: str = LINK, watched: bool = False) -> int:
        run = ImportRun(next(self._ids), title, plain, state, mode, watched=watched)
        self._publish(ImportsState((run, *self.state.runs)[:KEPT_RUNS]))
        return run.id

    def _run(self, run_id: int) -> ImportRun | None:
        return next((run for run in self.state.runs if run.id == run_id), None)

    def _change(self, run_id: int, **changes: object) -> None:
        runs = tuple(
            replace(run, **changes) if run.id == run_id else run  # type: ignore[arg-type]
            for run in self.state.runs
        )
        self._publish(ImportsState(runs))


class _Reporter:
    """Takes the reports of an import on its thread and passes on as many as a screen can show."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[str, float, int], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._told = float("-inf")
        self._last = ("", 0.0)
        self._series = 0

    def progress(self, phase: str, fraction: float) -> None:
        """Take the progress of the import."""
        again = phase != self._last[0]
        self._last = (phase, fraction)
        self._pass_on(again)

    def on_series(self, _: SeriesSummary) -> None:
        """Count a series that is in the library now."""
        self._series += 1
        self._pass_on(self._series == 1)

    def _pass_on(self, at_once: bool) -> None:
        now = self._clock()
        if at_once or now - self._told >= POST_S:
            self._told = now
            self._tell(*self._last, self._series)


def series_so_far(series: int) -> str:
    """Return ``"14 series"``, or nothing before the first."""
    return f"{series} series" if series else ""


def title_of(paths: Sequence[Path]) -> str:
    """Return what a line calls the files: the name of one, the number of many."""
    return paths[0].name or str(paths[0]) if len(paths) == 1 else f"{len(paths)} files and folders"


def plain_title_of(paths: Sequence[Path]) -> str:
    """Return the same without any name, since people name files after patients."""
    if len(paths) > 1:
        return title_of(paths)
    ending = paths[0].suffix.casefold()
    return {".zip": "A ZIP archive", "": "A folder or file"}.get(ending, f"A {ending} file")


def masked_file(file: str) -> str:
    """Return the name of a file with all but its ending hidden."""
    ending = Path(file).suffix
    return f"•••••{ending}" if len(ending) <= 7 else "•••••"


def locked_archives(report: ImportReport, order: ImportOrder | None) -> tuple[Path, ...]:
    """Return the ZIPs of an import that need a password, each once."""
    if order is None:
        return ()
    found: dict[Path, None] = {}
    for skipped in report.skipped:
        if skipped.code in ENCRYPTED:
            # A member is named "archive:member"; an archive that was given itself may have any ending.
            given = [path for path in order.paths if skipped.file.startswith(f"{path}:")]
            inside = _MEMBER.match(skipped.file)
            found[given[0] if given else Path(inside[1] if inside else skipped.file)] = None
    return tuple(found)


def report_in_words(report: ImportReport) -> tuple[str, str, str]:
    """Return level, sentence and remedy for an import's report."""
    series = sum(len(study.series) for study in report.studies)
    parts = [f"Imported {count_in_words(len(report.studies), 'study', 'studies')}, {series} series"]
    if report.already_present:
        parts.append(f"{count_in_words(report.already_present, 'file was', 'files were')} there already")
    if report.skipped:
        parts.append(f"{count_in_words(len(report.skipped), 'file', 'files')} skipped")
    words = ", ".join(parts) + f" ({report.seconds:.1f}\u00a0s)."
    why = "The Import panel says why, file by file." if report.skipped else ""
    if not report.studies:
        remedy = "Choose a folder with DICOM, NIfTI, NRRD, PNG, JPEG or TIFF files, or a ZIP of them."
        level = "info" if report.already_present else "caution"
        return level, words, " ".join(part for part in (remedy, why) if part)
    return ("caution" if report.skipped else "done"), words, why
