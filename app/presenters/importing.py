"""Bringing files in: in the background, with progress, cancel and a list of what was skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import ReviewEngine, Tasks
from app.presenters.status import StatusPresenter
from app.presenters.wording import count_in_words
from core.domain.errors import AppError
from core.domain.progress import CancelToken, Progress
from core.domain.study import ImportReport

_LISTED = 8


class ImportPresenter:
    """Runs one import after the other; ``imported`` is told the studies when one is done."""

    def __init__(
        self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter, status: StatusPresenter
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._status = status
        self._waiting: list[tuple[str, Callable[[Progress, CancelToken], ImportReport]]] = []
        self._cancel: CancelToken | None = None
        self.imported: Callable[[ImportReport], None] = lambda _: None

    @property
    def busy(self) -> bool:
        """Whether an import runs."""
        return self._cancel is not None

    def import_paths(self, paths: Sequence[Path]) -> None:
        """Import files and folders."""
        if paths:
            kept = tuple(paths)
            self._enqueue(
                "Importing", lambda progress, cancel: self._engine.import_paths(kept, progress, cancel)
            )

    def import_sample(self) -> None:
        """Make the sample study and import it."""
        self._enqueue("Making the sample", self._engine.import_sample)

    def cancel(self) -> None:
        """Stop the import that runs and drop those that wait; what is in the library already stays."""
        self._waiting.clear()
        if self._cancel is not None:
            self._cancel.cancel()

    def _enqueue(self, title: str, work: Callable[[Progress, CancelToken], ImportReport]) -> None:
        self._waiting.append((title, work))
        if not self.busy:
            self._start()

    def _start(self) -> None:
        title, work = self._waiting.pop(0)
        cancel = CancelToken()
        self._cancel = cancel
        self._status.set_task("import", f"{title}…", 0.0)

        def progress(phase: str, fraction: float) -> None:
            self._tasks.post(lambda: self._on_progress(cancel, f"{title} · {phase}", fraction))

        self._tasks.io(lambda: work(progress, cancel), self._done, self._failed)

    def _on_progress(self, cancel: CancelToken, words: str, fraction: float) -> None:
        if cancel is self._cancel:
            self._status.set_task("import", words, fraction)

    def _done(self, report: ImportReport) -> None:
        self._end()
        level, what, remedy, details = report_in_words(report)
        self._notices.say(level, what, remedy, details)
        self.imported(report)

    def _failed(self, error: AppError) -> None:
        self._end()
        self._notices.report(error)

    def _end(self) -> None:
        self._cancel = None
        self._status.end_task("import")
        if self._waiting:
            self._start()


def report_in_words(report: ImportReport) -> tuple[str, str, str, tuple[str, ...]]:
    """Return level, sentence, remedy and details for an import's report."""
    series = sum(len(study.series) for study in report.studies)
    parts = [f"Imported {count_in_words(len(report.studies), 'study', 'studies')}, {series} series"]
    if report.already_present:
        parts.append(f"{count_in_words(report.already_present, 'file was', 'files were')} there already")
    if report.skipped:
        parts.append(f"{count_in_words(len(report.skipped), 'file', 'files')} skipped")
    details = tuple(f"{Path(skipped.file).name}: {skipped.message}" for skipped in report.skipped[:_LISTED])
    if len(report.skipped) > _LISTED:
        details = (*details, f"… and {len(report.skipped) - _LISTED} more")
    words = ", ".join(parts) + f" ({report.seconds:.1f}\u00a0s)."
    if not report.studies:
        remedy = "Choose a folder with DICOM, NIfTI, PNG, JPEG or TIFF files, or a ZIP of them."
        return ("info" if report.already_present else "caution"), words, remedy, details
    return ("caution" if report.skipped else "done"), words, "", details
