"""``overread explore``, ``stats`` and ``init`` as another program calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from core.cli import recipe_commands
from core.domain.errors import AppError, SafetyError
from core.recipes.load import load_recipe
from core.recipes.yaml_text import write_yaml
from tests.fakes.recipes import class_folders, noise, save_picture, tiny_recipe

APP = typer.Typer()
recipe_commands.register(APP)


def ran(*arguments: str | Path, answers: str = "") -> str:
    """Return what a command wrote to standard output; its error is raised."""
    done = CliRunner().invoke(APP, [str(a) for a in arguments], input=answers)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def document(*arguments: str | Path) -> Any:
    return json.loads(ran(*arguments, "--json"))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", {"cat": 20, "dog": 20})


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    data = {"source": {"name": "class_folders", "classes": ["cat", "dog"]}}
    path.write_text(write_yaml(tiny_recipe(data=data)))
    return path


def test_explore_writes_its_report_and_answers_with_it(pets: Path, recipe: Path, tmp_path: Path) -> None:
    answer = document(
        "explore", pets, "--recipe", recipe, "--out", tmp_path / "out", "--set", "data.split.test=0.15"
    )
    assert answer["cases"] == 40 and answer["parts"]["test"]["cases"] == 6
    assert {file["kind"] for file in answer["files"]} == {"html", "json", "pictures", "histograms"}
    assert all(Path(file["path"]).is_file() for file in answer["files"])


def test_explore_recognises_the_layout_without_a_recipe(pets: Path, tmp_path: Path) -> None:
    text = ran("explore", pets, "--out", tmp_path / "out")
    assert "40 cases of 40 patients" in text and "train: 28 cases" in text
    assert "! Nothing says which images belong to one patient" in text


def test_stats_are_displayed_saved_and_verified(pets: Path, recipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "statistics.json"
    shown = document("stats", pets, "--recipe", recipe)
    assert shown["cases"] == 28 and shown["channels"]["image"]["count"] == 28 * 24 * 24
    assert "MEAN = (" in ran("stats", pets, "--recipe", recipe)
    document("stats", pets, "--recipe", recipe, "--mode", "save", "--file", file)
    verified = document("stats", pets, "--recipe", recipe, "--mode", "verify", "--file", file)
    assert verified["verified"] is True and verified["channels"] == shown["channels"]


def test_stats_of_changed_pictures_are_refused(pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "statistics.json"
    document("stats", pets, "--mode", "save", "--file", file)
    for number in range(20):
        save_picture(pets / "cat" / f"cat-{number:03d}.png", noise(5000 + number))
    with pytest.raises(SafetyError) as raised:
        document("stats", pets, "--mode", "verify", "--file", file)
    assert raised.value.code == "statistics.other_data"


def test_init_writes_a_recipe_without_questions(pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    answer = document("init", "--data", pets, "--network", "resnet18", "--out", file, "--yes")
    assert answer["task"] == "classification" and answer["source"] == "class_folders"
    assert load_recipe(file).network.name == "resnet18"


def test_init_asks_step_by_step(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran("init", answers=f"{pets}\nsimple_cnn\nSmall pets\nsmall.yaml\n")
    made = load_recipe(tmp_path / "small.yaml")
    assert (made.name, made.title, made.network.name) == ("small-pets", "Small pets", "simple_cnn")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--task", "segmentation"], "init.task"),
        (["--network", "resnet81"], "recipe.network"),
        (["--out", "recipe.txt"], "init.file"),
        (["--out", "there.yaml"], "init.exists"),
    ],
)
def test_init_refuses_what_does_not_fit(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").write_text("mine: 1\n")
    with pytest.raises(AppError) as raised:
        document("init", "--data", pets, *more)
    assert raised.value.code == code
    assert (tmp_path / "there.yaml").read_text() == "mine: 1\n"


def test_init_without_data_and_without_questions_is_refused() -> None:
    with pytest.raises(AppError) as raised:
        document("init")
    assert raised.value.code == "init.no_data"
