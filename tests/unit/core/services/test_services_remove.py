"""Removing studies: everything of them goes, nothing else does, and the trail stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from core.domain.browse import RetentionRule
from core.domain.errors import InputError
from core.domain.study import PatientIdentity
from core.services import browse, list_studies, remove_study, results, retention, verify_audit
from core.services.engine import Engine
from core.services.import_study import import_paths
from core.services.library_files import files_below, thumbnail_file
from core.services.remove_study import remove_studies
from tests.fakes.dicom_files import write_stack
from tests.fakes.engines import STUDY_UID, insert_study, make_engine, model_result

PAGE = 4096
RESERVED = 80
IV_AND_HMAC = 80


def imported(engine: Engine, folder: Path, mode: str) -> str:
    voxels = np.arange(4 * 8 * 10, dtype=np.int16).reshape(4, 8, 10)
    write_stack(folder, voxels, StudyDescription="CT thorax", SeriesDescription="Zwerchfell")
    (study,) = import_paths(engine, [folder], mode=mode).studies
    return study.study_uid


def decrypted_pages(file: Path, key: bytes) -> bytes:
    """Return the plain content of every page of a SQLCipher file, free pages included.

    Source: SQLCipher design, "page 1 begins with the salt; each page ends with IV and HMAC" (AES-256-CBC, raw key).
    """
    data, out = file.read_bytes(), b""
    for start in range(0, len(data), PAGE):
        page = data[start : start + PAGE]
        head = 16 if start == 0 else 0
        body, iv = page[head : PAGE - RESERVED], page[PAGE - RESERVED : PAGE - RESERVED + 16]
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        out += decryptor.update(body) + decryptor.finalize()
    return out


def test_a_removed_study_leaves_no_file_and_no_row(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        uid = imported(engine, tmp_path / "in", "copy")
        key = browse.series_of(engine, uid)[0].key
        results.store_result(engine, model_result("r1", uid, key))
        (engine.paths.results / "r1").mkdir(exist_ok=True)
        (engine.paths.results / "r1" / "heat.bin").write_bytes(b"x" * 10)
        assert list_studies.thumbnail(engine, key) is not None
        assert thumbnail_file(engine, key).exists()
        with engine.unit_of_work() as uow:
            uow.jobs.add("j1", "run", f'{{"series": "{key}"}}', "title")
            uow.jobs.set_state("j1", "running")
        with pytest.raises(InputError) as caught:
            remove_studies(engine, [uid], "duplicate")
        assert caught.value.code == "remove.in_use"
        with engine.unit_of_work() as uow:
            uow.jobs.set_state("j1", "succeeded")
        report = remove_studies(engine, [uid], "duplicate")
        assert (report.studies, report.series, report.instances, report.results) == (1, 1, 4, 1)
        assert (report.copies_deleted, report.files_left, report.undeleted) == (4, 0, 0)
        assert report.freed_bytes > 0
        assert list(files_below(engine.paths.instances)) == []
        assert list(engine.paths.thumbnails.iterdir()) == []
        assert list(engine.paths.results.iterdir()) == []
        assert browse.study_lines(engine) == []
        with engine.library.sql.connect() as connection:
            for table in (
                "study",
                "identity_vault",
                "series",
                "instance",
                "result",
                "finding",
                "study_search",
                "job",
            ):
                count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
                assert (table, count) == (table, 0)
        outcome = verify_audit.verify(engine)
        assert outcome.ok
        (deleted,) = [r for r in verify_audit.list_events(engine) if r.event_code == "110105"]
        assert (deleted.action, deleted.n_objects) == ("D", 4)
        assert '"kind":"duplicate"' in deleted.detail_json
        assert uid not in repr(deleted)
        assert len(list((tmp_path / "in").iterdir())) == 4


def test_linked_files_are_never_touched(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        uid = imported(engine, tmp_path / "in", "link")
        before = {file.name: file.read_bytes() for file in (tmp_path / "in").iterdir()}
        report = remove_studies(engine, [uid], "no-longer-needed")
        assert (report.copies_deleted, report.files_left) == (0, 4)
        assert {file.name: file.read_bytes() for file in (tmp_path / "in").iterdir()} == before
        assert import_paths(engine, [tmp_path / "in"]).counts["instances"] == 4


def test_no_page_of_the_library_remembers_a_removed_study(tmp_path: Path) -> None:
    identity = PatientIdentity("ZZCANARY^PHI", "ZZCANARY-ID", "19010101", "F", "ZZACC-1", "ZZREF^ONE")
    with make_engine(tmp_path) as engine:
        for number in range(30):
            insert_study(
                engine, f"1.2.7.{number}", f"1.2.7.{number}.1", identity=PatientIdentity("Other^One", "7")
            )
        insert_study(
            engine, "1.2.99.4711", "1.2.99.4711.1", identity=identity, description="Zwerchfell Zzcanary"
        )
        with engine.library.sql.connect() as connection:
            sealed = connection.exec_driver_sql(
                "SELECT sealed FROM identity_vault WHERE study_uid = '1.2.99.4711'"
            ).scalar()
        pseudonym = list_studies.get_study(engine, "1.2.99.4711").pseudonym
        key = engine.keys.derive("database")
        marks = (b"1.2.99.4711", b"zwerchfell", pseudonym.encode(), pseudonym.lower().encode(), bytes(sealed))
        engine.library.checkpoint()
        planted = decrypted_pages(engine.paths.database, key)
        assert all(mark in planted for mark in marks)
        assert b"zzcanary" not in planted.lower()
        remove_studies(engine, ["1.2.99.4711"], "patient-request")
        after = decrypted_pages(engine.paths.database, key)
        assert b"1.2.7.3" in after
        assert [mark for mark in marks if mark in after] == []
        wal = engine.paths.database.with_name(engine.paths.database.name + "-wal")
        assert not wal.exists() or wal.stat().st_size == 0
    assert b"ZZCANARY" not in b"".join(file.read_bytes() for file in files_below(tmp_path / "home"))


def test_a_removal_that_cannot_be_done_removes_nothing(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        for uids, reason, code in (
            ([STUDY_UID], "  ", "remove.no_reason"),
            ([STUDY_UID, "1.2.3"], "duplicate", "library.unknown_study"),
        ):
            with pytest.raises(InputError) as caught:
                remove_studies(engine, uids, reason)
            assert caught.value.code == code
        assert len(browse.study_lines(engine)) == 1


def test_a_free_reason_is_noted_but_not_written_down(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        remove_studies(engine, [STUDY_UID], "Mrs Planted asked for it")
        (record,) = [r for r in verify_audit.list_events(engine) if r.event_code == "110105"]
        assert "Planted" not in repr(record)
        assert '"kind":"other"' in record.detail_json


def test_many_studies_go_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remove_study, "_AT_ONCE", 2)
    with make_engine(tmp_path) as engine:
        for number in range(5):
            insert_study(engine, f"1.2.{number}", f"1.2.{number}.1")
        report = remove_studies(engine, [f"1.2.{n}" for n in range(4)], "retention")
        assert (report.studies, report.series, report.files_left) == (4, 4, 0)
        assert [line.study_uid for line in browse.study_lines(engine)] == ["1.2.4"]


def at(days_ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(timespec="milliseconds")


def test_a_rule_takes_only_what_its_preview_shows(tmp_path: Path) -> None:
    rule = RetentionRule("a year after the review", 365, ("reviewed",), ("teaching",))
    with make_engine(tmp_path) as engine:
        for number, days in enumerate((400, 500, 600, 700, 30)):
            insert_study(engine, f"1.2.{number}", f"1.2.{number}.1", imported_utc=at(days), folder=tmp_path)
            if number != 0:
                browse.set_status(engine, f"1.2.{number}", "reviewed")
        browse.add_tag(engine, "1.2.1", "Teaching")
        results.store_result(engine, model_result("r1", "1.2.2", "1.2.2.1"))
        retention.save_rule(engine, rule)
        assert retention.rules(engine) == [rule]
        assert [line.study_uid for line in retention.preview(engine, rule)] == ["1.2.3"]
        assert len(browse.study_lines(engine)) == 5
        waits = RetentionRule("all", 365, ("reviewed",), keep_waiting=False)
        assert [line.study_uid for line in retention.preview(engine, waits)] == ["1.2.3", "1.2.2", "1.2.1"]
        copies = RetentionRule("copies", 365, (), copies_only=True)
        assert retention.preview(engine, copies) == []
        insert_study(engine, "1.2.9", "1.2.9.1", imported_utc=at(900))
        assert [line.study_uid for line in retention.preview(engine, copies)] == ["1.2.9"]
        assert retention.apply(engine, rule).studies == 1
        assert retention.apply(engine, rule).studies == 0
        assert {line.study_uid for line in browse.study_lines(engine)} == {
            "1.2.0",
            "1.2.1",
            "1.2.2",
            "1.2.4",
            "1.2.9",
        }
        retention.delete_rule(engine, rule.name)
        assert retention.rules(engine) == []
        codes = [record.event_code for record in verify_audit.list_events(engine)]
        assert codes.count("retention-rule") == 2
        assert codes.count("retention-applied") == 1


@pytest.mark.parametrize(
    "rule",
    [
        RetentionRule("", 10),
        RetentionRule("x" * 81, 10),
        RetentionRule("x", 0),
        RetentionRule("x", 10, ("lost",)),
        RetentionRule("a\nb", 10),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(tmp_path: Path, rule: RetentionRule) -> None:
    with make_engine(tmp_path) as engine:
        with pytest.raises(InputError) as caught:
            retention.save_rule(engine, rule)
        assert caught.value.code == "retention.invalid"
        with pytest.raises(InputError):
            retention.rule_named(engine, "none")
        with pytest.raises(InputError):
            retention.delete_rule(engine, "none")
