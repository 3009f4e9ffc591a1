"""Backups of the index: made while work goes on, listed, thinned out. Restoring is ``core.services.restore``.

A backup is one file, encrypted with the key of the library. It holds the index, identities, verdicts and the audit
trail. It holds neither the key, which stays in the keyring or the keys folder, nor pictures, results' label maps and
heat maps: a full safeguard keeps the instances, results and keys folders as well (or the keyring's entry).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.config.keys import KeyStore
from core.config.paths import Paths
from core.domain.audit import AuditCode
from core.domain.browse import BackupInfo, LibraryCheck, RestoredLibrary
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.progress import CancelToken, Progress, no_progress
from core.library import schema
from core.library.database import open_library
from core.services.engine import Engine

WHAT_TO_KEEP = (
    "The backup holds the index, verdicts and the audit trail, encrypted. To restore it you also need the key "
    "(the keyring's entry, the passphrase or the keys folder); copies of pictures and results lie in the folders "
    "instances and results, which the backup doesn't hold."
)
KINDS = ("manual", "daily", "migration")
DAYS, WEEKS, MONTHS = 7, 5, 12
"""How many daily backups stay: one a day, then one a week, then one a month."""

_NAME = re.compile(
    r"library-(?P<schema>\w+)-(?P<stamp>\d{8}T\d{6})(-(?P<kind>manual|daily))?(\.\d+)?\.db", re.ASCII
)


def make_backup(engine: Engine, folder: Path | None = None, *, kind: str = "manual") -> Path:
    """Write a backup, read it again and check it; returns the file.

    Parameters
    ----------
    folder : pathlib.Path or None
        Where to; by default the backups folder of the home. Another disk is the better place.
    kind : str
        ``"manual"`` backups stay until somebody deletes them, ``"daily"`` ones are thinned out.

    Raises
    ------
    InputError
        For an unknown kind (``backup.kind``).
    EnvironmentFault
        If the library is on PostgreSQL (``backup.postgresql``), or the file can't be written (``backup.failed``).
    SafetyError
        If what was written can't be read again (``backup.unreadable``); it is deleted then.
    """
    if kind not in ("manual", "daily"):
        raise InputError("backup.kind", "There is no such kind of backup.", "Use manual or daily.")
    if not engine.library.is_sqlite:
        raise EnvironmentFault(
            "backup.postgresql",
            "This library is on PostgreSQL, which makes its backups itself.",
            "Use pg_dump or the server's own backups.",
        )
    place = engine.paths.backups if folder is None else folder.expanduser().absolute()
    try:
        target = schema.back_up(engine.library, place, schema.HEAD, kind)
    except OSError as error:
        raise EnvironmentFault(
            "backup.failed",
            f"The backup can't be written ({error.strerror or type(error).__name__}).",
            "Choose another folder or free space.",
        ) from error
    assert target is not None
    studies = _require_readable(engine.keys, target)
    engine.record(
        AuditCode.LIBRARY_BACKUP, action="C", object_kind="library", detail={"kind": kind, "studies": studies}
    )
    return target


def daily_backup(engine: Engine) -> Path | None:
    """Make the backup of the day unless there is one, and thin out older ones; None when there was nothing to do."""
    if not engine.library.is_sqlite:
        return None
    today = datetime.now(UTC).date().isoformat()
    daily = [info for info in list_backups(engine) if info.kind == "daily"]
    if any(info.made_utc.startswith(today) for info in daily):
        return None
    made = make_backup(engine, kind="daily")
    for info in thinned_out(list_backups(engine), datetime.now(UTC)):
        info.file.unlink(missing_ok=True)
    return made


def list_backups(engine: Engine | Paths, folder: Path | None = None) -> list[BackupInfo]:
    """Return the backups of a folder, by default that of the home, the newest first."""
    paths = engine if isinstance(engine, Paths) else engine.paths
    place = paths.backups if folder is None else folder
    files = place.glob("library-*.db") if place.is_dir() else ()
    found = [info for file in files if (info := _info(file))]
    return sorted(found, key=lambda info: (info.made_utc, info.file.name), reverse=True)


def thinned_out(backups: Iterable[BackupInfo], now: datetime) -> list[BackupInfo]:
    """Return the daily backups that may go: of each day, week and month only the newest stays, for their time.

    Backups that a person or a migration made are never among them, nor is the newest.
    """
    daily = sorted((b for b in backups if b.kind == "daily"), key=lambda b: b.made_utc, reverse=True)
    kept = {b.file for b in daily[:1]}
    for most_days, period in (
        (DAYS, "%Y-%m-%d"),
        (WEEKS * 7, "%G-%V"),
        (MONTHS * 31, "%Y-%m"),
    ):
        seen: set[str] = set()
        for backup in daily:
            made = datetime.fromisoformat(backup.made_utc)
            if now - made > timedelta(days=most_days) or made.strftime(period) in seen:
                continue
            seen.add(made.strftime(period))
            kept.add(backup.file)
    return [b for b in daily if b.file not in kept]


def check_library(
    engine: Engine,
    *,
    full: bool = False,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> LibraryCheck:
    """Check the library; see ``core.services.check_library``."""
    from core.services.check_library import check_library as check

    return check(engine, full=full, progress=progress, cancel=cancel)


def restore_backup(home: Path | None, file: Path) -> RestoredLibrary:
    """Put a backup in the place of the library; see ``core.services.restore``."""
    from core.services import restore

    return restore.restore_backup(home, file)


def _info(file: Path) -> BackupInfo | None:
    named = _NAME.fullmatch(file.name)
    if named is None:
        return None
    try:
        made = datetime.strptime(named["stamp"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        size = file.stat().st_size
    except (ValueError, OSError):
        return None
    return BackupInfo(file, made.isoformat(), size, named["schema"], named["kind"] or "migration")


def _require_readable(keys: KeyStore, file: Path) -> int:
    """Read a backup from its first to its last page; returns its number of studies."""
    copy = open_library(file, keys.derive("database"), url="")
    try:
        findings = copy.check()
        if not findings:
            with copy.sql.connect() as connection:
                return int(connection.exec_driver_sql("SELECT count(*) FROM study").scalar() or 0)
    finally:
        copy.close()
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.unlink(missing_ok=True)
    raise SafetyError(
        "backup.unreadable",
        "The backup that was written can't be read again; it was deleted.",
        "Check the disk, then make another one.",
    )
