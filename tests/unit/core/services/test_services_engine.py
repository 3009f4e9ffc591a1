from __future__ import annotations

from pathlib import Path

import pytest

from core.config.settings import Settings
from core.domain.audit import AuditCode
from core.services import verify_audit
from core.services.engine import open_engine
from tests.fakes.engines import make_engine


def test_the_actor_is_the_argument_then_the_setting_then_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "account")
    with open_engine(tmp_path / "home") as engine:
        assert engine.actor == "account"
        engine.save_settings(Settings(reader_name="Dr. Reader"))
    with open_engine(tmp_path / "home") as engine:
        assert engine.actor == "Dr. Reader"
    with make_engine(tmp_path, actor="other") as engine:
        assert engine.actor == "other"


def test_a_person_is_told_about_the_key_file_and_about_reset_settings(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "settings.json").write_text("{")
    with make_engine(tmp_path) as engine:
        assert len(engine.notices) == 2
        assert engine.notices[0] == engine.keys.notice


def test_folders_of_the_home_are_the_owners_alone(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        assert engine.paths.keys.stat().st_mode & 0o077 == 0
        assert engine.paths.results.stat().st_mode & 0o077 == 0


def test_a_record_joins_the_open_unit_of_work_of_its_thread(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        with pytest.raises(RuntimeError), engine.unit_of_work() as uow:
            engine.record(AuditCode.EXPORT)
            assert uow.audit.count() == 2
            raise RuntimeError
        with engine.unit_of_work(writes=False) as uow:
            assert uow.audit.count() == 1
            engine.record(AuditCode.EXPORT)
        assert [r.event_code for r in verify_audit.list_events(engine)][:2] == ["110120", "110106"]


def test_a_reading_unit_of_work_cannot_record(tmp_path: Path) -> None:
    from core.domain.audit import AuditEvent

    with (
        make_engine(tmp_path) as engine,
        pytest.raises(RuntimeError),
        engine.unit_of_work(writes=False) as uow,
    ):
        uow.record(AuditEvent(AuditCode.EXPORT))


def test_an_engine_may_be_closed_twice(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    engine.close()
    engine.close()


def test_opening_pictures_is_recorded_once_per_series(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        for _ in range(3):
            engine.note_access("1.2.3", "1.2.3.4", 17)
        accessed = [r for r in verify_audit.list_events(engine) if r.event_code == "110103"]
        assert [r.n_objects for r in accessed] == [17]
        assert "1.2.3" not in accessed[0].object_ref
