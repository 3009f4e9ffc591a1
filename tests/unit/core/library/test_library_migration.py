"""A library of the first schema becomes one of the newest: everything kept, whatever interrupts it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from core.config.keys import KeyStore
from core.library import schema
from core.library.database import open_library
from core.services import engine as engine_module
from core.services.engine import Engine, open_engine
from tests.fakes.first_schema import OLD_STATUSES, assert_everything_is_kept, write_first_schema


def words_of(engine: Engine) -> list[str]:
    with engine.library.sql.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT words FROM study_search")]


def test_the_first_schema_is_migrated_with_all_it_holds(tmp_path: Path) -> None:
    write_first_schema(tmp_path / "home")
    with open_engine(tmp_path / "home") as engine:
        assert schema.current_revision(engine.library) == schema.HEAD
        assert_everything_is_kept(engine)
        words = words_of(engine)
        assert len(words) == len(OLD_STATUSES)
        assert all("thorax" in text and "anna" not in text for text in words)
        key = engine.keys.derive("database")
    (backup,) = (tmp_path / "home" / "backups").glob("library-0001-*.db")
    copy = open_library(backup, key, url="")
    assert schema.current_revision(copy) == "0001"
    assert copy.check() == []
    copy.close()
    with open_engine(tmp_path / "home") as engine:
        assert_everything_is_kept(engine)
    assert len(list((tmp_path / "home" / "backups").iterdir())) == 1


def test_sums_that_were_interrupted_are_made_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_first_schema(tmp_path / "home")
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "_SUMMED_AT_ONCE", 2)
        patch.setattr(engine_module, "_sum_up", lambda engine: sum_up_two(engine))
        open_engine(tmp_path / "home").close()
    with open_engine(tmp_path / "home") as engine:
        assert_everything_is_kept(engine)


@pytest.mark.fault
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("statement", [0, 1, 4, 8, 12])
def test_the_second_schema_gets_the_tables_of_trainings_and_keeps_its_rows(
    tmp_path: Path, statement: int
) -> None:
    home = tmp_path / "home"
    with open_engine(home) as engine:
        key = engine.keys.derive("database")
    (home / "library.db").unlink()
    library = open_library(home / "library.db", key, url="")
    schema.upgrade(library, "0002")
    with library.sql.begin() as connection:
        connection.exec_driver_sql("INSERT INTO retention_rule (name, document) VALUES ('old', '{}')")
    library.close()
    if statement:
        child = multiprocessing.get_context("fork").Process(target=migrate_and_die, args=(home, statement))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        library = open_library(home / "library.db", key, url="")
        assert schema.current_revision(library) == "0002"
        library.close()
    (home / "keys" / "audit.head").unlink(missing_ok=True)
    with open_engine(home) as engine, engine.library.sql.connect() as connection:
        assert schema.current_revision(engine.library) == schema.HEAD
        rules = connection.exec_driver_sql("SELECT name FROM retention_rule").scalars().all()
        assert rules == ["old"]
    with open_engine(home) as engine, engine.unit_of_work(writes=False) as uow:
        assert uow.trainings.all() == [] and uow.candidates.all() == [] and uow.promotions.current() == {}


def sum_up_two(engine: Engine) -> None:
    with engine.unit_of_work() as uow:
        for uid in uow.studies.not_counted(2):
            uow.studies.recount(uid)


@pytest.mark.fault
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("statement", range(1, 91, 5))
def test_a_kill_in_the_middle_leaves_the_first_schema(tmp_path: Path, statement: int) -> None:
    home = tmp_path / "home"
    write_first_schema(home)
    child = multiprocessing.get_context("fork").Process(target=migrate_and_die, args=(home, statement))
    child.start()
    child.join(60)
    assert child.exitcode in (-signal.SIGKILL, 0)
    if child.exitcode:
        library = open_library(home / "library.db", KeyStore.open(home / "keys").derive("database"), url="")
        assert schema.current_revision(library) == "0001"
        assert library.check() == []
        with library.sql.connect() as connection:
            tables = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
        assert "study_tag" not in tables and "study_search" not in tables
        library.close()
    with open_engine(home) as engine:
        assert_everything_is_kept(engine)


def migrate_and_die(home: Path, statement: int) -> None:
    library = open_library(home / "library.db", KeyStore.open(home / "keys").derive("database"), url="")
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    upgrade: Callable[[Any], None] = schema.upgrade
    event.listen(library.sql, "before_cursor_execute", count)
    upgrade(library)
    os._exit(0)
