"""What the browser shows and asks for, and what keeping a library in order deals with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from core.domain.study import PatientIdentity, ReadStatus


@dataclass(frozen=True)
class StudyFilter:
    """Which studies to list; an empty field doesn't narrow.

    Attributes
    ----------
    text : str
        Words that must all occur, each anywhere in the metadata or in name, ID or accession number.
    modalities, statuses, tags : tuple of str
        A study matches when it has one of each; ``statuses`` are values of ``ReadStatus``.
    since, until : str
        Months ``YYYY-MM``, both included; the index doesn't know the day. A study without a date has none.
    waiting_only : bool
        Only studies with results that wait for a verdict.
    imported_within_days : int or None
        Only studies that came in that many days ago or later, 0 being today; None doesn't narrow.
    """

    text: str = ""
    modalities: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    waiting_only: bool = False
    imported_within_days: int | None = None


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study as a line of the worklist; its series are read when it is unfolded.

    Attributes
    ----------
    patient_key : str
        The patient's pseudonym, the same for all studies of the patient.
    identity : PatientIdentity
        For the screen only.
    study_date : str
        ``YYYY-MM`` or empty.
    modalities : tuple of str
        Sorted.
    waiting : int
        Results with findings that have no verdict yet.
    has_issues : bool
        Whether something about a series must be known before relying on it.
    body_parts : tuple of str
        Sorted, as the files name them.
    """

    study_uid: str
    patient_key: str
    identity: PatientIdentity
    description: str
    study_date: str
    modalities: tuple[str, ...]
    series_count: int
    instance_count: int
    status: ReadStatus
    tags: tuple[str, ...]
    waiting: int
    has_issues: bool
    imported_utc: str
    body_parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedFilter:
    """A filter under a name; ``filter_id`` stays the same when a filter of that name is saved again."""

    filter_id: str
    name: str
    filter: StudyFilter


@dataclass(frozen=True)
class RemovedReport:
    """What a removal took away. ``files_left`` counts linked files, which are never touched.

    ``undeleted`` counts files of ours that the system didn't let us delete; the integrity check lists them.
    """

    studies: int = 0
    series: int = 0
    instances: int = 0
    results: int = 0
    copies_deleted: int = 0
    files_left: int = 0
    freed_bytes: int = 0
    undeleted: int = 0


@dataclass(frozen=True)
class RetentionRule:
    """When a study leaves the library. Nothing is removed unless somebody applies the rule.

    Attributes
    ----------
    name : str
        What the rule is called; free of identity.
    older_than_days : int
        Days since the import, at least 1.
    statuses : tuple of str
        Only studies of these reading states; all when empty.
    tags_kept : tuple of str
        Studies with one of these tags stay.
    copies_only : bool
        Only studies of which the library holds copies: removing linked studies frees no space.
    keep_waiting : bool
        Studies with results that wait for a verdict stay.
    """

    name: str
    older_than_days: int
    statuses: tuple[str, ...] = (ReadStatus.REVIEWED.value,)
    tags_kept: tuple[str, ...] = ()
    copies_only: bool = False
    keep_waiting: bool = True


@dataclass(frozen=True)
class BackupInfo:
    """One backup. ``made_utc`` is ISO 8601; ``kind`` is ``"manual"``, ``"daily"`` or ``"migration"``."""

    file: Path
    made_utc: str
    size_bytes: int
    schema: str
    kind: str


@dataclass(frozen=True)
class RestoredLibrary:
    """What a restore did.

    Attributes
    ----------
    replaced : Path or None
        The former library, kept beside the restored one; None if there was none.
    missing_files : int
        Files of the restored studies that aren't where they were.
    not_in_backup : int
        Studies that came into the library after the backup: import them again.
    removed_again : int
        Studies of the backup that had been removed since, and were removed once more.
    """

    restored: Path
    replaced: Path | None
    studies: int
    missing_files: int
    not_in_backup: int = 0
    removed_again: int = 0


@dataclass(frozen=True)
class CheckFinding:
    """Something that isn't as it should be; ``count`` is how often. The message holds no identity."""

    code: str
    message: str
    remedy: str
    count: int = 1
    is_fault: bool = True


@dataclass(frozen=True)
class LibraryCheck:
    """Outcome of an integrity check.

    Attributes
    ----------
    ok : bool
        No finding is a fault; orphans and absent media are findings but no faults.
    findings : tuple of CheckFinding
        What was found, the gravest first.
    missing_files : tuple of Path
        Files of the library's instances that aren't where they were, for the screen only; the first thousand.
    orphans : tuple of Path
        Files in the library's own folders that belong to no study; the first thousand.
    full : bool
        Whether every file was compared with its digest and the whole audit chain was read.
    """

    ok: bool
    findings: tuple[CheckFinding, ...] = ()
    missing_files: tuple[Path, ...] = ()
    orphans: tuple[Path, ...] = ()
    studies: int = 0
    instances: int = 0
    events: int = 0
    full: bool = False
    seconds: float = field(default=0.0, compare=False)
