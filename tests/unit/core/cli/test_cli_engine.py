"""``overread engine`` and ``run --engine``, in this process, with a server of our making."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from core.cli.main import run
from tests.fakes.recording_server import Recorded, Reply, serving

TOKEN = "secret-token-of-more-than-32-characters-1"
INFO = {
    "id": "fake", "version": "1.0.0", "title": "Fake", "task": "classification", "kind": "image",
    "labels": [{"value": 0, "name": "calm"}, {"value": 1, "name": "stirred"}],
    "intended_use": "Tests.", "licence": "MIT", "sha256": "ab" * 32, "verified": False,
    "max_upload_bytes": 1 << 29, "max_files": 4,
}  # fmt: skip
HEALTH = {"status": "healthy", "model_loaded": True, "device": "cpu", "model_version": "v1.0.0"}


class Told:
    """What a test's server says of itself."""

    info: dict[str, Any] = INFO

    def __call__(self, _method: str, path: str, _body: bytes) -> Reply:
        return Reply(body=json.dumps(HEALTH if path == "/health" else self.info).encode())


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def at(told: Told) -> Iterator[Recorded]:
    with serving(told) as recorded:
        yield recorded


def overread(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return exit status and document of a command."""
    capsys.readouterr()
    status = run([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_an_engine_is_added_listed_tested_and_removed(
    told: Told, at: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    status, added = overread(capsys, "engine", "add", "desk", "--url", at.url, "--token-file", str(file))
    assert (status, added["model_id"], added["knows_needs"]) == (0, "fake", False)
    assert TOKEN not in json.dumps(added) and TOKEN.encode() in at.everything
    assert [row["name"] for row in overread(capsys, "engine", "list")[1]["engines"]] == ["desk"]
    models = overread(capsys, "models")[1]["models"]
    assert "server:desk/fake" in [row["id"] for row in models]
    assert overread(capsys, "engine", "test", "desk")[1]["state"] == "healthy"
    told.info = INFO | {"version": "1.1.0"}
    status, found = overread(capsys, "engine", "test", "desk")
    assert (status, found["state"]) == (1, "other-model")
    assert overread(capsys, "engine", "test", "desk", "--accept")[0] == 0
    assert overread(capsys, "engine", "remove", "desk")[1] == {"name": "desk", "removed": True}
    status, refused = overread(capsys, "engine", "test", "desk")
    assert (status, refused["error"]["code"]) == (1, "engine.unknown")


def test_a_token_may_come_by_standard_input_and_must_be_one(
    at: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(TOKEN + "\n"))
    assert overread(capsys, "engine", "add", "desk", "--url", at.url, "--token-file", "-")[0] == 0
    assert TOKEN.encode() in at.everything
    (tmp_path / "empty").write_text("\n")
    for name, code in (("empty", "engine.token"), ("missing", "engine.token_file")):
        command = ("engine", "add", "b", "--url", at.url, "--token-file", str(tmp_path / name))
        status, refused = overread(capsys, *command)
        assert (status, refused["error"]["code"]) == (1, code)


def test_a_run_on_an_engine_that_nobody_connected_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status, refused = overread(capsys, "run", "fake", "--engine", "nowhere", "--series", "1.2.3")
    assert (status, refused["error"]["code"]) == (1, "engine.unknown")
