from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.config.locks import file_lock
from core.config.paths import Paths
from core.config.resources import resource_path, shipped_bundles_dir, shipped_root
from core.domain.errors import EnvironmentFault


def test_the_home_is_the_argument_then_the_variable_then_the_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERREAD_HOME", str(tmp_path / "variable"))
    assert Paths.resolve(tmp_path / "argument").root == tmp_path / "argument"
    assert Paths.resolve().root == tmp_path / "variable"
    monkeypatch.delenv("OVERREAD_HOME")
    assert Paths.resolve().root.name == "overread"


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault) as caught:
        Paths(tmp_path / "file" / "home").create()
    assert caught.value.code == "home.not_writable"


def test_shipped_files_are_found_in_the_tree_and_in_the_frozen_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (shipped_root() / "pyproject.toml").exists()
    assert shipped_bundles_dir() == shipped_root() / "models" / "bundles"
    (tmp_path / "resources" / "themes").mkdir(parents=True)
    (tmp_path / "resources" / "themes" / "dark.toml").touch()
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path), raising=False)
    assert resource_path("themes/dark.toml") == tmp_path / "resources" / "themes" / "dark.toml"
    with pytest.raises(FileNotFoundError):
        resource_path("themes/none.toml")
    with pytest.raises(ValueError, match="not under"):
        resource_path("../pyproject.toml")


def test_a_lock_held_elsewhere_is_refused_in_time(tmp_path: Path) -> None:
    with (
        file_lock(tmp_path / "x.lock"),
        pytest.raises(EnvironmentFault) as caught,
        file_lock(tmp_path / "x.lock", timeout_s=0.05),
    ):
        pass
    assert caught.value.code == "lock.busy"
    with file_lock(tmp_path / "x.lock", timeout_s=0.05):
        pass
