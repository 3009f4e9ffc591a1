"""What the desk of the library needs from the engine: imports, their issues, tags, retention, backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from core.domain.browse import BackupInfo, LibraryCheck, RemovedReport, RetentionRule, StudyLine
from core.domain.progress import CancelToken, Progress
from core.domain.study import ImportReport, SeriesSummary
from core.domain.tags import TagDocument

OnSeries = Callable[[SeriesSummary], None]
LINK, COPY = "link", "copy"
FIXED, REMOVABLE, NETWORK, UNKNOWN = "fixed", "removable", "network", "unknown"
KEEP_LIBRARY, KEEP_NEW = "library", "new"


@dataclass(frozen=True)
class ImportOrder:
    """What to bring in, and how: ``link`` leaves the files where they are, ``copy`` copies them."""

    paths: tuple[Path, ...]
    mode: str = LINK
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ConflictRow:
    """Two files with one UID and different content; the library shows ``library_file``."""

    conflict_id: str
    study_uid: str
    library_file: str
    other_file: str
    seen_utc: str = ""


@dataclass(frozen=True)
class QuarantineRow:
    """A damaged file that was set aside; ``kept`` says whether the library holds a copy of it."""

    file_id: str
    file: str
    code: str
    message: str
    seen_utc: str = ""
    kept: bool = False


@dataclass(frozen=True)
class RemovalRow:
    """What goes with a study that is removed: its copies and its results; linked files stay."""

    study_uid: str
    instances: int
    copied: int
    results: int = 0

    @property
    def linked(self) -> int:
        """How many files stay where they are."""
        return self.instances - self.copied


@dataclass(frozen=True)
class OpenedTags:
    """The elements of an instance of a series: ``position`` of ``total``, both from the index's order.

    ``compared_with`` is the position of the instance whose differences are marked, or None.
    """

    document: TagDocument
    position: int
    total: int
    frames: int = 1
    compared_with: int | None = None


class LibraryEngine(Protocol):
    """The services behind the desk; every method blocks."""

    def import_paths(
        self, order: ImportOrder, progress: Progress, cancel: CancelToken, on_series: OnSeries
    ) -> ImportReport:
        """Bring files into the library; ``on_series`` is called on the same thread with each series."""

    def import_sample(self, progress: Progress, cancel: CancelToken) -> ImportReport:
        """Make the sample study and bring it into the library."""

    def medium_of(self, paths: Sequence[Path]) -> str:
        """Return on what kind of medium files lie: the least lasting one of them."""

    def conflicts(self) -> list[ConflictRow]:
        """Return the conflicts that wait for a decision."""

    def resolve_conflict(self, conflict_id: str, keep: str) -> None:
        """Keep the library's file (``library``) or take the other one (``new``)."""

    def quarantine(self) -> list[QuarantineRow]:
        """Return the files that were set aside."""

    def retry_quarantine(self, file_ids: Sequence[str]) -> ImportReport:
        """Try to import files again that were set aside."""

    def forget_quarantine(self, file_ids: Sequence[str]) -> None:
        """Take files out of the quarantine without importing them."""

    def watched_folders(self) -> tuple[Path, ...]:
        """Return the watched folders of the settings."""

    def set_watched_folders(self, folders: Sequence[Path]) -> tuple[Path, ...]:
        """Keep the watched folders in the settings and return them."""

    def watch(self, folders: Sequence[Path], take: Callable[[Sequence[Path]], None]) -> None:
        """Look at folders from now on, at none when empty; ``take`` gets new files on a thread of its own."""

    def open_tags(self, series_key: str, position: int, compare: int = 0) -> OpenedTags:
        """Read the elements of an instance; ``compare`` is how far off the instance to compare with lies, or 0."""

    def retention_rules(self) -> Sequence[RetentionRule]:
        """Return the retention rules."""

    def save_rule(self, rule: RetentionRule) -> None:
        """Keep a rule under its name."""

    def delete_rule(self, name: str) -> None:
        """Drop a rule; it removes no study."""

    def preview_rule(self, rule: RetentionRule) -> Sequence[StudyLine]:
        """Return the studies that a rule would remove now."""

    def apply_rule(self, rule: RetentionRule) -> RemovedReport:
        """Remove the studies of a rule."""

    def preview_removal(self, study_uids: Sequence[str]) -> list[RemovalRow]:
        """Return what removing studies would delete."""

    def remove_studies(self, study_uids: Sequence[str]) -> RemovedReport:
        """Remove studies: copies, results and thumbnails go, linked files and the audit trail stay."""

    def backups(self) -> Sequence[BackupInfo]:
        """Return the backups, newest first."""

    def make_backup(self) -> Path:
        """Write a backup."""

    def restore_backup(self, file: Path) -> None:
        """Keep a backup ready to become the library of the next start."""

    def daily_backup(self) -> Path | None:
        """Make the backup of the day unless there is one."""

    def full_check_due(self) -> bool:
        """Whether it is a week since every file was compared with its digest."""

    def check_library(
        self, full: bool, progress: Progress, cancel: CancelToken, *, linked: bool = True
    ) -> LibraryCheck:
        """Look whether index, files and audit trail belong together; ``linked`` files are read too if it is full."""
