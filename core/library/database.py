"""Opens the index: an encrypted SQLite file, or PostgreSQL by URL.

SQLite runs through ``sqlcipher3`` with a raw 256-bit key, WAL, ``synchronous=FULL`` and ``secure_delete``. A
transaction that writes begins with ``BEGIN IMMEDIATE``: a read that turns into a write fails at once when another
process wrote in between, and ``busy_timeout`` doesn't help there. On PostgreSQL an advisory lock gives the same single
writer.
Source: SQLite documentation "Isolation", "WAL" and "Recovering from the WAL-reset bug" (fixed in 3.51.3).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from core.domain.errors import BugError, EnvironmentFault, InputError
from core.library.errors import translate

URL_VARIABLE = "OVERREAD_DATABASE_URL"
LEAST_SQLITE = (3, 51, 3)
BUSY_TIMEOUT_MS = 5000
WRITES = "overread_writes"
_POSTGRES_WRITER_LOCK = 0x4F56_5244
_LOCK_TIMEOUT_S = 60.0


class Library:
    """The database of one home: connections, the writer lock and the schema.

    Parameters
    ----------
    sql : sqlalchemy.Engine
        As ``open_library`` makes it.
    file : pathlib.Path or None
        The SQLite file; None on PostgreSQL.
    key : bytes or None
        What encrypts the file.
    """

    def __init__(self, sql: Engine, file: Path | None, key: bytes | None = None) -> None:
        self.sql = sql
        self.file = file
        self._key = key
        self._writer = threading.RLock()
        self._depth = 0

    @property
    def is_sqlite(self) -> bool:
        """Whether the index is the encrypted file."""
        return self.file is not None

    def acquire_writer(self) -> None:
        """Become this process's only writer.

        Raises
        ------
        BugError
            If this thread already writes (``library.nested_write``).
        EnvironmentFault
            If another thread writes for longer than a minute (``library.busy``).
        """
        if not self._writer.acquire(timeout=_LOCK_TIMEOUT_S):
            raise EnvironmentFault(
                "library.busy", "The library is busy with another write.", "Try again in a moment."
            )
        if self._depth:
            self._writer.release()
            raise BugError(
                "library.nested_write",
                "A write was started inside another write; nothing was changed.",
                "Report this fault.",
            )
        self._depth += 1

    def release_writer(self) -> None:
        """Let the next writer in."""
        self._depth -= 1
        self._writer.release()

    def check(self) -> list[str]:
        """Read every page and check structure and page authentication; returns what is wrong, mostly nothing.

        Takes about a second per 200 MB. Only for SQLite; PostgreSQL checks itself.
        """
        if not self.is_sqlite:
            return []
        try:
            with self.sql.connect() as connection:
                findings = [str(r[0]) for r in connection.exec_driver_sql("PRAGMA cipher_integrity_check")]
                rows = connection.exec_driver_sql("PRAGMA quick_check(10)").scalars()
                return findings + [str(r) for r in rows if r != "ok"]
        except SQLAlchemyError as error:
            return [translate(error).user_message]

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy, encrypted with the same key, while other processes go on reading and writing.

        ``target`` must not exist. The copy is one file that needs no log beside it. Only for SQLite.

        Raises
        ------
        EnvironmentFault
            If the disk is full or the library can't be read.
        """
        import sqlcipher3.dbapi2 as driver

        try:
            with self.sql.connect() as connection:
                source: Any = connection.connection.dbapi_connection
                copy = driver.connect(str(target), isolation_level=None)
                try:
                    _unlock(copy, self._key)
                    # One step: a snapshot of one moment; in several steps each foreign write would start it anew.
                    source.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE").fetchall()
                finally:
                    copy.close()
        except driver.Error as error:
            raise translate(DBAPIError("", {}, error)) from error
        except SQLAlchemyError as error:
            raise translate(error) from error

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and truncate it."""
        if self.is_sqlite:
            with self.sql.connect() as connection:
                driver: Any = connection.connection.dbapi_connection
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close all connections."""
        self.sql.dispose()


def open_library(file: Path, key: bytes | None, url: str | None = None) -> Library:
    """Open the database; makes no table (see ``core.library.schema``).

    Parameters
    ----------
    file : pathlib.Path
        The SQLite file, unless a URL is given.
    key : bytes or None
        32 bytes; None opens an unencrypted file, which only tests do.
    url : str or None
        A PostgreSQL URL; by default that of ``OVERREAD_DATABASE_URL``, else SQLite.

    Raises
    ------
    EnvironmentFault
        If the linked SQLite is older than 3.51.3, whose WAL reset can corrupt a file.
    InputError
        If the URL isn't one of PostgreSQL through psycopg.
    """
    url = os.environ.get(URL_VARIABLE, "") if url is None else url
    if url:
        return Library(_postgres(url), None)
    return Library(_sqlite(file, key), file, key)


def _sqlite(file: Path, key: bytes | None) -> Engine:
    import sqlcipher3.dbapi2 as driver

    if tuple(driver.sqlite_version_info) < LEAST_SQLITE:
        raise EnvironmentFault(
            "library.old_sqlite",
            f"SQLite {driver.sqlite_version} can corrupt a library that two processes use.",
            "Install sqlcipher3 0.6.4 or newer.",
        )
    sql = create_engine(
        f"sqlite+pysqlite:///{file}",
        module=driver,
        poolclass=QueuePool,
        pool_size=5,
        max_overflow=20,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        hide_parameters=True,
    )

    @event.listens_for(sql, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        _unlock(connection, key)
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            # Without it, INSERT OR REPLACE would delete an audit record past its trigger.
            "recursive_triggers = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(sql, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return sql


def _unlock(connection: Any, key: bytes | None) -> None:
    if key is not None:
        # A raw key: no passphrase stretching. Source: SQLCipher API, "PRAGMA key", raw key data.
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")


def _postgres(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
            raise ArgumentError(parsed.drivername)
        sql = create_engine(
            parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, hide_parameters=True
        )
    except (ArgumentError, ImportError) as error:
        raise InputError(
            "library.bad_url",
            f"{URL_VARIABLE} doesn't name a PostgreSQL database that this installation can reach.",
            "Use postgresql+psycopg://user@host/database and install the [postgres] extra.",
        ) from error

    @event.listens_for(sql, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get(WRITES, False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRES_WRITER_LOCK})")

    return sql
