"""What imports left for a person to decide: two files under one UID, and files that are damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.domain.audit import AuditCode
from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import ImportReport, ScannedSeries
from core.library.files import FileStamp, copied_name
from core.library.repositories.import_issues import ConflictRecord, QuarantineRecord
from core.services.engine import Engine
from core.services.import_batches import with_digests
from core.services.import_files import copy_file
from core.services.import_study import import_paths
from core.services.scan_sources import scan_sources

KEEP = ("library", "new")


@dataclass(frozen=True)
class Conflict:
    """Two files with one SOP Instance UID and different content; the library shows ``library_file``."""

    conflict_id: str
    sop_instance_uid: str
    library_file: Path
    other_file: Path
    seen_utc: str
    study_uid: str


@dataclass(frozen=True)
class QuarantinedFile:
    """A file that could not be imported; ``kept`` says that ``file`` is the library's own, encrypted copy."""

    file_id: str
    file: Path
    code: str
    message: str
    seen_utc: str
    kept: bool


def list_conflicts(engine: Engine) -> tuple[Conflict, ...]:
    """Return the conflicts that wait for a decision, the newest first."""
    with engine.unit_of_work(writes=False) as uow:
        records = uow.conflicts.list()
        known = uow.instances.known(record.sop_instance_uid for record in records)
    return tuple(
        Conflict(
            r.conflict_id,
            r.sop_instance_uid,
            known[r.sop_instance_uid].instance.file,
            r.file,
            r.seen_utc,
            r.study_uid,
        )
        for r in records
        if r.sop_instance_uid in known
    )


def resolve_conflict(engine: Engine, conflict_id: str, keep: str = "library") -> None:
    """Decide which of two files the library shows from now on.

    Parameters
    ----------
    keep : str
        ``"library"`` forgets the other file; a copy of it that the library made is deleted. ``"new"`` lets the other
        file take the place; a copy of the former one is deleted. Linked files are never touched.

    Raises
    ------
    InputError
        If there is no such conflict or choice, or the other file doesn't fit the series
        (``import.conflict_series``).
    EnvironmentFault
        If the other file can't be read any more.
    """
    if keep not in KEEP:
        raise InputError("import.conflict_choice", "There is no such choice.", "Keep library or new.")
    with engine.unit_of_work(writes=False) as uow:
        record = uow.conflicts.get(conflict_id)
        known = {} if record is None else uow.instances.known([record.sop_instance_uid])
    if record is None:
        raise InputError(
            "import.no_conflict", "There is no such conflict any more.", "Look at the list again."
        )
    stored = known.get(record.sop_instance_uid)
    if keep == "library" or stored is None:
        _decide(engine, record, keep)
        _delete_copy(engine, record.file)
        return
    _take_other(engine, record, stored.series_uid, stored.instance.file)


def _take_other(engine: Engine, record: ConflictRecord, series_uid: str, former: Path) -> None:
    """Let the other file of a conflict take the place of the library's one."""
    if not record.file.is_file():
        raise EnvironmentFault(
            "import.conflict_file_gone",
            "The other file can't be reached.",
            "Insert its medium and try again.",
        )
    with engine.unit_of_work(writes=False) as uow:
        members = uow.instances.of_series_uid(series_uid)
    others = [file.instance.file for uid, file in members.items() if uid != record.sop_instance_uid]
    found = scan_sources([*(f for f in others if f.exists()), record.file], engine.paths.temp, children=0)
    parts = [part for part in found.series if part.summary.series_uid == series_uid]
    reached = {ref.sop_instance_uid for part in parts for ref in part.instances}
    if record.sop_instance_uid not in reached or len(reached) < len(members):
        raise InputError(
            "import.conflict_series",
            "The other file belongs to another series, or files of its series are out of reach.",
            "Keep the library's file, or make the whole series reachable and try again.",
        )
    digests = {uid: file.instance.sha256 for uid, file in members.items()}
    digests[record.sop_instance_uid] = record.sha256
    _write_parts(engine, record, series_uid, parts, digests, former)


