"""Backups of a live library, their restore, and the check that tells what is wrong."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from core.domain.browse import BackupInfo
from core.domain.errors import AppError, EnvironmentFault, InputError
from core.library import schema
from core.library.database import open_library
from core.services import backup, browse, check_library, list_studies, remove_study, verify_audit
from core.services.backup import list_backups, make_backup, restore_backup
from core.services.engine import Engine, open_engine
from core.services.import_study import import_paths
from core.services.remove_study import remove_studies
from tests.fakes.dicom_files import write_stack
from tests.fakes.engines import STUDY_UID, insert_study, make_engine

CONTEXT = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")


def imported(engine: Engine, folder: Path, mode: str = "copy") -> str:
    write_stack(folder, np.arange(4 * 8 * 10, dtype=np.int16).reshape(4, 8, 10))
    (study,) = import_paths(engine, [folder], mode=mode).studies
    return study.study_uid


def refused(act: object, code: str) -> AppError:
    with pytest.raises(AppError) as caught:
        act()  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value


def test_a_backup_is_one_encrypted_file_that_can_be_read(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        file = make_backup(engine)
        assert file.parent == engine.paths.backups
        assert [path.name for path in engine.paths.backups.iterdir()] == [file.name]
        other = make_backup(engine, tmp_path / "stick")
        assert other.parent == tmp_path / "stick"
        assert b"SQLite format" not in file.read_bytes()[:100]
        assert STUDY_UID.encode() not in file.read_bytes()
        (info,) = list_backups(engine)
        assert (info.file, info.kind, info.schema) == (file, "manual", schema.HEAD)
        assert info.size_bytes == file.stat().st_size
        assert abs(datetime.fromisoformat(info.made_utc) - datetime.now(UTC)) < timedelta(minutes=1)
        refused(lambda: make_backup(engine, kind="odd"), "backup.kind")
        (tmp_path / "file").write_text("")
        refused(lambda: make_backup(engine, tmp_path / "file" / "below"), "backup.failed")
        events = [r.event_code for r in verify_audit.list_events(engine)]
        assert events.count("library-backup") == 2
    assert "key" in backup.WHAT_TO_KEEP


def write_for_ever(home: Path, told: Connection) -> None:
    engine = open_engine(home)
    number = 0
    while True:
        insert_study(engine, f"1.2.{number}", f"1.2.{number}.1")
        number += 1
        told.send(number)


@contextmanager
def writer(home: Path) -> Iterator[Connection]:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=write_for_ever, args=(home, sender))
    child.start()
    sender.close()
    try:
        assert receiver.poll(30)
        yield receiver
    finally:
        child.kill()
        child.join()
        receiver.close()


@pytest.mark.fault
def test_a_backup_made_while_another_process_writes_is_of_one_moment(tmp_path: Path) -> None:
    make_engine(tmp_path).close()
    with writer(tmp_path / "home") as told, open_engine(tmp_path / "home") as engine:
        for _ in range(5):
            before = 0
            while told.poll(0):
                before = told.recv()
            file = make_backup(engine)
            copy = open_library(file, engine.keys.derive("database"), url="")
            with copy.sql.connect() as connection:
                counts = [
                    connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
                    for table in ("study", "identity_vault", "series", "study_search")
                ]
                files = connection.exec_driver_sql("SELECT count(*) FROM instance").scalar()
            assert copy.check() == []
            copy.close()
            assert len(set(counts)) == 1
            assert files == 3 * counts[0]
            assert counts[0] >= before
            deadline = time.monotonic() + 30
            while not told.poll(0.05) and time.monotonic() < deadline:
                pass


def test_a_restore_brings_the_studies_back_and_keeps_what_it_replaces(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with make_engine(tmp_path) as engine:
        uid = imported(engine, tmp_path / "in")
        file = make_backup(engine)
        insert_study(engine, "1.2.5", "1.2.5.1")
        browse.set_status(engine, uid, "reviewed")
        refused(lambda: restore_backup(home, file), "backup.library_in_use")
        assert len(browse.study_lines(engine)) == 2
    done = restore_backup(home, file)
    assert (done.studies, done.missing_files, done.not_in_backup, done.removed_again) == (1, 0, 1, 0)
    assert done.replaced is not None and done.replaced.exists()
    with open_engine(home) as engine:
        (line,) = browse.study_lines(engine)
        assert (line.study_uid, line.status) == (uid, "unread")
        assert list_studies.thumbnail(engine, browse.series_of(engine, uid)[0].key) is not None
        # The trail wasn't set back: what happened after the backup is still in it.
        assert verify_audit.verify(engine).ok
        codes = [record.event_code for record in verify_audit.list_events(engine)]
        assert codes.index("study-status") < codes.index("library-restored")
        former = open_library(done.replaced, engine.keys.derive("database"), url="")
        with former.sql.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM study").scalar() == 2
        former.close()
    assert file.exists()


def test_a_study_removed_after_the_backup_is_removed_again(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        insert_study(engine, "1.2.5", "1.2.5.1")
        file = make_backup(engine)
        remove_studies(engine, [STUDY_UID], "patient-request")
    done = restore_backup(tmp_path / "home", file)
    assert (done.studies, done.removed_again) == (1, 1)
    with open_engine(tmp_path / "home") as engine:
        assert [line.study_uid for line in browse.study_lines(engine)] == ["1.2.5"]
        assert verify_audit.verify(engine).ok


def test_a_damaged_library_is_replaced_and_the_gap_of_the_trail_is_told(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        file = make_backup(engine)
        for number in range(20):
            browse.set_status(engine, STUDY_UID, ("reviewed", "unread")[number % 2])
    database = tmp_path / "home" / "library.db"
    damaged = b"\0" * 4096 + database.read_bytes()[4096:]
    database.write_bytes(damaged)
    with pytest.raises(EnvironmentFault):
        open_engine(tmp_path / "home")
    done = restore_backup(tmp_path / "home", file)
    assert done.replaced is not None
    assert done.replaced.read_bytes() == damaged
    with open_engine(tmp_path / "home") as engine:
        assert [line.study_uid for line in browse.study_lines(engine)] == [STUDY_UID]
        assert verify_audit.verify(engine).ok
        (record,) = [r for r in verify_audit.list_events(engine) if r.event_code == "library-restored"]
        assert '"events":0' in record.detail_json


def test_a_backup_that_does_not_fit_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        mine = make_backup(engine)
    with open_engine(tmp_path / "other") as other:
        theirs = make_backup(other)
    before = (home / "library.db").read_bytes()
    refused(lambda: restore_backup(home, theirs), "backup.wrong_key")
    refused(lambda: restore_backup(home, tmp_path / "none.db"), "backup.not_found")
    (tmp_path / "text.db").write_text("not a backup at all" * 500)
    refused(lambda: restore_backup(home, tmp_path / "text.db"), "backup.wrong_key")
    bad = bytearray(mine.read_bytes())
    bad[len(bad) // 2] ^= 1
    (tmp_path / "bad.db").write_bytes(bytes(bad))
    refused(lambda: restore_backup(home, tmp_path / "bad.db"), "backup.damaged")
    error = refused(lambda: restore_backup(tmp_path / "fresh", mine), "backup.no_key")
    assert "keys" in error.remedy
    assert (home / "library.db").read_bytes() == before
    assert not list(home.glob("library-replaced-*"))
    assert list((home / "temp").iterdir()) == []


def test_a_restore_that_fails_at_the_last_step_leaves_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        file = make_backup(engine)
        insert_study(engine, "1.2.5", "1.2.5.1")
    real = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if Path(target).name == "library.db":
            raise OSError(28, "No space left on device")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        refused(lambda: restore_backup(home, file), "backup.not_restored")
    assert not list(home.glob("library-replaced-*"))
    with open_engine(home) as engine:
        assert len(browse.study_lines(engine)) == 2
        assert verify_audit.verify(engine).ok


def test_a_removal_that_dies_before_its_files_leaves_orphans_that_the_check_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_engine(tmp_path) as engine:
        uid = imported(engine, tmp_path / "in")
        list_studies.thumbnail(engine, browse.series_of(engine, uid)[0].key)
        with monkeypatch.context() as patch:
            patch.setattr(remove_study, "delete_copies", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                remove_studies(engine, [uid], "duplicate")
        assert browse.study_lines(engine) == []
        assert codes_of(engine)["check.orphans"] == 5
        assert check_library.delete_orphans(engine).files == 5
        assert "check.orphans" not in codes_of(engine)
        assert list(engine.paths.thumbnails.iterdir()) == []


def test_a_backup_moves_to_another_computer_with_its_keys(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        file = make_backup(engine, tmp_path / "stick")
    shutil.copytree(tmp_path / "home" / "keys", tmp_path / "new" / "keys")
    done = restore_backup(tmp_path / "new", file)
    assert (done.studies, done.missing_files, done.replaced) == (1, 3, None)


def test_daily_backups_are_thinned_out_by_day_week_and_month(tmp_path: Path) -> None:
    now = datetime(2026, 6, 30, 12, tzinfo=UTC)
    backups = [
        BackupInfo(tmp_path / f"{days}.db", (now - timedelta(days=days)).isoformat(), 1, "0002", "daily")
        for days in range(500)
    ]
    manual = BackupInfo(tmp_path / "manual.db", backups[450].made_utc, 1, "0002", "manual")
    gone = {info.file for info in backup.thinned_out([*backups, manual], now)}
    kept = [days for days in range(500) if tmp_path / f"{days}.db" not in gone]
    assert kept[:8] == list(range(8))
    assert 15 <= len(kept) <= 8 + 5 + 13
    assert max(kept) <= 372
    assert manual.file not in gone
    assert backup.thinned_out(backups[:1], now + timedelta(days=3000)) == []


def test_the_backup_of_the_day_is_made_once(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        old = engine.paths.backups / "library-0002-20200101T000000-daily.db"
        old.write_bytes(b"old")
        (engine.paths.backups / "library-0001-20200101T000000.db").write_bytes(b"before a migration")
        (engine.paths.backups / "notes.txt").write_text("mine")
        made = backup.daily_backup(engine)
        assert made is not None and made.exists()
        assert backup.daily_backup(engine) is None
        assert not old.exists()
        assert [info.kind for info in list_backups(engine)] == ["daily", "migration"]
        assert len(list(engine.paths.backups.iterdir())) == 3


def codes_of(engine: Engine, *, full: bool = False) -> dict[str, int]:
    return {f.code: f.count for f in check_library.check_library(engine, full=full).findings}


def test_a_sound_library_passes_the_check(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        uid = imported(engine, tmp_path / "in")
        list_studies.thumbnail(engine, browse.series_of(engine, uid)[0].key)
        make_backup(engine)
        for full in (False, True):
            check = backup.check_library(engine, full=full)
            assert (check.ok, check.findings, check.full) == (True, (), full)
            assert (check.studies, check.instances) == (1, 4)
            assert check.events > 0
        events = [r.event_code for r in verify_audit.list_events(engine)]
        assert events.count("library-check") == 2


def test_a_full_check_reads_linked_files_only_when_asked(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        imported(engine, tmp_path / "in", mode="link")
        file = next(path for path in sorted((tmp_path / "in").rglob("*")) if path.is_file())
        stamp = file.stat()
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert check_library.check_library(engine, full=True, linked=False).ok
        codes = {f.code for f in check_library.check_library(engine, full=True).findings}
        assert "check.link_changed" in codes


def test_the_check_names_what_is_missing_changed_or_left_over(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        imported(engine, tmp_path / "in")
        copies = sorted(path for path in engine.paths.instances.rglob("*") if path.is_file())
        copies[0].unlink()
        copies[1].write_bytes(copies[1].read_bytes()[:-1] + b"?")
        insert_study(engine, "1.2.5", "1.2.5.1", folder=tmp_path / "gone")
        stray = engine.paths.instances / "ab" / "stray.dcm"
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"x")
        (engine.paths.thumbnails / "stray.bin").write_bytes(b"x")
        (engine.paths.results / "r0").mkdir()
        (engine.paths.results / "r0" / "labels.nii.gz").write_bytes(b"x")
        check = check_library.check_library(engine, full=True)
        assert not check.ok
        assert {f.code: f.count for f in check.findings} == {
            "check.copy_missing": 1,
            "check.copy_changed": 1,
            "check.link_missing": 3,
            "check.orphans": 3,
            "check.no_backup": 1,
        }
        assert len(check.missing_files) == 4
        assert set(check.orphans) == {
            stray,
            engine.paths.thumbnails / "stray.bin",
            engine.paths.results / "r0",
        }
        assert check_library.delete_orphans(engine).files == 3
        assert "check.orphans" not in codes_of(engine)
        assert copies[1].exists()
        assert not stray.exists()


def test_the_check_finds_broken_seals_sums_and_words(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        for number in range(3):
            insert_study(engine, f"1.2.{number}", f"1.2.{number}.1", folder=tmp_path)
        with engine.unit_of_work() as uow:
            run = uow.session.connection().exec_driver_sql
            run("UPDATE identity_vault SET sealed = x'0102' WHERE study_uid = '1.2.0'")
            run("UPDATE study SET series_count = 7 WHERE study_uid = '1.2.1'")
            run("DELETE FROM study_search WHERE rowid = 3")
            run("DELETE FROM identity_vault WHERE study_uid = '1.2.2'")
        codes = codes_of(engine)
        assert codes["check.seals"] == 1
        assert codes["check.sums"] == 1
        assert codes["check.words"] == 1
        assert codes["check.no_identity"] == 1


def test_an_unknown_study_is_an_input_error(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine, pytest.raises(InputError):
        browse.study_line(engine, "1.2.3")


def test_a_full_check_is_due_after_a_week(tmp_path: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=7, minutes=1)
    with make_engine(tmp_path) as engine:
        assert not check_library.full_check_due(engine, later), "nothing was ever checked"
        check_library.check_library(engine)
        assert not check_library.full_check_due(engine)
        assert check_library.full_check_due(engine, later), "a quick check is no full one"
        check_library.check_library(engine, full=True)
        assert not check_library.full_check_due(engine, later - timedelta(hours=1))
        assert check_library.full_check_due(engine, later + timedelta(hours=1))
