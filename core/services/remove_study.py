"""Takes studies out of the library: rows, copies, thumbnails, results and heat maps. The audit trail stays.

The rows go first, in one transaction with the audit records; then the files. After a crash in between the files are
orphans, which the integrity check finds and deletes on request. Linked files are never touched: the library only
forgets where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.domain.audit import AuditCode
from core.domain.browse import RemovedReport
from core.domain.errors import InputError
from core.library.unit_of_work import UnitOfWork
from core.services.engine import Engine
from core.services.library_files import (
    Deleted,
    delete_copies,
    delete_file,
    delete_folder,
    is_ours,
    thumbnail_file,
)
from core.services.list_studies import unknown_study

REASONS = (
    "duplicate",
    "wrong-import",
    "wrong-patient",
    "patient-request",
    "no-longer-needed",
    "retention",
    "removed-before",
)
"""Reasons that the audit trail names; any other text is only noted as given, because it may name somebody."""

_AT_ONCE = 100
_BUSY_STATES = frozenset({"queued", "running", "cancelling"})


@dataclass(frozen=True)
class _Belongings:
    """What hangs on a study."""

    series: tuple[str, ...]
    files: tuple[Path, ...]
    results: tuple[str, ...]
    conflicting: tuple[Path, ...]
    cases: tuple[tuple[str, str], ...] = ()
    """Training and case that hold a copy of one of its series."""


def remove_studies(engine: Engine, study_uids: Sequence[str], reason: str) -> RemovedReport:
    """Remove studies for good.

    Parameters
    ----------
    reason : str
        Why; must not be empty. One of ``REASONS`` enters the audit trail by name.

    Raises
    ------
    InputError
        If no reason is given (``remove.no_reason``), a study isn't in the library (``library.unknown_study``), or a
        job works on one (``remove.in_use``) or a training learns from it (``remove.in_training``); nothing is removed
        then.
    AppError
        If the library can't be written; hundreds of studies go in several steps, and steps done before stay done.
    """
    if not reason.strip():
        raise InputError(
            "remove.no_reason", "No reason was given for the removal.", f"Give one, such as {REASONS[0]}."
        )
    wanted = list(dict.fromkeys(study_uids))
    with engine.unit_of_work(writes=False) as uow:
        if any(not uow.studies.exists(uid) for uid in wanted):
            raise unknown_study()
    report = RemovedReport()
    for start in range(0, len(wanted), _AT_ONCE):
        report = _sum(report, _remove(engine, wanted[start : start + _AT_ONCE], reason.strip()))
    # What was deleted still stands in the write-ahead log; this empties it.
    engine.library.checkpoint()
    return report


def _remove(engine: Engine, study_uids: Sequence[str], reason: str) -> RemovedReport:
    with engine.unit_of_work() as uow:
        belongings = {uid: _belongings(uow, uid) for uid in study_uids if uow.studies.exists(uid)}
        _require_no_training(uow, belongings)
        _remove_jobs(uow, belongings)
        uow.studies.remove(belongings)
        for uid, had in belongings.items():
            _record(engine, uid, had, reason)
    deleted, copies = Deleted(), Deleted()
    for had in belongings.values():
        copies += delete_copies(engine, (*had.files, *had.conflicting))
        for key in had.series:
            deleted += delete_file(thumbnail_file(engine, key))
        for result_id in had.results:
            deleted += delete_folder(engine.paths.results / result_id)
        for run_id, case_id in had.cases:
            deleted += delete_folder(engine.paths.training / run_id / "cases" / case_id)
            # What was prepared of all cases; it is made again when it is needed.
            deleted += delete_folder(engine.paths.training / run_id / "run" / "cache")
    linked = sum(not is_ours(engine, file) for had in belongings.values() for file in had.files)
    return RemovedReport(
        studies=len(belongings),
        series=sum(len(had.series) for had in belongings.values()),
        instances=sum(len(had.files) for had in belongings.values()),
        results=sum(len(had.results) for had in belongings.values()),
        copies_deleted=copies.files,
        files_left=linked,
        freed_bytes=copies.freed_bytes + deleted.freed_bytes,
        undeleted=copies.undeleted + deleted.undeleted,
    )


def _belongings(uow: UnitOfWork, study_uid: str) -> _Belongings:
    one = [study_uid]
    return _Belongings(
        tuple(uow.series.keys_of_studies(one)),
        tuple(stored.instance.file for stored in uow.instances.of_studies(one)),
        tuple(uow.results.ids_of_studies(one)),
        tuple(record.file for record in uow.conflicts.of_studies(one)),
        tuple((record.run_id, record.case_id) for record in uow.trainings.cases_of_study(study_uid)),
    )


def _remove_jobs(uow: UnitOfWork, belongings: dict[str, _Belongings]) -> None:
    """Delete the jobs that name the studies; refuse when one of them isn't done."""
    names = {uid.partition("#")[0] for had in belongings.values() for uid in had.series}
    names.update(*(had.series for had in belongings.values()), *(had.results for had in belongings.values()))
    names.update(belongings)
    jobs = uow.jobs.naming(names)
    if _BUSY_STATES & set(jobs.values()):
        raise InputError(
            "remove.in_use",
            "A model is working on this study; nothing was removed.",
            "Wait until its job is done, or cancel it.",
        )
    uow.jobs.remove(jobs)


def _require_no_training(uow: UnitOfWork, belongings: dict[str, _Belongings]) -> None:
    """Refuse while a training that isn't over would lose a case."""
    used = {run_id for had in belongings.values() for run_id, _ in had.cases}
    runs = (uow.trainings.get(run_id) for run_id in used)
    if any(run is not None and not run.is_final for run in runs):
        raise InputError(
            "remove.in_training",
            "A training learns from this study; nothing was removed.",
            "Wait until the training is over, or cancel it.",
        )


def _record(engine: Engine, study_uid: str, had: _Belongings, reason: str) -> None:
    engine.record(
        AuditCode.STUDY_DELETED,
        action="D",
        object_kind="study",
        object_ref=study_uid,
        n_objects=len(had.files),
        detail={
            "series": len(had.series),
            "instances": len(had.files),
            "results": len(had.results),
            "copies": sum(is_ours(engine, file) for file in had.files),
            "kind": reason.lower() if reason.lower() in REASONS else "other",
            "reason_given": True,
        },
    )


def _sum(one: RemovedReport, other: RemovedReport) -> RemovedReport:
    return replace(
        one,
        **{name: getattr(one, name) + getattr(other, name) for name in RemovedReport.__dataclass_fields__},
    )
