"""The desk's side of the engine in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.presenters.ports_library import (
    ConflictRow,
    ImportOrder,
    OnSeries,
    OpenedTags,
    QuarantineRow,
    RemovalRow,
)
from core.domain.browse import BackupInfo, LibraryCheck, RemovedReport, RetentionRule, StudyLine
from core.domain.progress import CancelToken, Progress
from core.domain.study import ImportReport, PatientIdentity, ReadStatus, SkippedFile, StudySummary
from core.domain.tags import TagLine, TagPath

RULE = RetentionRule("Old and reviewed", 365)


def study_line(uid: str = "t1") -> StudyLine:
    """Return a line of the worklist."""
    identity = PatientIdentity("Muster^Erika", "PID-1", "19700101", "F")
    return StudyLine(
        uid, "P-1", identity, "CT thorax", "2024-01", ("CT",), 2, 48, ReadStatus.REVIEWED, (), 0, False,
        "2024-01-02T03:04:05+00:00",
    )  # fmt: skip


@dataclass
class FakeTagDocument:
    """Some elements: name, date, matrix, a sequence with two items, a private block."""

    lines_at: dict[TagPath, tuple[TagLine, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lines_at:
            self.lines_at = _some_elements()

    def count(self, path: TagPath = ()) -> int:
        return len(self.lines_at.get(path, ()))

    def lines(self, path: TagPath, start: int, stop: int) -> tuple[TagLine, ...]:
        return self.lines_at.get(path, ())[start:stop]

    def search(self, query: str, limit: int, identity_hidden: bool = False) -> tuple[TagLine, ...]:
        found = []
        for lines in self.lines_at.values():
            for line in lines:
                hidden = identity_hidden and line.identifies
                text = f"{line.tag} {line.keyword} {line.name} {line.vr} {'' if hidden else line.value}"
                if query.casefold() in text.casefold():
                    found.append(line)
        return tuple(found[:limit])


def _some_elements() -> dict[TagPath, tuple[TagLine, ...]]:
    name, rows, sequence, private = 0x00100010, 0x00280010, 0x00081140, 0x00091001
    uid = 0x00081155
    return {
        (): (
            TagLine((sequence,), "(0008,1140)", "ReferencedImageSequence", "Referenced Image Sequence",
                    "SQ", "2 items", 2),
            TagLine((private,), "(0009,1001)", "", "[Shim]", "LO", "left 3", creator="VENDOR HEADER",
                    identifies=True),
            TagLine((name,), "(0010,0010)", "PatientName", "Patient's Name", "PN", "山田^太郎",
                    identifies=True),
            TagLine((rows,), "(0028,0010)", "Rows", "Rows", "US", "512", differs=True),
        ),
        (sequence,): tuple(
            TagLine((sequence, n), "", "", f"Item {n + 1}", "", "1 element", 1) for n in range(2)
        ),
        **{
            (sequence, n): (
                TagLine((sequence, n, uid), "(0008,1155)", "ReferencedSOPInstanceUID",
                        "Referenced SOP Instance UID", "UI", f"1.2.3.{n}",
                        where=f"Referenced Image Sequence › Item {n + 1}"),
            )
            for n in range(2)
        },
    }  # fmt: skip


class FakeLibraryEngine:
    """Part of ``FakeReviewEngine``; what it is told stands in ``calls``, what it answers in its fields."""

    studies: list[StudySummary]

    def _note(self, name: str, *arguments: Any) -> None:
        raise NotImplementedError

    def prepare_library(self) -> None:
        """Begin with an empty desk."""
        self.medium = "fixed"
        self.skipped: tuple[SkippedFile, ...] = ()
        self.conflict_rows: list[ConflictRow] = []
        self.quarantine_rows: list[QuarantineRow] = []
        self.folders: tuple[Path, ...] = ()
        self.take: Callable[[Sequence[Path]], None] = lambda _: None
        self.document = FakeTagDocument()
        self.instances = 24
        self.rules: list[RetentionRule] = []
        self.due: list[StudyLine] = []
        self.backup_rows: list[BackupInfo] = []
        self.library_check = LibraryCheck(True, studies=1, instances=24, events=12)
        self.full_due = False

    def import_paths(
        self, order: ImportOrder, progress: Progress, cancel: CancelToken, on_series: OnSeries
    ) -> ImportReport:
        self._note("import_paths", order.paths, order.mode, order.password)
        progress("reading headers", 0.5)
        for study in self.studies:
            for series in study.series:
                on_series(series)
        cancel.raise_if_cancelled()
        return ImportReport(tuple(self.studies), 0, self.skipped, 0.1, {"instances": 24})

    def import_sample(self, progress: Progress, cancel: CancelToken) -> ImportReport:
        return self.import_paths(ImportOrder(()), progress, cancel, lambda _: None)

    def medium_of(self, paths: Sequence[Path]) -> str:
        return self.medium

    def conflicts(self) -> list[ConflictRow]:
        self._note("conflicts")
        return list(self.conflict_rows)

    def resolve_conflict(self, conflict_id: str, keep: str) -> None:
        self._note("resolve_conflict", conflict_id, keep)
        self.conflict_rows = [row for row in self.conflict_rows if row.conflict_id != conflict_id]

    def quarantine(self) -> list[QuarantineRow]:
        self._note("quarantine")
        return list(self.quarantine_rows)

    def retry_quarantine(self, file_ids: Sequence[str]) -> ImportReport:
        self._note("retry_quarantine", tuple(file_ids))
        return ImportReport((), 0, (), 0.1)

    def forget_quarantine(self, file_ids: Sequence[str]) -> None:
        self._note("forget_quarantine", tuple(file_ids))
        self.quarantine_rows = [row for row in self.quarantine_rows if row.file_id not in file_ids]

    def watched_folders(self) -> tuple[Path, ...]:
        return self.folders

    def set_watched_folders(self, folders: Sequence[Path]) -> tuple[Path, ...]:
        self._note("set_watched_folders", tuple(folders))
        self.folders = tuple(folders)
        return self.folders

    def watch(self, folders: Sequence[Path], take: Callable[[Sequence[Path]], None]) -> None:
        self._note("watch", tuple(folders))
        self.take = take

    def open_tags(self, series_key: str, position: int, compare: int = 0) -> OpenedTags:
        self._note("open_tags", series_key, position, compare)
        place = max(0, min(position, self.instances - 1))
        beside = place + compare if compare and 0 <= place + compare < self.instances else None
        return OpenedTags(self.document, place, self.instances, compared_with=beside)

    def retention_rules(self) -> list[RetentionRule]:
        return list(self.rules)

    def save_rule(self, rule: RetentionRule) -> None:
        self._note("save_rule", rule)
        self.rules = [*(r for r in self.rules if r.name != rule.name), rule]

    def delete_rule(self, name: str) -> None:
        self._note("delete_rule", name)
        self.rules = [rule for rule in self.rules if rule.name != name]

    def preview_rule(self, rule: RetentionRule) -> list[StudyLine]:
        self._note("preview_rule", rule.name)
        return list(self.due)

    def apply_rule(self, rule: RetentionRule) -> RemovedReport:
        self._note("apply_rule", rule.name)
        return RemovedReport(len(self.due), 4, 48, 1, copies_deleted=40, files_left=8, freed_bytes=20_000_000)

    def preview_removal(self, study_uids: Sequence[str]) -> list[RemovalRow]:
        return [RemovalRow(uid, 48, 40, 1) for uid in study_uids]

    def remove_studies(self, study_uids: Sequence[str]) -> RemovedReport:
        self._note("remove_studies", tuple(study_uids))
        self.studies = [study for study in self.studies if study.study_uid not in study_uids]
        return RemovedReport(
            len(study_uids), 2, 48, 1, copies_deleted=40, files_left=8, freed_bytes=20_000_000
        )

    def backups(self) -> list[BackupInfo]:
        return list(self.backup_rows)

    def make_backup(self) -> Path:
        self._note("make_backup")
        made = BackupInfo(Path("/b/1.backup"), "2026-01-02T03:04:05+00:00", 1_500_000, "0002", "manual")
        self.backup_rows = [made, *self.backup_rows]
        return made.file

    def restore_backup(self, file: Path) -> None:
        self._note("restore_backup", file)

    def daily_backup(self) -> Path | None:
        self._note("daily_backup")
        return None

    def full_check_due(self) -> bool:
        return self.full_due

    def check_library(
        self, full: bool, progress: Progress, cancel: CancelToken, *, linked: bool = True
    ) -> LibraryCheck:
        self._note("check_library", full)
        progress("comparing files", 0.5)
        cancel.raise_if_cancelled()
        return self.library_check
