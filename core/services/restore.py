"""Puts a backup in the place of the library. What is replaced is kept beside it; nothing is deleted.

The audit trail isn't set back: records that came after the backup are carried over from the replaced library as long
as it can be read. Studies that were removed after the backup are removed again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from core.audit.chain import Head
from core.audit.head_file import HeadFile
from core.config.atomic import flush_folder
from core.config.keys import KeyStore
from core.config.locks import held_by_nobody
from core.config.paths import Paths
from core.config.temp import work_folder
from core.domain.audit import AuditCode
from core.domain.browse import RestoredLibrary
from core.domain.errors import AppError, EnvironmentFault, InputError
from core.library import schema
from core.library.database import WRITES, Library, open_library
from core.library.repositories.meta import INSTALLATION
from core.services.engine import HOLD, KEYRING_HEAD, Engine, open_engine
from core.services.remove_study import remove_studies

_LOGS = ("-wal", "-shm")


@dataclass(frozen=True)
class _Trail:
    """What could be carried over from the present library; ``studies`` is None when it can't be read."""

    carried: int
    head: Head
    installation: str
    studies: frozenset[str] | None


def restore_backup(home: Path | None, file: Path) -> RestoredLibrary:
    """Put a backup in the place of the home's library.

    No process may have the library open, this one neither: close the engine first.

    Returns
    -------
    RestoredLibrary
        ``replaced`` is the former library, beside the restored one, with what belonged to its log.

    Raises
    ------
    InputError
        If the file isn't there (``backup.not_found``).
    EnvironmentFault
        If the library is open somewhere (``backup.library_in_use``), the home has no key (``backup.no_key``), the
        backup belongs to another key (``backup.wrong_key``), is damaged (``backup.damaged``) or of a newer Overread
        (``library.newer_schema``), or the disk refuses. The library is as it was then.
    """
    paths = Paths.resolve(home)
    source = file.expanduser().absolute()
    if not source.is_file():
        raise InputError("backup.not_found", "There is no such backup.", "List the backups that are there.")
    if not (paths.keys / "source.json").exists():
        raise EnvironmentFault(
            "backup.no_key",
            "This data folder has no key, and a backup doesn't hold one.",
            "Put the keys folder that belongs to the backup into the data folder first.",
        )
    paths.create()
    keys = KeyStore.open(paths.keys)
    with held_by_nobody(paths.keys / HOLD) as free:
        if not free:
            raise _in_use()
        with work_folder(paths.temp, "restore") as work:
            part = work / "library.db"
            try:
                _copy(source, part)
                _require_ours(part, keys)
                trail = _carry_trail_over(paths, part, keys)
                replaced = _swap(paths, part)
            except OSError as error:
                raise _not_written(error) from error
        _note_head(paths, keys, trail)
    return _finish(paths, trail, replaced)


def _copy(source: Path, part: Path) -> None:
    shutil.copyfile(source, part)
    log = source.with_name(source.name + "-wal")
    if log.exists():
        shutil.copyfile(log, part.with_name(part.name + "-wal"))


def _require_ours(part: Path, keys: KeyStore) -> None:
    """Refuse a backup that this key doesn't open, that is damaged, or that is newer than this program."""
    library = open_library(part, keys.derive("database"), url="")
    try:
        revision = schema.current_revision(library)
        findings = library.check()
    except (SQLAlchemyError, AppError) as error:
        raise EnvironmentFault(
            "backup.wrong_key",
            "The key of this data folder doesn't open this backup: it belongs to another installation, or it is "
            "no backup of Overread.",
            "Restore the keys folder that belongs to the backup, or choose another backup.",
        ) from error
    finally:
        library.close()
    if findings or revision is None:
        raise EnvironmentFault(
            "backup.damaged", "This backup is damaged; nothing was changed.", "Choose another backup."
        )
    if revision not in schema.known_revisions():
        raise EnvironmentFault(
            "library.newer_schema",
            f"The backup has schema {revision}; this Overread knows up to {schema.HEAD}.",
            "Install the newer Overread that wrote it.",
        )


def _carry_trail_over(paths: Paths, part: Path, keys: KeyStore) -> _Trail:
    """Append to the restored trail what the present library recorded since; returns how it ends."""
    restored = open_library(part, keys.derive("database"), url="")
    try:
        installation = _scalar(restored, f"SELECT value FROM meta WHERE key = '{INSTALLATION}'")
        last = _head(restored)
        rows, anchors, studies = _present(paths, keys, last)
        with restored.sql.execution_options(**{WRITES: True}).begin() as connection:
            for table, values in (("audit", rows), ("audit_anchor", anchors)):
                if values:
                    marks = ", ".join("?" * len(values[0]))
                    connection.exec_driver_sql(
                        f"INSERT OR IGNORE INTO {table} VALUES ({marks})", [tuple(v) for v in values]
                    )
        trail = _Trail(len(rows), _head(restored), str(installation), studies)
        restored.checkpoint()
    finally:
        restored.close()
    for suffix in _LOGS:
        part.with_name(part.name + suffix).unlink(missing_ok=True)
    return trail


