"""The same library on PostgreSQL: a private server, the same services."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from core.config.keys import KeyStore
from core.domain.browse import StudyFilter
from core.domain.errors import EnvironmentFault, SafetyError
from core.library import schema
from core.library.database import URL_VARIABLE
from core.library.tables import Base
from core.services import backup, browse, list_studies, results, verify_audit
from core.services.engine import open_engine
from core.services.import_study import import_paths
from core.services.record_decision import record_decision
from core.services.remove_study import remove_studies
from tests.fakes.dicom_files import PATIENT_NAME, write_stack
from tests.fakes.engines import model_result
from tests.fakes.first_schema import assert_everything_is_kept, study_uid, write_first_schema

OTHER_USERS = ("postgres", "nobody")


def as_server_user(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of PostgreSQL, which refuses root, as somebody else when we are root."""
    if os.getuid() == 0:
        command = ["runuser", "-u", server_user(), "--", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")


def server_user() -> str:
    import pwd

    for name in OTHER_USERS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    pytest.skip("there is no account other than root for PostgreSQL")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a private PostgreSQL on a socket; yields its URL."""
    if sys.platform == "win32":
        pytest.skip("the private PostgreSQL is started on POSIX only")
    missing = [name for name in ("initdb", "pg_ctl") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL isn't installed: {', '.join(missing)} not on PATH")
    if os.getuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL refuses root and runuser isn't there")
    folder = Path(tempfile.mkdtemp(prefix="overread-pg-"))
    if os.getuid() == 0:
        shutil.chown(folder, server_user())
    data, sockets = folder / "data", folder
    made = as_server_user(
        ["initdb", "-D", str(data), "-U", "overread", "-A", "trust", "-E", "UTF8", "--no-sync"]
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"initdb failed: {made.stderr.strip()[-200:]}")
    options = f"-c listen_addresses='' -c unix_socket_directories='{sockets}' -c fsync=off"
    log = folder / "log"
    started = as_server_user(["pg_ctl", "-D", str(data), "-w", "-l", str(log), "-o", options, "start"])
    if started.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL doesn't start: {started.stdout.strip()[-200:]}")
    yield f"postgresql+psycopg://overread@/postgres?host={sockets}"
    as_server_user(["pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop"])
    shutil.rmtree(folder, ignore_errors=True)


def test_the_main_job_runs_on_postgresql(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, server)
    voxels = np.arange(4 * 8 * 10, dtype=np.int16).reshape(4, 8, 10)
    write_stack(tmp_path / "in", voxels, StudyDescription="CT thorax")
    with open_engine(tmp_path / "home", actor="reader") as engine:
        assert not engine.library.is_sqlite
        with engine.library.sql.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={"include_name": lambda name, kind, _: (kind, name) != ("table", "study_search")},
            )
            assert compare_metadata(context, Base.metadata) == []
        (study,) = import_paths(engine, [tmp_path / "in"]).studies
        assert import_paths(engine, [tmp_path / "in"]).already_present == 4
        assert [s.study_uid for s in list_studies.list_studies(engine, PATIENT_NAME.lower())] == [
            study.study_uid
        ]
        key = study.series[0].key
        results.store_result(engine, model_result("r1", study.study_uid, key))
        decision, _ = record_decision(engine, "r1", "f1", "accept", "free text")
        assert results.decisions_for(engine, "r1") == {"f1": decision}
        assert [r.result_id for r in results.results_for(engine, key)] == ["r1"]
        with engine.unit_of_work() as uow:
            uow.jobs.add("j1", "run", "{}", "title")
            uow.jobs.set_state("j1", "running")
        for _ in range(120):
            engine.record("110106")
        outcome = verify_audit.verify(engine)
        assert (outcome.ok, outcome.anchors) == (True, 1)
        for statement in ("UPDATE audit SET role = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
            with pytest.raises(SafetyError) as caught, engine.unit_of_work() as uow:
                uow.session.connection().exec_driver_sql(statement)
            assert caught.value.code == "audit.append_only"
        assert_no_plain_text(engine)
        with engine.unit_of_work() as uow:
            connection = uow.session.connection()
            connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
            connection.exec_driver_sql("UPDATE audit SET user_id = 'somebody' WHERE seq = 5")
        assert verify_audit.verify(engine).first_bad_seq == 5
    assert not (tmp_path / "home" / "library.db").exists()
    assert schema.HEAD


def assert_no_plain_text(engine: object) -> None:
    """No column of any table holds the name, the folder, the study's or the verdict's free text."""
    with engine.library.sql.connect() as connection:  # type: ignore[attr-defined]
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(table.select()):
                text = repr(tuple(row))
                for mark in (PATIENT_NAME, "CT thorax", "free text", "pytest-of"):
                    assert mark not in text, table.name


def test_another_homes_key_is_refused_on_the_same_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, server)
    with contextlib.suppress(EnvironmentFault):  # the home of another test may have the server already
        open_engine(tmp_path / "first").close()
    KeyStore.open(tmp_path / "other" / "keys")
    with pytest.raises(EnvironmentFault) as caught:
        open_engine(tmp_path / "other")
    assert caught.value.code == "library.wrong_key"


def test_a_server_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv(URL_VARIABLE, "postgresql://nobody@/none?host=/nowhere")
    with pytest.raises(EnvironmentFault) as caught:
        open_engine(tmp_path / "home")
    assert caught.value.code == "library.unreachable"


def test_the_first_schema_is_migrated_on_postgresql(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE former")
    monkeypatch.setenv(URL_VARIABLE, server.replace("/postgres?", "/former?"))
    write_first_schema(tmp_path / "home")
    with open_engine(tmp_path / "home") as engine:
        assert schema.current_revision(engine.library) == schema.HEAD
        assert_everything_is_kept(engine)
        browse.add_tag(engine, study_uid(1), "tumour board")
        assert len(browse.study_lines(engine, StudyFilter(text="tumour 2025-03 ct"))) == 1
        assert len(browse.study_lines(engine, StudyFilter(text="anna1"))) == 2
        assert [line.study_uid for line in browse.priors_of(engine, study_uid(0))] == [study_uid(1)]
        with engine.library.sql.connect() as connection:
            words = connection.exec_driver_sql("SELECT words FROM study_search").scalars().all()
        assert len(words) == 6
        assert not any("anna" in text or "pid" in text for text in words)
        with pytest.raises(EnvironmentFault) as caught:
            backup.make_backup(engine)
        assert caught.value.code == "backup.postgresql"
        assert remove_studies(engine, [study_uid(1)], "duplicate").studies == 1
        assert browse.study_lines(engine, StudyFilter(text="tumour")) == []
        codes = {finding.code for finding in backup.check_library(engine).findings}
        assert codes == {"check.copy_missing"}
