from __future__ import annotations

import hmac
import json
from dataclasses import astuple
from pathlib import Path

import pytest

from core.audit import head_file
from core.audit.anchors import ANCHOR_EVERY
from core.audit.chain import canonical, record_hash
from core.audit.detail import canonical_detail
from core.domain.audit import AuditCode, AuditRecord
from core.domain.errors import BugError, EnvironmentFault, SafetyError
from core.library.repositories.audit import AuditRepository
from core.services import list_studies, verify_audit
from core.services.engine import open_engine
from tests.fakes.engines import STUDY_UID, insert_study, make_engine


def test_the_canonical_form_is_json_and_the_hash_is_hmac_sha256() -> None:
    record = AuditRecord(
        7, "2026-01-01", 5, "b", 'Dr "Ä" \\ \n\x01', "os", "r", "s", "höst", "0.1", "p", "decision", "decision", "C",
        "study", "ref", 2, '{"count":1}', 0, "",
    )  # fmt: skip
    wanted = json.dumps(astuple(record), separators=(",", ":")).encode()
    assert canonical(astuple(record)) == wanted
    key, prev = bytes(range(32)), b"p" * 32
    assert record_hash(key, prev, record) == hmac.digest(key, prev + wanted, "sha256")


@pytest.mark.parametrize(
    "actor", ["Dr. Ä ß 字", 'quote " back \\ slash', "del \x7f tab \t nl \n bell \x07", "'"]
)
def test_rare_characters_in_a_name_do_not_break_the_chain(tmp_path: Path, actor: str) -> None:
    with make_engine(tmp_path, actor=actor) as engine:
        engine.record(AuditCode.EXPORT)
        assert verify_audit.verify(engine).ok


def test_start_and_stop_are_recorded_and_the_end_is_signed(tmp_path: Path) -> None:
    make_engine(tmp_path).close()
    with open_engine(tmp_path / "home") as engine:
        records = verify_audit.list_events(engine)
        codes = [r.event_code for r in records]
        assert codes == ["110120", "110121", "110120", "110101"]
        assert [r.seq for r in records] == [1, 2, 3, 4]
        assert records[0].user_id == "reader"
        assert records[0].event_type == "application-start"
        outcome = verify_audit.verify(engine)
    assert (outcome.events, outcome.ok, outcome.first_bad_seq, outcome.anchors) == (4, True, None, 1)


def test_every_hundredth_record_is_anchored(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        with engine.unit_of_work():
            for _ in range(2 * ANCHOR_EVERY):
                engine.record(AuditCode.QUERY, detail={"hits": 1})
        outcome = verify_audit.verify(engine)
        assert outcome.ok
        assert outcome.anchors == 2


def test_a_change_and_its_record_stand_or_fall_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)

        def full(*_: object) -> None:
            raise BugError("audit.test", "The record can't be written.")

        with monkeypatch.context() as patch:
            patch.setattr(AuditRepository, "append", full)
            with pytest.raises(BugError):
                list_studies.set_status(engine, STUDY_UID, "reviewed")
        assert list_studies.get_study(engine, STUDY_UID).status == "unread"
        list_studies.set_status(engine, STUDY_UID, "reviewed")
        assert list_studies.get_study(engine, STUDY_UID).status == "reviewed"
        assert verify_audit.verify(engine).ok


def test_records_in_a_rolled_back_block_leave_no_gap(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        with pytest.raises(RuntimeError), engine.unit_of_work():
            engine.record(AuditCode.EXPORT)
            raise RuntimeError
        engine.record(AuditCode.EXPORT)
        assert [r.seq for r in verify_audit.list_events(engine)] == [1, 2, 3]
        assert verify_audit.verify(engine).ok


@pytest.mark.parametrize(
    "detail",
    [
        {"patient_name": "x"},
        {"kind": "Doe^John"},
        {"kind": "a" * 200},
        {"count": float("nan")},
        {"kind": None},
    ],
)
def test_a_detail_that_could_hold_identity_fails_the_operation(detail: dict) -> None:
    with pytest.raises(BugError) as caught:
        canonical_detail(detail)
    assert caught.value.code == "audit.detail"
    assert "Doe" not in caught.value.user_message


def test_a_uid_enters_the_trail_as_its_keyed_hash_only(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        engine.record(AuditCode.EXPORT, object_kind="study", object_ref=STUDY_UID)
        engine.record(AuditCode.MODEL_ADDED, object_kind="model", object_ref="thorax-ct")
        study, model = verify_audit.list_events(engine)[1:3]
    assert len(study.object_ref) == 32
    assert STUDY_UID not in study.object_ref
    assert model.object_ref == "thorax-ct"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET user_id = 'x' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 1",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1",
        "UPDATE audit_anchor SET ts_utc = ''",
        "DELETE FROM audit_anchor",
    ],
)
def test_the_database_itself_refuses_to_change_the_trail(tmp_path: Path, statement: str) -> None:
    make_engine(tmp_path).close()
    with open_engine(tmp_path / "home") as engine:
        with pytest.raises(SafetyError) as caught, engine.unit_of_work() as uow:
            uow.session.connection().exec_driver_sql(statement)
        assert caught.value.code == "audit.append_only"
        assert verify_audit.verify(engine).ok


def test_searches_are_recorded_as_counts_and_not_at_each_key(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        for length in range(1, 8):
            list_studies.list_studies(engine, "planted"[:length])
        queries = [r for r in verify_audit.list_events(engine) if r.event_code == "110112"]
        assert len(queries) == 1
    with open_engine(tmp_path / "home") as engine:
        queries = [r for r in verify_audit.list_events(engine) if r.event_code == "110112"]
        assert queries[1].detail_json == '{"queries":6}'
        assert not any("planted" in r.detail_json for r in queries)


def test_the_key_of_another_home_does_not_open_the_library(tmp_path: Path) -> None:
    make_engine(tmp_path).close()
    open_engine(tmp_path / "other").close()
    (tmp_path / "other" / "keys" / "master.key").replace(tmp_path / "home" / "keys" / "master.key")
    with pytest.raises(EnvironmentFault) as caught:
        open_engine(tmp_path / "home")
    assert caught.value.code == "library.wrong_key"


@pytest.mark.expects_logs
def test_a_head_that_cannot_be_noted_does_not_undo_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        with monkeypatch.context() as patch:
            patch.setattr(head_file, "atomic_write_bytes", full_disk)
            list_studies.set_status(engine, STUDY_UID, "reviewed")
        assert "audit.head_not_written" in caplog.text
        assert list_studies.get_study(engine, STUDY_UID).status == "reviewed"
        assert verify_audit.verify(engine).ok
        engine.record(AuditCode.EXPORT)
        head = engine.head_file.read()
        assert head is not None
        assert head.seq == 3


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
