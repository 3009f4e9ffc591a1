"""Whatever a recipe says, its dump says the same."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import InputError
from core.recipes.load import dump_recipe, parse_recipe
from core.recipes.yaml_text import read_yaml, write_yaml
from tests.fakes.recipes import tiny_recipe

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
SCALARS = st.one_of(
    TEXT,
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.sampled_from(
        ["1e-4", "no", "~", "22:30", "2026-01-31", "0x1", "<<", "=", "- a", "a: b", "#", "'", '"']
    ),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT.filter(lambda name: name != "<<"), PLAIN, max_size=4))
@settings(max_examples=80, deadline=None)
def test_plain_data_survives_writing_and_reading(data: dict[str, Any]) -> None:
    assert read_yaml(write_yaml(data)).data == data


OPTIMIZERS = st.one_of(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["adam", "adamw", "adamax"]), "learning_rate": st.floats(1e-8, 10)}
    ),
    st.fixed_dictionaries({"name": st.just("sgd"), "momentum": st.floats(0, 0.99)}),
)
SOURCES = st.one_of(
    st.fixed_dictionaries(
        {"name": st.just("phantoms"), "count": st.integers(1, 9), "holdout": st.integers(0, 9)}
    ),
    st.fixed_dictionaries(
        {
            "name": st.just("nifti_patients"),
            "files": st.dictionaries(TEXT, TEXT, max_size=3),
            "values": st.dictionaries(st.integers(-999, 999).map(str), st.integers(0, 9), max_size=3),
        }
    ),
    st.fixed_dictionaries(
        {"name": st.just("plugin"), "source": TEXT, "params": st.dictionaries(TEXT, PLAIN, max_size=3)}
    ),
)


@given(
    OPTIMIZERS,
    SOURCES,
    st.dictionaries(TEXT, PLAIN, max_size=3),
    st.one_of(st.integers(1, 64), st.just("auto")),
)
@settings(max_examples=50, deadline=None)
def test_a_dumped_recipe_reloads_equal(
    optimizer: dict[str, Any], source: dict[str, Any], params: dict[str, Any], batch: int | str
) -> None:
    recipe = parse_recipe(
        tiny_recipe(
            optimizer=optimizer,
            data={"source": source},
            network={"name": "net", "params": params},
            training={"batch_size": batch},
            preprocessing={"intensity": [{"op": "clip", "low": -1.5, "high": 2.0}], "resize_hw": [8, 8]},
        )
    )
    assert parse_recipe(read_yaml(dump_recipe(recipe)).data) == recipe


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(list("{}[]&*!:,-?|>%@`'\"#\n\t ab1~<")), max_size=60).map("".join)
)
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InputError):
        read_yaml(text)


SECTIONS = st.sampled_from(
    [*sorted(tiny_recipe()), "optimizer", "schedule", "training", "preprocessing", "loss"]
)


@given(
    st.dictionaries(
        SECTIONS | TEXT, PLAIN | st.dictionaries(SECTIONS | st.just("name"), PLAIN, max_size=3), max_size=5
    )
)
@settings(max_examples=80, deadline=None)
def test_any_plain_document_is_a_recipe_or_refused_with_a_reason(changes: dict[str, Any]) -> None:
    try:
        parse_recipe(tiny_recipe(**changes))
    except InputError as error:
        assert error.code in ("recipe.invalid", "recipe.newer") and error.user_message


@given(
    st.lists(
        st.sampled_from([*tiny_recipe(), "source", "name", "train", "0", "3", "epochs", "x", ""]),
        min_size=1,
        max_size=5,
    ),
    PLAIN,
)
@settings(max_examples=80, deadline=None)
def test_any_override_is_taken_or_refused(parts: list[str], value: Any) -> None:
    with suppress(InputError):
        parse_recipe(tiny_recipe(transforms={"train": [{"name": "rand_flip"}]}), {".".join(parts): value})
