"""Checks the library: pages, seals, sums, audit trail, and whether the files are there that it speaks of.

Nothing is changed by a check. Orphans, files of ours that nothing refers to any more (a crash between the removal of
a study and of its files leaves them), are deleted by ``delete_orphans`` alone.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from core.config.atomic import PART_PREFIX
from core.domain.audit import AuditCode, AuditOutcome
from core.domain.browse import CheckFinding, LibraryCheck
from core.domain.errors import AppError, SafetyError
from core.domain.progress import CancelToken, Progress, no_progress
from core.library.files import FileStamp, StoredFile, file_sha256
from core.library.unit_of_work import UnitOfWork
from core.services import verify_audit
from core.services.backup import list_backups
from core.services.engine import Engine
from core.services.library_files import (
    Deleted,
    delete_copies,
    delete_file,
    delete_folder,
    files_below,
    is_ours,
    thumbnail_file,
)

MOST_LISTED = 1000
SAMPLE = 500
"""Seals that a quick check opens."""
FULL_EVERY = timedelta(days=7)
_CHECKS_LOOKED_AT = 1000

_WRONG_SUMS = """
SELECT count(*) FROM study LEFT JOIN
  (SELECT study_uid, count(*) AS n, sum(instances) AS files FROM series GROUP BY study_uid) AS summed
  ON summed.study_uid = study.study_uid
WHERE series_count <> coalesce(summed.n, 0) OR instance_count <> coalesce(summed.files, 0)
"""
_WRONG_WORDS = """
SELECT (SELECT count(*) FROM study WHERE number NOT IN (SELECT rowid FROM study_search))
     + (SELECT count(*) FROM study_search WHERE rowid NOT IN (SELECT number FROM study))
"""


@dataclass
class _Tally:
    """What a check found so far."""

    counts: Counter[str] = field(default_factory=Counter)
    missing: list[Path] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)
    instances: int = 0
    events: int = 0


def check_library(
    engine: Engine,
    *,
    full: bool = False,
    linked: bool = True,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> LibraryCheck:
    """Check the library and record the outcome.

    Parameters
    ----------
    full : bool
        Open every seal and compare every file with its digest; a quick check opens a sample of the seals and looks
        whether the files are there and unchanged in size and time.
    linked : bool
        Whether a full check reads linked files too; they may be terabytes on a network drive.

    Raises
    ------
    Cancelled
        When ``cancel`` is set; nothing is recorded then.
    """
    started = time.monotonic()
    tally = _Tally()
    progress("Reading pages", 0.0)
    tally.counts["pages"] = len(engine.library.check())
    _raise_if_cancelled(cancel)
    progress("Verifying the audit trail", 0.1)
    outcome = verify_audit.verify(engine)
    tally.counts["trail"], tally.events = int(not outcome.ok), outcome.events
    with engine.unit_of_work(writes=False) as uow:
        studies = uow.studies.count()
        progress("Opening seals", 0.2)
        _check_rows(uow, tally, full)
        _check_files(engine, uow, tally, full, linked, progress, cancel)
        progress("Looking for orphans", 0.95)
        tally.orphans = list(_orphans(engine, uow))
    tally.counts["orphans"] = len(tally.orphans)
    tally.counts["backup"] = int(engine.library.is_sqlite and not list_backups(engine))
    findings = _findings(tally)
    check = LibraryCheck(
        ok=not any(finding.is_fault for finding in findings),
        findings=findings,
        missing_files=tuple(tally.missing[:MOST_LISTED]),
        orphans=tuple(tally.orphans[:MOST_LISTED]),
        studies=studies,
        instances=tally.instances,
        events=tally.events,
        full=full,
        seconds=time.monotonic() - started,
    )
    _record(engine, check, tally)
    progress("Done", 1.0)
    return check


def full_check_due(engine: Engine, now: datetime | None = None) -> bool:
    """Whether a week has passed since the last full check, or without one since the first check on record.

    A check that was cancelled isn't on record and doesn't count.
    """
    with engine.unit_of_work(writes=False) as uow:
        checks = uow.audit.newest(AuditCode.LIBRARY_CHECK, _CHECKS_LOOKED_AT)
    if not checks:
        return False
    full = (check for check in checks if json.loads(check.detail_json or "{}").get("full"))
    since = datetime.fromisoformat(next(full, checks[-1]).ts_utc)
    return (now or datetime.now(UTC)) - since >= FULL_EVERY


def delete_orphans(engine: Engine) -> Deleted:
    """Delete the files in the library's own folders that belong to nothing; nobody may import meanwhile."""
    with engine.unit_of_work(writes=False) as uow:
        orphans = list(_orphans(engine, uow))
    done = delete_copies(engine, [path for path in orphans if is_ours(engine, path)])
    for path in orphans:
        if path.parent in (engine.paths.results, engine.paths.training):
            done += delete_folder(path)
        elif path.parent == engine.paths.thumbnails:
            done += delete_file(path)
    return done


def _check_rows(uow: UnitOfWork, tally: _Tally, full: bool) -> None:
    """Open seals and compare the sums."""
    uids = sorted(uow.studies.uids())
    if not full and len(uids) > SAMPLE:
        uids = random.sample(uids, SAMPLE)
    for uid in uids:
        try:
            if uow.studies.identity(uid) is None:
                tally.counts["no_identity"] += 1
            uow.studies.get(uid)
        except SafetyError:
            tally.counts["seals"] += 1
    tally.counts["sums"] = uow.session.execute(text(_WRONG_SUMS)).scalar() or 0
    tally.counts["words"] = uow.session.execute(text(_WRONG_WORDS)).scalar() or 0


