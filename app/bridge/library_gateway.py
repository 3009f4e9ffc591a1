"""The desk's part of the gateway: imports, their issues, tags, retention, backup; on worker threads."""

from __future__ import annotations

import contextlib
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.presenters.ports_library import (
    COPY,
    FIXED,
    NETWORK,
    REMOVABLE,
    UNKNOWN,
    ConflictRow,
    ImportOrder,
    OnSeries,
    OpenedTags,
    QuarantineRow,
    RemovalRow,
)
from core.domain.browse import BackupInfo, LibraryCheck, RemovedReport, RetentionRule, StudyLine
from core.domain.errors import EnvironmentFault
from core.domain.progress import CancelToken, Progress
from core.domain.study import ImportReport

if TYPE_CHECKING:
    from core.jobs.import_process import ImportProcess
    from core.services.engine import Engine
    from core.services.watch_folders import FolderWatch

SAMPLE_SEED = 7
SAMPLE_KIND = "ct-thorax"
WATCH_S = 5.0
_MAKING = threading.Lock()
_LEAST_LASTING = (REMOVABLE, NETWORK, UNKNOWN, FIXED)
_REMOVED_BY_HAND = "removed by the reader"


class LibraryGateway(ABC):
    """Calls the services of the desk; ``engine`` comes from the class that inherits this one."""

    _importer: ImportProcess | None = None
    _watch: FolderWatch | None = None

    _failed: BaseException | None = None

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The opened engine."""

    @abstractmethod
    def open(self) -> tuple[str, ...]:
        """Open the engine."""

    @abstractmethod
    def close(self) -> None:
        """Close the engine."""

    # -- imports -----------------------------------------------------------------------------------

    def import_paths(
        self, order: ImportOrder, progress: Progress, cancel: CancelToken, on_series: OnSeries
    ) -> ImportReport:
        """Bring files into the library, in the process that imports."""
        return self._import_process().run(
            order.paths, order.mode, progress, cancel, on_series, order.password
        )

    def import_sample(self, progress: Progress, cancel: CancelToken) -> ImportReport:
        """Make the sample in the work folder and copy it into the library, since the work folder is emptied."""
        from core.services import make_phantom

        progress("drawing anatomy", 0.0)
        folder = self.engine.paths.temp / "instances" / "sample"
        try:
            make_phantom.make_phantom(SAMPLE_KIND, folder, seed=SAMPLE_SEED)
            cancel.raise_if_cancelled()
            return self._import_process().run([folder / "images"], COPY, progress, cancel)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _import_process(self) -> ImportProcess:
        from core.jobs.import_process import ImportProcess

        engine = self.engine
        with _MAKING:
            if self._importer is None:
                self._importer = ImportProcess(engine.paths.root, engine.actor)
            return self._importer

    def start_import_process(self) -> None:
        """Let the process that imports load its libraries, so that the first import begins at once."""
        # The first import says what keeps it from starting.
        with contextlib.suppress(EnvironmentFault):
            self._import_process().start()

    def medium_of(self, paths: Sequence[Path]) -> str:
        """Return the least lasting medium of some paths."""
        from core.services.removable import medium_of

        found = {str(medium_of(path)) for path in paths}
        return next((medium for medium in _LEAST_LASTING if medium in found), UNKNOWN)

    def conflicts(self) -> list[ConflictRow]:
        """Return the conflicts that wait for a decision."""
        from core.services import import_issues

        return [
            ConflictRow(c.conflict_id, c.study_uid, str(c.library_file), str(c.other_file), c.seen_utc)
            for c in import_issues.list_conflicts(self.engine)
        ]

    def resolve_conflict(self, conflict_id: str, keep: str) -> None:
        """Keep one of two files."""
        from core.services import import_issues

        import_issues.resolve_conflict(self.engine, conflict_id, keep)

    def quarantine(self) -> list[QuarantineRow]:
        """Return the files that were set aside."""
        from core.services import import_issues

        return [
            QuarantineRow(q.file_id, str(q.file), q.code, q.message, q.seen_utc, q.kept)
            for q in import_issues.list_quarantine(self.engine)
        ]

    def retry_quarantine(self, file_ids: Sequence[str]) -> ImportReport:
        """Try again."""
        from core.services import import_issues

        return import_issues.retry_quarantine(self.engine, file_ids)

    def forget_quarantine(self, file_ids: Sequence[str]) -> None:
        """Forget."""
        from core.services import import_issues

        import_issues.forget_quarantine(self.engine, file_ids)

    def watched_folders(self) -> tuple[Path, ...]:
        """Return the watched folders of the settings."""
        return tuple(Path(folder) for folder in self.engine.settings.watched_folders)

    def set_watched_folders(self, folders: Sequence[Path]) -> tuple[Path, ...]:
        """Keep the watched folders."""
        wanted = tuple(str(folder) for folder in dict.fromkeys(folders))
        self.engine.save_settings(self.engine.settings.model_copy(update={"watched_folders": wanted}))
        return self.watched_folders()

    def watch(self, folders: Sequence[Path], take: Callable[[Sequence[Path]], None]) -> None:
        """Watch these folders instead of the former ones."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if folders:
            from core.services.watch_folders import FolderWatch

            self._watch = FolderWatch(folders, WATCH_S, take)
            self._watch.start()

    def close_library(self) -> None:
        """End what runs beside the window; before the engine is closed."""
        self.watch((), lambda _: None)
        if self._importer is not None:
            self._importer.close()

    # -- elements ----------------------------------------------------------------------------------

    def open_tags(self, series_key: str, position: int, compare: int = 0) -> OpenedTags:
        """Read the elements of an instance."""
        from core.services import read_tags

        opened = read_tags.open_instance_tags(self.engine, series_key, position, compare)
        return OpenedTags(opened.document, opened.position, opened.total, opened.frames, opened.compared_with)

    # -- order in the library ----------------------------------------------------------------------

    def retention_rules(self) -> Sequence[RetentionRule]:
        """Return the retention rules."""
        from core.services import retention

        return retention.rules(self.engine)

    def save_rule(self, rule: RetentionRule) -> None:
        """Keep a rule."""
        from core.services import retention

        retention.save_rule(self.engine, rule)

    def delete_rule(self, name: str) -> None:
        """Drop a rule."""
        from core.services import retention

        retention.delete_rule(self.engine, name)

    def preview_rule(self, rule: RetentionRule) -> Sequence[StudyLine]:
        """Return the studies that a rule would remove."""
        from core.services import retention

        return retention.preview(self.engine, rule)

    def apply_rule(self, rule: RetentionRule) -> RemovedReport:
        """Remove the studies of a rule."""
        from core.services import retention

        return retention.apply(self.engine, rule)

    def preview_removal(self, study_uids: Sequence[str]) -> list[RemovalRow]:
        """Count what would go and what would stay."""
        from core.services import browse, list_studies, results

        own = self.engine.paths.instances
        rows = []
        for study_uid in study_uids:
            files = [
                instance.file
                for series in browse.series_of(self.engine, study_uid)
                for instance in list_studies.get_series(self.engine, series.key)[1]
            ]
            copied = sum(file.is_relative_to(own) for file in files)
            made = len(results.results_for(self.engine, study_uid))
            rows.append(RemovalRow(study_uid, len(files), copied, made))
        return rows

    def remove_studies(self, study_uids: Sequence[str]) -> RemovedReport:
        """Remove studies."""
        from core.services import remove_study

        return remove_study.remove_studies(self.engine, study_uids, _REMOVED_BY_HAND)

    def backups(self) -> Sequence[BackupInfo]:
        """Return the backups."""
        from core.services import backup

        return backup.list_backups(self.engine)

    def make_backup(self) -> Path:
        """Write a backup."""
        from core.services import backup

        return Path(backup.make_backup(self.engine, None))

    def restore_backup(self, file: Path) -> None:
        """Close the library, put the backup in its place, and refuse everything until the next start."""
        from core.services import backup

        home = self.engine.paths.root
        self.close()
        try:
            backup.restore_backup(home, file)
        except BaseException:
            self._importer = None
            self.open()
            raise
        self._failed = EnvironmentFault(
            "library.restored", "A backup was restored.", "Start the program again to work with it."
        )

    def daily_backup(self) -> Path | None:
        """Make the backup of the day."""
        from core.services import backup

        return backup.daily_backup(self.engine)

    def full_check_due(self) -> bool:
        """Whether a full check is due."""
        from core.services import check_library

        return check_library.full_check_due(self.engine)

    def check_library(
        self, full: bool, progress: Progress, cancel: CancelToken, *, linked: bool = True
    ) -> LibraryCheck:
        """Check the library."""
        from core.services import check_library

        return check_library.check_library(
            self.engine, full=full, linked=linked, progress=progress, cancel=cancel
        )
