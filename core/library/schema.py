"""Brings the schema of a library to the version of this program when it is opened.

A library that is up to date is recognised by one query, without loading Alembic. An older one is first copied to the
backups folder, then migrated in one transaction; a kill in the middle leaves the old schema. A newer one is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError

from core.config.atomic import atomic_path
from core.config.locks import file_lock
from core.domain.errors import EnvironmentFault
from core.library.database import WRITES, Library
from core.library.errors import translate

HEAD = "0003"
"""Revision that this program writes; equals the newest file of ``migrations/versions`` (a test compares)."""

MIGRATIONS = Path(__file__).resolve().parent / "migrations"


def prepare(library: Library, backups: Path, lock: Path) -> None:
    """Create or migrate the schema.

    Raises
    ------
    EnvironmentFault
        ``library.newer_schema`` if a newer Overread wrote the library; ``library.wrong_key`` and others of
        ``core.library.errors`` if it can't be read.
    """
    try:
        if current_revision(library) == HEAD:
            return
        with file_lock(lock):
            revision = current_revision(library)
            if revision == HEAD:
                return
            if revision is not None and revision not in known_revisions():
                raise EnvironmentFault(
                    "library.newer_schema",
                    f"The library has schema {revision}; this Overread knows up to {HEAD}.",
                    "Install the newer Overread that wrote it, or open another data folder.",
                )
            if revision is not None:
                back_up(library, backups, revision)
            upgrade(library)
    except SQLAlchemyError as error:
        raise translate(error) from error


def current_revision(library: Library) -> str | None:
    """Return the schema's revision; None for an empty database."""
    with library.sql.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision


def known_revisions() -> set[str]:
    """Return the revisions that this program can migrate from or to."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}


def upgrade(library: Library, revision: str = "") -> None:
    """Migrate to ``HEAD``, or to an earlier revision, in one writing transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with library.sql.execution_options(**{WRITES: True}).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision or HEAD)


def back_up(library: Library, folder: Path, revision: str, kind: str = "") -> Path | None:
    """Copy the encrypted file into ``folder``; returns the copy, None on PostgreSQL (use its own tools)."""
    if library.file is None:
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    name = f"library-{revision}-{stamp}{f'-{kind}' if kind else ''}"
    target, number = folder / f"{name}.db", 1
    while target.exists():
        number += 1
        target = folder / f"{name}.{number}.db"
    with atomic_path(target) as part:
        library.copy_to(part)
    return target
