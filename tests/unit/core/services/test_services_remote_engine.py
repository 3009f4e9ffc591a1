"""Connecting model servers: what is kept where, what is recorded, and what another model leads to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import pytest

from core.bundles.bundle import Bundle
from core.domain.errors import AppError, EnvironmentFault, InputError
from core.services import remote_engine, verify_audit
from core.services.engine import Engine, open_engine
from core.services.remote_models import find_remote, list_remote_models
from tests.fakes.bundles import make_segmentation_bundle
from tests.fakes.engines import SERIES_UID
from tests.fakes.recording_server import Recorded, Reply, serving

TOKEN = "secret-token-of-more-than-32-characters-1"
HEALTH = {"status": "healthy", "model_loaded": True, "device": "cpu", "model_version": "v1.0.0"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_segmentation_bundle(tmp_path / "bundle")


class Server:
    """A server with a bundle's description; ``changes`` replace fields of it."""

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self.changes: dict[str, Any] = {}
        self.token, self.health = TOKEN, HEALTH
        self._info = {
            "id": manifest.id,
            "version": manifest.version,
            "title": manifest.title,
            "task": manifest.task,
            "kind": manifest.requirements.kind,
            "labels": [{"value": label.value, "name": label.name} for label in manifest.labels],
            "intended_use": manifest.intended_use,
            "licence": manifest.licence,
            "card": "# Card",
            "sha256": bundle.identity.sha256,
            "verified": True,
            "max_upload_bytes": 1 << 29,
            "max_files": 64,
        }

    def __call__(self, _method: str, path: str, _body: bytes) -> Reply:
        if path == "/health":
            return Reply(200 if self.health["model_loaded"] else 503, json.dumps(self.health).encode())
        return Reply(body=json.dumps(self._info | self.changes).encode())


@pytest.fixture
def server(bundle: Bundle) -> Server:
    return Server(bundle)


@pytest.fixture
def at(server: Server) -> Iterator[Recorded]:
    with serving(server) as recorded:
        yield recorded


def records(engine: Engine) -> list[dict[str, Any]]:
    found = [record for record in verify_audit.list_events(engine) if record.event_code == "110129"]
    return [json.loads(record.detail_json) | {"action": record.action} for record in found]


def everything_on_disk(engine: Engine) -> bytes:
    return b"".join(file.read_bytes() for file in engine.paths.root.rglob("*") if file.is_file())


def test_a_connected_server_is_kept_without_its_token_and_recorded(engine: Engine, at: Recorded) -> None:
    row = remote_engine.connect_engine(engine, "reading-room", at.url, TOKEN)
    assert (row.model_id, row.model_version, row.url) == ("fake-threshold", "1.0.0", at.url)
    assert remote_engine.list_engines(engine) == [row]
    assert TOKEN not in engine.paths.settings.read_text()
    assert TOKEN.encode() not in everything_on_disk(engine), "without a keyring the token is sealed"
    assert remote_engine.spec_of(engine, engine.settings.remote_engines[0]).token == TOKEN
    assert [(r["action"], r["as"], r["to"], r["model_id"]) for r in records(engine)] == [
        ("C", "reading-room", at.url, "fake-threshold")
    ]
    remote_engine.forget_engine(engine, "reading-room")
    assert [r["action"] for r in records(engine)] == ["C", "D"]
    assert remote_engine.list_engines(engine) == [] and not list(engine.paths.root.glob("engines/*"))
    with pytest.raises(InputError) as refused:
        remote_engine.find_engine(engine, "reading-room")
    assert refused.value.code == "engine.unknown"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that forgets everything afterwards."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


def test_the_keyring_keeps_the_token_where_there_is_one(engine: Engine, at: Recorded) -> None:
    before, memory = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(memory)
    try:
        remote_engine.connect_engine(engine, "reading-room", at.url, TOKEN)
        assert list(memory.entries.values()) == [TOKEN]
        assert not list(engine.paths.root.glob("engines/*.token"))
        assert remote_engine.spec_of(engine, engine.settings.remote_engines[0]).token == TOKEN
        remote_engine.forget_engine(engine, "reading-room")
        assert memory.entries == {}
    finally:
        keyring.set_keyring(before)


def test_nothing_is_kept_of_a_server_that_refuses_or_is_nonsense(
    engine: Engine, server: Server, at: Recorded
) -> None:
    for changes in ({"id": "../x"}, {"sha256": "?"}, {"labels": []}, {"task": "magic"}, {"version": "new"}):
        server.changes = changes
        with pytest.raises(AppError):
            remote_engine.connect_engine(engine, "reading-room", at.url, TOKEN)
    assert remote_engine.list_engines(engine) == [] and records(engine) == []
    assert not list(engine.paths.root.glob("engines/*"))


