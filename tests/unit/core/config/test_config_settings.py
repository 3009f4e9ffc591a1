from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.config import settings as module
from core.config.settings import Settings, load_settings, save_settings
from core.domain.errors import EnvironmentFault


def test_settings_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    wanted = Settings(reader_name="Dr. Ä", theme="light", ai_hidden_until_asked=True)
    save_settings(path, wanted)
    assert load_settings(path) == (wanted, "")


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "settings.json") == (Settings(), "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "isn't JSON"),
        ("[]", ""),
        ('{"theme": "Pink one"}', "theme"),
        ('{"unknown": 1}', "unknown"),
        ('{"overlay": {"opacity": 7}}', "overlay.opacity"),
    ],
)
def test_a_file_that_cannot_be_understood_is_set_aside(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    settings, notice = load_settings(path)
    assert settings == Settings()
    assert said in notice
    assert (tmp_path / "settings.invalid.json").read_text() == text


def test_a_newer_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"schema_version": 99}')
    with pytest.raises(EnvironmentFault) as caught:
        load_settings(path)
    assert caught.value.code == "settings.newer"
    assert path.exists()


def test_an_older_file_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def from_zero(document: dict) -> dict:
        return {"reader_name": document["name"], "schema_version": 1}

    monkeypatch.setitem(module.MIGRATIONS, 0, from_zero)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"schema_version": 0, "name": "R"}))
    assert load_settings(path) == (Settings(reader_name="R"), "")


def test_settings_that_are_not_valid_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    with pytest.raises(ValueError, match="reading_layout"):
        save_settings(path, Settings().model_copy(update={"reading_layout": "spiral"}))
    assert not path.exists()