def _check_files(
    engine: Engine,
    uow: UnitOfWork,
    tally: _Tally,
    full: bool,
    linked: bool,
    progress: Progress,
    cancel: CancelToken | None,
) -> None:
    """Look whether each instance's file is there and the same."""
    total = uow.instances.count() or 1
    for stored in _readable(uow, tally):
        _raise_if_cancelled(cancel)
        tally.instances += 1
        if tally.instances % 200 == 0:
            progress("Comparing files" if full else "Looking for files", 0.3 + 0.6 * tally.instances / total)
        copied = is_ours(engine, stored.instance.file)
        state = _state_of(stored, full and (copied or linked))
        if state == "missing":
            tally.missing.append(stored.instance.file)
        if state:
            tally.counts[f"{'copy' if copied else 'link'}_{state}"] += 1


def _readable(uow: UnitOfWork, tally: _Tally) -> Iterator[StoredFile]:
    """Yield all instances, study by study, counting the studies in which a seal doesn't open."""
    for uid in sorted(uow.studies.uids()):
        try:
            yield from list(uow.instances.of_studies([uid]))
        except SafetyError:
            tally.counts["seals"] += 1


def _state_of(stored: StoredFile, full: bool) -> str:
    """Return ``"missing"``, ``"changed"`` or nothing."""
    file = stored.instance.file
    try:
        same = FileStamp.of(file) == stored.stamp
        if full and stored.instance.sha256:
            same = file_sha256(file) == stored.instance.sha256
    except OSError:
        return "missing"
    except AppError:
        return "changed"  # a sealed copy whose chunks don't open
    return "" if same else "changed"


def _orphans(engine: Engine, uow: UnitOfWork) -> Iterator[Path]:
    """Yield what lies in the library's own folders and belongs to nothing."""
    paths = engine.paths
    known: set[Path] = {stored.instance.file for stored in uow.instances.of_studies(None)}
    known |= {record.file for record in uow.conflicts.list()}
    known |= {record.file for record in uow.quarantine.list()}
    yield from _unknown(files_below(paths.instances), known)
    thumbnails = {thumbnail_file(engine, key) for key in uow.series.keys_of_studies(None)}
    yield from _unknown(files_below(paths.thumbnails), thumbnails)
    folders = {paths.results / result_id for result_id in uow.results.ids_of_studies(None)}
    yield from _unknown(paths.results.iterdir(), folders)
    trainings = {paths.training / run_id for run_id in uow.trainings.ids()}
    yield from _unknown((path for path in paths.training.iterdir() if path.is_dir()), trainings)


def _unknown(found: Iterable[Path], known: set[Path]) -> Iterator[Path]:
    """Yield those that aren't known; what a process is writing just now is left out."""
    yield from sorted(path for path in found if path not in known and not path.name.startswith(PART_PREFIX))


_KINDS: tuple[tuple[str, str, str, str, bool], ...] = (
    (
        "pages",
        "check.pages",
        "The library file is damaged.",
        "Restore a backup; keep the damaged file.",
        True,
    ),
    ("trail", "check.audit", "The audit trail was changed or cut.", "Run “overread audit verify”.", True),
    ("seals", "check.seals", "Sealed records don't open.", "Restore a backup.", True),
    (
        "no_identity",
        "check.no_identity",
        "Studies have no patient.",
        "Restore a backup, or import again.",
        True,
    ),
    (
        "copy_missing",
        "check.copy_missing",
        "Copies are gone from the library.",
        "Import the studies again.",
        True,
    ),
    ("copy_changed", "check.copy_changed", "Copies were changed.", "Import the studies again.", True),
    ("sums", "check.sums", "Counts of studies are wrong.", "Import the studies again.", True),
    ("words", "check.words", "Studies are missing in the search.", "Import the studies again.", True),
    (
        "link_changed",
        "check.link_changed",
        "Linked files were changed after the import.",
        "Import them again.",
        True,
    ),
    (
        "link_missing",
        "check.link_missing",
        "Linked files aren't where they were.",
        "Insert the medium, or import them from where they are now.",
        False,
    ),
    (
        "orphans",
        "check.orphans",
        "Files in the library's folders belong to no study.",
        "Delete them with “overread check --delete-orphans”.",
        False,
    ),
    ("backup", "check.no_backup", "There is no backup.", "Make one with “overread backup make”.", False),
)


def _findings(tally: _Tally) -> tuple[CheckFinding, ...]:
    return tuple(
        CheckFinding(code, message, remedy, tally.counts[name], is_fault)
        for name, code, message, remedy, is_fault in _KINDS
        if tally.counts[name]
    )


def _record(engine: Engine, check: LibraryCheck, tally: _Tally) -> None:
    counts = tally.counts
    engine.record(
        AuditCode.LIBRARY_CHECK,
        action="E",
        object_kind="library",
        n_objects=check.instances,
        detail={
            "ok": check.ok,
            "full": check.full,
            "studies": check.studies,
            "missing": counts["copy_missing"] + counts["link_missing"],
            "orphans": counts["orphans"],
            "findings": len(check.findings),
        },
        outcome=AuditOutcome.SUCCESS if check.ok else AuditOutcome.SERIOUS_FAILURE,
        reason="" if check.ok else check.findings[0].code,
    )


def _raise_if_cancelled(cancel: CancelToken | None) -> None:
    if cancel is not None:
        cancel.raise_if_cancelled()
