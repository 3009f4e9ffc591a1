from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
import sqlcipher3.dbapi2 as driver
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from core.config.keys import KeyStore
from core.domain.errors import BugError, EnvironmentFault, InputError
from core.domain.study import PatientIdentity
from core.library import database, schema
from core.library.database import open_library
from core.library.tables import Base
from core.services import list_studies
from core.services.engine import open_engine
from tests.fakes.engines import STUDY_UID, insert_study, make_engine

KEY = bytes(range(32))


def differences(connection: Connection) -> list[object]:
    """Return how the tables differ from what the code says; the search table isn't among SQLAlchemy's."""

    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not (name or "").startswith("study_search")

    context = MigrationContext.configure(connection, opts={"include_name": ours})
    return list(compare_metadata(context, Base.metadata))


def test_the_file_holds_no_plain_text(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine, identity=PatientIdentity("CANARY^NAME", "CANARY-ID"), description="CANARY study")
    for file in (p for p in (tmp_path / "home").rglob("*") if p.is_file()):
        data = file.read_bytes()
        assert b"CANARY" not in data
        assert b"SQLite format" not in data
        assert STUDY_UID.encode() not in data


def test_the_connection_is_as_the_plan_says(tmp_path: Path) -> None:
    library = open_library(tmp_path / "x.db", KEY, url="")
    with library.sql.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in (
                "journal_mode",
                "synchronous",
                "secure_delete",
                "foreign_keys",
                "busy_timeout",
                "temp_store",
            )
        }
        assert connection.exec_driver_sql("PRAGMA cipher_version").scalar()
    library.close()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 5000,
        "temp_store": 2,
    }


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "sqlite_version_info", (3, 51, 2))
    with pytest.raises(EnvironmentFault) as caught:
        open_library(tmp_path / "x.db", KEY, url="")
    assert caught.value.code == "library.old_sqlite"


@pytest.mark.parametrize("url", ["mysql://x/y", "not a url", "sqlite:///x.db"])
def test_another_kind_of_database_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as caught:
        open_library(tmp_path / "x.db", KEY, url=url)
    assert caught.value.code == "library.bad_url"


def test_the_newest_migration_is_the_programs_head_and_makes_its_tables(tmp_path: Path) -> None:
    assert ScriptDirectory(str(schema.MIGRATIONS)).get_heads() == [schema.HEAD]
    library = open_library(tmp_path / "x.db", KEY, url="")
    schema.prepare(library, tmp_path / "backups", tmp_path / "lock")
    with library.sql.connect() as connection:
        assert differences(connection) == []
    assert not (tmp_path / "backups").exists()
    library.close()


def test_an_older_library_is_backed_up_before_it_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
    migrations = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    (migrations / "versions" / "0004_note.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision = '0004'\ndown_revision = '0003'\n"
        "def upgrade():\n"
        "    op.add_column('study', sa.Column('note', sa.Text()))\n"
    )
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    monkeypatch.setattr(schema, "HEAD", "0004")
    with open_engine(tmp_path / "home") as engine:
        assert schema.current_revision(engine.library) == "0004"
        assert list_studies.get_study(engine, STUDY_UID).description == "CT thorax"
        key = engine.keys.derive("database")
    (backup,) = (tmp_path / "home" / "backups").glob("library-0003-*.db")
    copy = open_library(backup, key, url="")
    assert schema.current_revision(copy) == "0003"
    assert copy.check() == []
    copy.close()


def test_a_migration_that_fails_leaves_the_old_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_engine(tmp_path).close()
    migrations = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    (migrations / "versions" / "0004_bad.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision = '0004'\ndown_revision = '0003'\n"
        "def upgrade():\n"
        "    op.add_column('study', sa.Column('note', sa.Text()))\n"
        "    op.execute('DROP TABLE nowhere')\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", migrations)
        patch.setattr(schema, "HEAD", "0004")
        with pytest.raises(EnvironmentFault):
            open_engine(tmp_path / "home")
    with open_engine(tmp_path / "home") as engine, engine.library.sql.connect() as connection:
        assert differences(connection) == []


def test_a_newer_library_is_refused_and_untouched(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine, engine.unit_of_work() as uow:
        uow.session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = (tmp_path / "home" / "library.db").stat().st_size
    with pytest.raises(EnvironmentFault) as caught:
        open_engine(tmp_path / "home")
    assert caught.value.code == "library.newer_schema"
    assert "9999" in caught.value.user_message
    assert (tmp_path / "home" / "library.db").stat().st_size == before


def test_a_damaged_page_is_noticed(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        for number in range(40):
            insert_study(engine, f"1.2.{number}", f"1.2.{number}.1")
    file = tmp_path / "home" / "library.db"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    library = open_library(file, KeyStore.open(tmp_path / "home" / "keys").derive("database"), url="")
    assert library.check()
    library.close()


def test_a_write_inside_a_write_is_refused_at_once(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        started = time.monotonic()
        with pytest.raises(BugError) as caught, engine.unit_of_work(), engine.unit_of_work():
            pass
        assert caught.value.code == "library.nested_write"
        assert time.monotonic() - started < 2
        insert_study(engine)


def test_a_library_that_another_process_holds_is_busy_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 100)
    with make_engine(tmp_path) as engine:
        other = driver.connect(str(engine.paths.database), isolation_level=None)
        other.execute(f"PRAGMA key = \"x'{engine.keys.derive('database').hex()}'\"")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(EnvironmentFault) as caught:
            insert_study(engine)
        assert caught.value.code == "library.busy"
        other.execute("ROLLBACK")
        other.close()
        insert_study(engine)


def test_writers_of_one_process_wait_for_each_other(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        errors: list[Exception] = []

        def write(worker: int) -> None:
            try:
                for number in range(5):
                    insert_study(engine, f"1.2.{worker}.{number}", f"1.2.{worker}.{number}.1")
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(list_studies.list_studies(engine)) == 20


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        with pytest.raises(EnvironmentFault) as caught, engine.unit_of_work() as uow:
            pages = uow.session.connection().exec_driver_sql("PRAGMA page_count").scalar()
            uow.session.connection().exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            for number in range(3000):
                uow.jobs.add(f"job-{number}", "run", "x" * 500, "title")
        assert caught.value.code == "library.disk_full"
        assert list_studies.get_study(engine, STUDY_UID).study_uid == STUDY_UID
        with engine.unit_of_work(writes=False) as uow:
            assert uow.jobs.all() == []
        engine.library.close()
