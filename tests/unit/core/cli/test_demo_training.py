"""The demonstration's training says why it was left out, and its recipe is the shipped one made small."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from core.cli import demo_training
from core.domain.progress import no_progress
from core.recipes.load import load_recipe
from core.recipes.sources.registry import list_cases


def test_the_installed_application_leaves_it_out_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    found = demo_training.train_on_reports(tmp_path / "out", no_progress)
    assert found["done"] is False
    assert "installed application" in found["reason"]
    assert found["summary"].startswith("left out")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    known = demo_training.find_spec

    def without_transformers(name: str) -> ModuleSpec | None:
        return None if name == "transformers" else known(name)

    monkeypatch.setattr(demo_training, "find_spec", without_transformers)
    assert demo_training.why_left_out() == "transformers isn't installed; install overread[train]"


def test_it_needs_no_data_and_has_few_cases() -> None:
    recipe = load_recipe(demo_training.RECIPE, list(demo_training.SETTINGS))
    cases = list_cases(recipe.data.source, None)
    assert len(cases) == 208
    assert recipe.network.name == "image_text"