def test_another_address_never_gets_the_known_token(engine: Engine, server: Server, at: Recorded) -> None:
    remote_engine.connect_engine(engine, "reading-room", at.url, TOKEN)
    at.requests.clear()
    remote_engine.connect_engine(engine, "reading-room", at.url)
    assert TOKEN.encode() in at.everything
    with serving(server) as elsewhere:
        remote_engine.connect_engine(engine, "reading-room", elsewhere.url)
    assert TOKEN.encode() not in elsewhere.everything


def test_a_test_tells_another_model_and_reconnecting_takes_it(
    engine: Engine, server: Server, at: Recorded
) -> None:
    remote_engine.connect_engine(engine, "reading-room", at.url, TOKEN)
    assert (
        remote_engine.check_engine(engine, "reading-room").words
        == "Ready: Fake tissue thresholds 1.0.0 on its cpu."
    )
    server.changes = {"sha256": "a" * 64}
    found = remote_engine.check_engine(engine, "reading-room")
    assert found.state == remote_engine.OTHER_MODEL and "other weights" in found.words and not found.ready
    remote_engine.reconnect_engine(engine, "reading-room")
    assert remote_engine.check_engine(engine, "reading-room").ready
    assert [r["model_sha256"][:2] for r in records(engine)][-1] == "aa"
    server.health = HEALTH | {"model_loaded": False, "status": "loading"}
    assert remote_engine.check_engine(engine, "reading-room").state == remote_engine.LOADING
    assert remote_engine.health_of(engine, "reading-room").words == "reading-room is loading its model."


def test_a_server_that_is_away_is_said_to_be(engine: Engine, at: Recorded, server: Server) -> None:
    with serving(server) as away:
        remote_engine.connect_engine(engine, "away", away.url, TOKEN)
    assert remote_engine.check_engine(engine, "away").state == remote_engine.UNREACHABLE
    assert remote_engine.health_of(engine, "away").words == "away can't be reached."


def test_the_requirements_come_from_the_server_else_from_the_same_model_here(
    engine: Engine, server: Server, at: Recorded, bundle: Bundle
) -> None:
    row = remote_engine.connect_engine(engine, "reading-room", at.url, TOKEN)
    made = find_remote(engine, "server:reading-room/fake-threshold").manifest
    assert not row.knows_needs and made.requirements.modalities == () and made.requirements.regular
    assert [label.name for label in made.labels] == ["Soft tissue", "Bone"]
    assert made.labels[0].color_rgb != made.labels[1].color_rgb
    make_segmentation_bundle(engine.paths.bundles / "fake-threshold")
    assert remote_engine.reconnect_engine(engine, "reading-room").knows_needs
    known = find_remote(engine, "server:reading-room/fake-threshold")
    assert known.manifest == bundle.manifest and known.identity == bundle.identity
    server.changes = {"id": "other-one", "manifest": bundle.manifest.to_json().decode()}
    with pytest.raises(EnvironmentFault, match="another model"):
        remote_engine.connect_engine(engine, "second", at.url, TOKEN)
    told = bundle.manifest.model_copy(update={"id": "other-one"})
    server.changes["manifest"] = told.to_json().decode()
    assert remote_engine.connect_engine(engine, "second", at.url, TOKEN).knows_needs
    assert find_remote(engine, "server:second/other-one").manifest == told
    with pytest.raises(InputError, match="has the model other-one"):
        find_remote(engine, "server:second/fake-threshold")


def test_models_of_servers_are_listed_without_asking_them(engine: Engine, at: Recorded) -> None:
    remote_engine.connect_engine(engine, "reading-room", at.url, TOKEN)
    at.requests.clear()
    row = list_remote_models(engine)[0]
    assert (row.id, row.fits, row.labels) == (
        "server:reading-room/fake-threshold",
        None,
        ("Soft tissue", "Bone"),
    )
    assert row.explain_methods == () and "another computer" in row.explain_why
    assert at.requests == []
    for file in engine.paths.root.glob("engines/*.json"):
        file.write_text("{")
    assert "Connect" not in list_remote_models(engine)[0].title
    assert "gone or damaged" in list_remote_models(engine)[0].why
    assert SERIES_UID not in str(at.everything)
