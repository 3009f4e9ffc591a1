"""What is made ready while nobody waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bridge.gateway import EngineGateway
from core.domain.errors import EnvironmentFault
from core.jobs import import_process
from tests.fakes.engines import make_engine


def test_the_process_that_imports_is_there_before_the_first_import(tmp_path: Path) -> None:
    make_engine(tmp_path).close()
    gateway = EngineGateway(tmp_path / "home", lambda _: None)
    gateway.open()
    try:
        gateway.warm_up()
        process = gateway._import_process()
        first = process.pid
        assert first is not None
        gateway.warm_up()
        assert process.pid == first
    finally:
        gateway.close()
    assert process.pid is None
    with pytest.raises(EnvironmentFault):
        process.start()


def test_a_process_that_can_t_be_started_keeps_nothing_else_from_being_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_process, "importer_command", lambda: [str(tmp_path / "none")])
    make_engine(tmp_path).close()
    gateway = EngineGateway(tmp_path / "home", lambda _: None)
    gateway.open()
    try:
        gateway.warm_up()
    finally:
        gateway.close()