def _present(
    paths: Paths, keys: KeyStore, last: Head
) -> tuple[Sequence[Any], Sequence[Any], frozenset[str] | None]:
    """Return records and anchors after ``last`` and all studies of the present library; nothing if it is unreadable."""
    nothing: tuple[Sequence[Any], Sequence[Any], None] = ((), (), None)
    if not paths.database.exists():
        return nothing
    present = open_library(paths.database, keys.derive("database"), url="")
    try:
        with present.sql.connect() as connection:
            run = connection.exec_driver_sql
            same = run("SELECT hash FROM audit WHERE seq = ?", (last.seq,)).scalar()
            if last.seq and (same is None or bytes(same) != last.hash):
                return nothing
            rows = run("SELECT * FROM audit WHERE seq > ? ORDER BY seq", (last.seq,)).all()
            anchors = run("SELECT * FROM audit_anchor WHERE seq > ?", (last.seq,)).all()
            studies = frozenset(run("SELECT study_uid FROM study").scalars())
        present.checkpoint()
        return rows, anchors, studies
    except SQLAlchemyError:
        # The usual reason for a restore: what can't be read stays in the replaced file.
        return nothing
    finally:
        present.close()


def _swap(paths: Paths, part: Path) -> Path | None:
    """Let the restored file be the library; returns the former one.

    At each moment there is a whole library under its name, so that a crash never leaves a home that looks new.
    """
    database = paths.database
    replaced = None
    if database.exists():
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        replaced = database.with_name(f"library-replaced-{stamp}.db")
        try:
            os.link(database, replaced)
        except OSError:
            shutil.copyfile(database, replaced)
        for log in _logs_of(database):
            shutil.copyfile(log, replaced.with_name(replaced.name + log.name.removeprefix(database.name)))
    logs = {log: log.read_bytes() for log in _logs_of(database)}
    try:
        for log in logs:
            # A log beside a file that it doesn't belong to would be applied to it.
            log.unlink()
        part.replace(database)
    except OSError:
        for log, data in logs.items():
            log.write_bytes(data)
        if replaced is not None:
            for left in (replaced, *_logs_of(replaced)):
                left.unlink(missing_ok=True)
        raise
    flush_folder(database.parent)
    return replaced


def _logs_of(database: Path) -> list[Path]:
    names = (database.with_name(database.name + suffix) for suffix in _LOGS)
    return [path for path in names if path.exists()]


def _note_head(paths: Paths, keys: KeyStore, trail: _Trail) -> None:
    """Let the witnesses outside the database know the restored trail when it ends before what they saw."""
    head_file = HeadFile(paths.keys / "audit.head", keys.derive("audit-head"), trail.installation)
    seen = head_file.read()
    if seen != trail.head:
        head_file.replace(trail.head)
        keys.remember(KEYRING_HEAD, head_file.encode(trail.head))


def _finish(paths: Paths, trail: _Trail, replaced: Path | None) -> RestoredLibrary:
    """Open the restored library, which migrates it, remove again what was removed since, and record the restore."""
    with open_engine(paths.root) as engine:
        with engine.unit_of_work(writes=False) as uow:
            came_later = len((trail.studies or frozenset()) - uow.studies.uids())
        again = _removed_since(engine, trail)
        if again:
            remove_studies(engine, again, "removed-before")
        with engine.unit_of_work(writes=False) as uow:
            studies = uow.studies.count()
            missing = sum(not stored.instance.file.exists() for stored in uow.instances.of_studies(None))
        engine.record(
            AuditCode.LIBRARY_RESTORED,
            action="U",
            object_kind="library",
            n_objects=studies,
            detail={"studies": studies, "missing": missing, "events": trail.carried, "count": len(again)},
        )
    return RestoredLibrary(paths.database, replaced, studies, missing, came_later, len(again))


def _removed_since(engine: Engine, trail: _Trail) -> list[str]:
    """Return the restored studies that the former library didn't have and that its trail says were removed."""
    if trail.studies is None:
        return []
    with engine.unit_of_work(writes=False) as uow:
        back = uow.studies.uids() - trail.studies
        removed = {r.object_ref for r in uow.audit.records() if r.event_code == AuditCode.STUDY_DELETED}
    return sorted(uid for uid in back if engine.reference(uid) in removed)


def _head(library: Library) -> Head:
    with library.sql.connect() as connection:
        row = connection.exec_driver_sql("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").first()
    return Head() if row is None else Head(row[0], bytes(row[1]))


def _scalar(library: Library, statement: str) -> Any:
    with library.sql.connect() as connection:
        return connection.exec_driver_sql(statement).scalar()


def _in_use() -> EnvironmentFault:
    return EnvironmentFault(
        "backup.library_in_use",
        "The library is open in Overread; it can't be replaced now.",
        "Close every Overread window and command that uses this data folder.",
    )


def _not_written(error: OSError) -> EnvironmentFault:
    if isinstance(error, PermissionError) and os.name == "nt":
        return _in_use()
    return EnvironmentFault(
        "backup.not_restored",
        f"The backup can't be restored ({error.strerror or type(error).__name__}); the library is as it was.",
        "Free space, or check the permissions of the data folder.",
    )
