"""Recipes from files: found, included, overridden, and refused with the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.domain.errors import InputError
from core.recipes import load as load_module
from core.recipes.load import (
    dump_recipe,
    load_recipe,
    parse_recipe,
    recipe_document,
    recipe_json_schema,
    shipped_recipes,
)
from core.recipes.schema import Sgd
from core.recipes.yaml_text import write_yaml
from tests.fakes.recipes import tiny_recipe


def refused(document: dict[str, Any], overrides: Any = ()) -> InputError:
    with pytest.raises(InputError) as raised:
        parse_recipe(document, overrides)
    return raised.value


def write(folder: Path, name: str, document: dict[str, Any] | str) -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else write_yaml(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "field", "nearest"),
    [
        ({"trainin": {}}, "trainin", "training"),
        ({"training": {"epoch": 3}}, "training.epoch", "epochs"),
        ({"training": {"early_stopping": {"patiance": 3}}}, "training.early_stopping.patiance", "patience"),
        ({"optimizer": {"name": "sgd", "momentun": 0.5}}, "optimizer.momentun", "momentum"),
        (
            {"data": {"source": {"name": "class_folders", "classes": ["a", "b"], "run_lenght": 2}}},
            "data.source.run_lenght",
            "run_length",
        ),
        (
            {"preprocessing": {"intensity": [{"op": "clip", "low": 0, "high": 1, "hihg": 2}]}},
            "intensity.0.hihg",
            "high",
        ),
        ({"schedule": {"name": "cosin"}}, "schedule: “cosin”", "cosine"),
        ({"task": "segmentatoin"}, "task: “segmentatoin”", "segmentation"),
    ],
)
def test_a_wrong_name_is_refused_with_its_path_and_the_nearest_one(
    changes: dict[str, Any], field: str, nearest: str
) -> None:
    error = refused(tiny_recipe(**changes))
    assert error.code == "recipe.invalid"
    assert field in error.user_message
    assert error.remedy == f"Did you mean “{nearest}”?"


def test_the_line_of_a_wrong_field_is_told(tmp_path: Path) -> None:
    text = write_yaml(tiny_recipe()) + "training:\n  epochs: 3\n  batch_sise: 4\n"
    path = write(tmp_path, "mine.yaml", text)
    line = text.splitlines().index("  batch_sise: 4") + 1
    with pytest.raises(InputError, match=rf"training\.batch_sise \(line {line}\): there is no such field"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "message", "remedy"),
    [
        ("training.epoch=3", "There is no field “training.epoch”", "Did you mean “epochs”?"),
        ("trainin.epochs=3", "There is no field “trainin”", "Did you mean “training”?"),
        ("training.epochs", "isn't an override", "name=value"),
        ("=3", "isn't an override", "name=value"),
        ("data.source.classes.7=c", "isn't in the list", "2 entries"),
        ("name.first=x", "has no fields", "as a whole"),
        (".".join("a" * 20) + "=1", "too deep", ""),
    ],
)
def test_an_override_of_nothing_is_refused(override: str, message: str, remedy: str) -> None:
    error = refused(tiny_recipe(), [override])
    assert error.code == "recipe.override"
    assert message in error.user_message
    assert remedy in error.remedy


def test_overrides_set_values_make_sections_and_reach_into_lists() -> None:
    recipe = parse_recipe(
        tiny_recipe(transforms={"train": [{"name": "rand_flip"}]}),
        [
            "training.early_stopping.patience=3",
            "optimizer.learning_rate=1e-5",
            "transforms.train.0.name=rand_noise",
            "network.params.width=8",
            "data.source.classes=[x, y]",
        ],
    )
    assert recipe.training.early_stopping is not None and recipe.training.early_stopping.patience == 3
    assert recipe.optimizer.learning_rate == 1e-5
    assert recipe.transforms.train[0].name == "rand_noise"
    assert recipe.network.params == {"width": 8}


def test_naming_another_kind_keeps_the_fields_that_both_know() -> None:
    document = tiny_recipe(
        optimizer={"name": "sgd", "momentum": 0.5, "learning_rate": 0.2},
        network={"name": "a", "params": {"w": 1}},
    )
    recipe = parse_recipe(document, {"optimizer.name": "adam", "network.name": "b"})
    assert recipe.optimizer.name == "adam" and recipe.optimizer.learning_rate == 0.2
    assert recipe.network.params == {}
    back = parse_recipe(recipe_document(recipe), ["optimizer.name=sgd", "optimizer.momentum=0.7"])
    assert isinstance(back.optimizer, Sgd) and back.optimizer.momentum == 0.7


def test_a_shipped_recipe_is_found_by_name_and_an_unknown_one_names_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "recipes_dir", lambda: tmp_path)
    write(tmp_path, "tiny-demo.yaml", tiny_recipe())
    assert shipped_recipes() == ("tiny-demo",)
    assert load_recipe("tiny-demo") == load_recipe(tmp_path / "tiny-demo.yaml")
    with pytest.raises(InputError) as raised:
        load_recipe("tiny-dmo")
    assert (raised.value.code, raised.value.remedy) == ("recipe.unknown", "Did you mean “tiny-demo”?")


@pytest.mark.parametrize("name", ["absent.yaml", "../../etc/passwd", "notes.txt", "."])
def test_a_path_without_a_recipe_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("name: x")
    with pytest.raises(InputError) as raised:
        load_recipe(name)
    assert raised.value.code == "recipe.unknown"


def test_parts_may_stand_in_files_beside_the_recipe_and_its_own_fields_win(tmp_path: Path) -> None:
    write(tmp_path, "data.yaml", {"source": {"name": "class_folders", "classes": ["a", "b"]}, "repeat": 3})
    write(
        tmp_path,
        "usual.yaml",
        {"training": {"epochs": 7, "accumulate": 2}, "optimizer": {"name": "sgd", "momentum": 0.1}},
    )
    document = tiny_recipe(
        include="usual.yaml",
        data={"include": "data.yaml", "repeat": 5},
        training={"epochs": 9},
        optimizer={"name": "adam"},
    )
    recipe = load_recipe(write(tmp_path, "mine.yaml", document))
    assert recipe.data.repeat == 5 and recipe.data.source.name == "class_folders"
    assert (recipe.training.epochs, recipe.training.accumulate) == (9, 2)
    assert recipe.optimizer.name == "adam"


def test_a_fault_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "usual.yaml", "training:\n  epocs: 7\n")
    path = write(tmp_path, "mine.yaml", tiny_recipe(include="usual.yaml"))
    with pytest.raises(InputError, match=r"training\.epocs \(line 2 of usual\.yaml\)"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("../outside.yaml", "isn't the name of a YAML file"),
        ("/etc/hosts.yaml", "isn't the name of a YAML file"),
        ("link.yaml", "leaves the recipe's folder"),
        ("mine.yaml", "includes itself"),
        ("ring.yaml", "includes itself"),
        ("absent.yaml", "isn't there"),
        ("notes.txt", "isn't the name of a YAML file"),
        (3, "isn't the name of a YAML file"),
        (["many.yaml"] * 20, "more than 16 files"),
    ],
)
def test_includes_stay_in_the_folder_and_end(tmp_path: Path, include: Any, message: str) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    write(tmp_path, "outside.yaml", {"seed": 3})
    (folder / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    write(folder, "ring.yaml", {"include": "mine.yaml"})
    write(folder, "many.yaml", {"seed": 3})
    path = write(folder, "mine.yaml", tiny_recipe(include=include))
    with pytest.raises(InputError, match=message) as raised:
        load_recipe(path)
    assert raised.value.code == "recipe.include"


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_recipe(path)
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(InputError, match="larger than 1 MiB"):
        load_recipe(path)


def test_a_recipe_of_a_later_program_is_refused_and_an_older_one_is_brought_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert refused(tiny_recipe(schema_version=99)).code == "recipe.newer"
    monkeypatch.setitem(load_module.MIGRATIONS, 0, lambda old: {**old, "task": old["task"].lower()})
    assert parse_recipe(tiny_recipe(schema_version=0, task="CLASSIFICATION")).schema_version == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"epochs": 0}}, "training.epochs: input should be greater than or equal to 1"),
        ({"training": {"epochs": "many"}}, "training.epochs"),
        ({"training": {"batch_size": "big"}}, "training.batch_size"),
        ({"data": {"source": {"classes": ["a", "b"]}}}, "data.source: it lacks 'name'"),
        ({"data": {"source": {"name": "plugin"}}}, "data.source.source: it is required"),
        ({"task": "segmentation"}, "value 0 is background"),
        ({"seed": 3.5}, "seed"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(changes: dict[str, Any], message: str) -> None:
    assert message in refused(tiny_recipe(**changes)).user_message


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    document = tiny_recipe()
    document["data"]["split"] = {"train": 0.5, "validation": 0.1, "test": 0.1}
    assert "sum to 1, not 0.7" in refused(document).user_message


def test_the_schema_describes_every_section_and_refuses_unknown_fields() -> None:
    schema = recipe_json_schema()
    assert set(schema["properties"]) >= {"data", "network", "training", "bundle", "evaluation"}
    assert schema["additionalProperties"] is False
    assert all(
        part.get("additionalProperties") is False for part in schema["$defs"].values() if "properties" in part
    )


def test_a_dump_holds_every_default(tmp_path: Path) -> None:
    recipe = parse_recipe(tiny_recipe())
    text = dump_recipe(recipe)
    assert "near_duplicates: 0.995" in text and "gradient_clip: 1.0" in text
    assert load_recipe(write(tmp_path, "recipe.yaml", text)) == recipe
