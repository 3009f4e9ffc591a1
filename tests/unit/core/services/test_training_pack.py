"""An installation without the training pack says so before anybody chooses cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.services import training_cases, training_pack
from core.services.engine import open_engine


def test_nothing_is_missing_here_and_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_pack.missing_training_pack() == ()
    monkeypatch.setattr(training_pack, "MODULES", ("torch", "no_such_library"))
    assert training_pack.missing_training_pack() == ("no_such_library",)


def test_the_preview_refuses_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_cases, "missing_training_pack", lambda: ("lightning",))
    with open_engine(tmp_path / "home") as engine:
        preview = training_cases.preview_cases(engine, "thorax-ct")
    assert not preview.can_start
    assert preview.refusal_code == "training.not_installed"
    assert "overread[train]" in preview.remedy
