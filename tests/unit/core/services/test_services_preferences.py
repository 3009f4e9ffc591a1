"""Settings changed while the program runs, and the two moments of reading first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config.settings import load_settings
from core.domain.audit import AuditRecord
from core.domain.errors import InputError
from core.services import preferences, read_first, verify_audit
from core.services.engine import Engine, open_engine
from tests.fakes.engines import SERIES_UID


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(tmp_path / "home") as opened:
        yield opened


def events(engine: Engine, code: str) -> list[AuditRecord]:
    return [record for record in verify_audit.list_events(engine) if record.event_code == code]


def test_changes_are_kept_and_what_matters_is_audited(engine: Engine) -> None:
    preferences.change_settings(engine, theme="light", corner_texts=False, ai_hidden_until_asked=True)
    kept, notice = load_settings(engine.paths.settings)
    assert (kept.theme, kept.overlay.corner_texts, kept.ai_hidden_until_asked, notice) == (
        "light",
        False,
        True,
        "",
    )
    details = [json.loads(record.detail_json) for record in events(engine, "110131")]
    assert details == [{"setting": "ai_hidden_until_asked", "to": True}]


def test_the_same_again_writes_nothing(engine: Engine) -> None:
    preferences.change_settings(engine, theme=engine.settings.theme, corner_texts=True)
    assert not engine.paths.settings.exists()


def test_the_readers_name_stands_in_the_trail_from_then_on(engine: Engine) -> None:
    before = engine.actor
    preferences.change_settings(engine, reader_name="  Dr. Bo ")
    assert engine.actor == "Dr. Bo"
    read_first.note_first_look(engine, SERIES_UID)
    assert events(engine, "110131")[0].user_id == before
    assert events(engine, "read-first")[0].user_id == "Dr. Bo"
    preferences.change_settings(engine, reader_name="")
    assert engine.actor == before
    assert verify_audit.verify(engine).ok


def test_a_value_that_is_not_allowed_changes_nothing(engine: Engine) -> None:
    with pytest.raises(InputError) as caught:
        preferences.change_settings(engine, theme="../x", reader_name="X")
    assert caught.value.code == "settings.invalid"
    assert engine.settings.reader_name == "" and not events(engine, "110131")


def test_first_look_and_reveal_are_recorded_without_the_uid(engine: Engine) -> None:
    read_first.note_first_look(engine, SERIES_UID)
    read_first.note_first_look(engine, SERIES_UID)
    read_first.note_reveal(engine, SERIES_UID, 61.234)
    found = events(engine, "read-first")
    assert [json.loads(record.detail_json) for record in found] == [
        {"state": "first look"},
        {"seconds": 61.2, "state": "revealed"},
    ]
    assert {record.object_kind for record in found} == {"series"}
    assert SERIES_UID not in "".join(record.object_ref for record in found)
    xml = engine.paths.root / "trail.xml"
    verify_audit.export_events(engine, "xml", xml)
    assert "read-first" in xml.read_text("utf-8")
