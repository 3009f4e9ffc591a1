"""The dialog's form comes from the schema that checks the document."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.domain.errors import InputError
from core.domain.forms import FormField
from core.recipes.finetune import FineTuneSettings, finetune_fields, finetune_json_schema, parse_finetune
from core.recipes.form import form_fields
from core.recipes.load import parse_recipe, recipe_json_schema
from tests.fakes.recipes import tiny_recipe

FIELDS = {field.path: field for field in finetune_fields()}


def test_the_dialog_has_every_setting_but_the_list_of_cases_with_title_and_help() -> None:
    assert set(FIELDS) == set(FineTuneSettings.model_fields) - {"excluded"}
    assert all(field.title and field.help and field.section for field in FIELDS.values())
    assert [field.section for field in finetune_fields()] == sorted(
        (field.section for field in finetune_fields()), key=["Model", "Time", "Computer", "Learning"].index
    )


def test_kinds_limits_units_and_choices_come_from_the_schema() -> None:
    assert FIELDS["night_from"].kind == "time" and FIELDS["night_from"].shown_when == ("start", "night")
    budget = FIELDS["budget_minutes"]
    assert (budget.kind, budget.minimum, budget.maximum, budget.unit, budget.default) == (
        "int",
        1,
        1440,
        "min",
        60,
    )
    assert [(c.value, c.title) for c in FIELDS["start"].choices] == [("now", "Now"), ("night", "At night")]
    assert FIELDS["seed"].maximum_excluded and not FIELDS["seed"].minimum_excluded
    assert FIELDS["model_id"].required and FIELDS["model_id"].default is None


def test_defaults_of_the_form_are_accepted_by_the_check() -> None:
    document = {path: field.default for path, field in FIELDS.items() if not field.required}
    settings = parse_finetune({**document, "model_id": "thorax-ct"})
    assert settings == FineTuneSettings(model_id="thorax-ct")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("budget_minutes", 0), ("budget_minutes", 1441), ("budget_minutes", 2.5), ("budget_minutes", None),
        ("learning_rate", 0.0), ("learning_rate", 1.0), ("learning_rate", float("nan")), ("seed", 2**31),
        ("night_from", "25:00"), ("night_from", "7"), ("device", "tpu"), ("start", ""), ("epochs", True),
    ],
)  # fmt: skip
def test_what_the_form_refuses_the_check_refuses_too(path: str, value: Any) -> None:
    assert FIELDS[path].problem(value).startswith(FIELDS[path].title)
    if value is not True:  # JSON's true is read as 1, the form is stricter
        with pytest.raises((ValidationError, InputError)):
            FineTuneSettings.model_validate({"model_id": "thorax-ct", path: value})


@pytest.mark.parametrize(
    ("path", "value"),
    [("budget_minutes", 1), ("learning_rate", 0.1), ("night_to", "00:00"), ("device", "cuda")],
)
def test_what_the_form_accepts_the_check_accepts_too(path: str, value: Any) -> None:
    assert FIELDS[path].problem(value) == ""
    assert getattr(parse_finetune({"model_id": "thorax-ct", path: value}), path) == value


def test_a_wrong_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError) as raised:
        parse_finetune({"model_id": "thorax-ct", "budget_minuts": 5})
    assert raised.value.code == "finetune.invalid"
    assert raised.value.remedy == "Did you mean “budget_minutes”?"


def test_a_night_without_length_is_refused() -> None:
    with pytest.raises(InputError, match="the night must last"):
        parse_finetune({"model_id": "m1", "start": "night", "night_from": "22:00", "night_to": "22:00"})


def test_excluded_cases_are_kept_once_and_in_order() -> None:
    assert FineTuneSettings(model_id="m1", excluded=("b", "a", "b")).excluded == ("a", "b")


def test_the_schemas_are_plain_json_without_what_the_form_must_not_show() -> None:
    assert finetune_json_schema()["properties"]["excluded"]["form"] is False


def test_every_field_of_a_recipe_can_be_set_by_its_path() -> None:
    fields = form_fields(recipe_json_schema())
    # Of a section with kinds only the chosen one's fields apply.
    base = tiny_recipe()
    for field in fields:
        alone = not field.path.startswith(
            ("data.sampling.", "preprocessing.conform.", "tasks.", "training.rehearsal.")
        )
        if field.default is None or not alone or field.shown_when not in (None, _chosen(field)):
            continue
        value = list(field.default) if isinstance(field.default, tuple) else field.default
        parse_recipe(base, {field.path: value})


def _chosen(field: FormField) -> tuple[str, str] | None:
    usual = {"data.source.name": "class_folders", "optimizer.name": "adamw", "schedule.name": "cosine"}
    return None if field.shown_when is None else (field.shown_when[0], usual[field.shown_when[0]])


def test_kinds_of_a_section_become_a_choice_and_fields_that_show_with_it() -> None:
    fields = form_fields(recipe_json_schema())
    choice = next(field for field in fields if field.path == "optimizer.name")
    assert {option.value for option in choice.choices} == {"adam", "adamw", "adamax", "sgd"}
    assert choice.default == "adamw"
    momentum = next(field for field in fields if field.path == "optimizer.momentum")
    assert momentum.shown_when == ("optimizer.name", "sgd") and momentum.maximum_excluded
    batch = next(field for field in fields if field.path == "training.batch_size")
    assert (
        batch.kind == "int"
        and [option.value for option in batch.choices] == ["auto"]
        and batch.problem("auto") == ""
    )
    dims = next(field for field in fields if field.path == "spatial_dims")
    assert [option.value for option in dims.choices] == [2, 3] and dims.required