def _write_parts(
    engine: Engine,
    record: ConflictRecord,
    series_uid: str,
    parts: Sequence[ScannedSeries],
    digests: dict[str, str],
    former: Path,
) -> None:
    instances = engine.paths.instances
    own = record.file.is_relative_to(instances)
    place = record.file
    if own:
        # The copy made for the conflict gets the name that a copy of this UID and content has.
        place = instances / copied_name(f"{record.sop_instance_uid}/{record.sha256}", ".dcm")
        copy_file(record.file, place, sealed=engine.settings.encrypt_copies)
    moved = {record.file: place}
    with engine.unit_of_work() as uow:
        uow.series.remove_series_uid(series_uid)
        for part in (with_digests(part, digests) for part in parts):
            uow.series.put(part.summary, part.source_format)
            refs = [replace(ref, file=moved.get(ref.file, ref.file)) for ref in part.instances]
            uow.instances.put(part.summary.key, [(ref, FileStamp.of(ref.file)) for ref in refs])
        uow.studies.touch(parts[0].summary.study_uid)
        uow.conflicts.remove(record.conflict_id)
        _record(engine, record, "new")
    _delete_copy(engine, former)
    if own and place != record.file:
        _delete_copy(engine, record.file)


def _decide(engine: Engine, record: ConflictRecord, keep: str) -> None:
    with engine.unit_of_work() as uow:
        uow.conflicts.remove(record.conflict_id)
        _record(engine, record, keep)


def _record(engine: Engine, record: ConflictRecord, keep: str) -> None:
    engine.record(
        AuditCode.IMPORT,
        action="U",
        object_kind="study",
        object_ref=record.study_uid,
        n_objects=1,
        detail={"mode": f"conflict: {keep}"},
    )


def list_quarantine(engine: Engine) -> tuple[QuarantinedFile, ...]:
    """Return the files that were set aside, the newest first."""
    with engine.unit_of_work(writes=False) as uow:
        records = uow.quarantine.list()
    return tuple(QuarantinedFile(r.file_id, r.file, r.code, r.message, r.seen_utc, r.kept) for r in records)


def retry_quarantine(
    engine: Engine,
    ids: Sequence[str],
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> ImportReport:
    """Import quarantined files again; those that can be taken now leave the quarantine.

    That a person asks for it is taken as consent to files that begin like a program: their DICOM part alone is used.

    Raises
    ------
    AppError
        As ``import_paths``.
    """
    records = _records(engine, ids)
    there = [record for record in records if record.file.is_file()]
    kept = [record for record in there if record.kept]
    linked = [record for record in there if not record.kept]
    reports = [
        import_paths(
            engine,
            [record.file for record in group],
            mode=mode,
            progress=progress,
            cancel=cancel,
            accept_foreign=True,
        )
        for group, mode in ((kept, "copy"), (linked, "link"))
        if group
    ]
    refused = {skipped.file for report in reports for skipped in report.skipped}
    taken = [record for record in there if str(record.file) not in refused]
    _forget(engine, taken)
    return ImportReport(
        tuple(study for report in reports for study in report.studies),
        sum(report.already_present for report in reports),
        tuple(skipped for report in reports for skipped in report.skipped),
        sum(report.seconds for report in reports),
        {name: sum(r.counts[name] for r in reports) for name in ("instances", "series")},
    )


def forget_quarantine(engine: Engine, ids: Sequence[str]) -> int:
    """Take files off the list; the library's own copies are deleted. Returns how many were on it."""
    records = _records(engine, ids)
    _forget(engine, records)
    return len(records)


def _records(engine: Engine, ids: Sequence[str]) -> list[QuarantineRecord]:
    with engine.unit_of_work(writes=False) as uow:
        found = [uow.quarantine.get(file_id) for file_id in dict.fromkeys(ids)]
    return [record for record in found if record is not None]


def _forget(engine: Engine, records: Sequence[QuarantineRecord]) -> None:
    if not records:
        return
    with engine.unit_of_work() as uow:
        for record in records:
            uow.quarantine.remove(record.file_id)
    for record in records:
        if record.kept:
            _delete_copy(engine, record.file)


def _delete_copy(engine: Engine, file: Path) -> None:
    """Delete a file that is the library's own; a linked one stays."""
    if file.is_relative_to(engine.paths.instances):
        file.unlink(missing_ok=True)
