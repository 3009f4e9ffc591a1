"""YAML from strangers is plain data or is refused."""

from __future__ import annotations

import time

import pytest

from core.domain.errors import InputError
from core.recipes.yaml_text import MAX_BYTES, read_value, read_yaml, write_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "a: !!binary aGk=",
        "a: !!timestamp 2026-01-01",
        "a: !!set {b}",
        "a: !mine 3",
        "!!python/object:x {}",
        "a: !!int abc",
        "a: !!bool maybe",
        "a: {? [1]: 2}",
        "a: 1\na: 2",
        "a: {b: 1, b: 2}",
        "- 1",
        "just text",
        "a: [1",
        "a: *nowhere",
        "a: &a [*a]",
        "a: \x07",
        "a: 1\n---\nb: 2",
        "a: {<<: 3}",
        "a: 1" + "0" * 90,
        "a: 1e400",
        "x: &x {a: 1}\ny: {<<: *x, <<: *x}",
    ],
)
def test_anything_but_plain_data_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InputError) as raised:
        read_yaml(text)
    assert raised.value.code == "recipe.yaml"
    assert raised.value.user_message.startswith("The recipe can't be read")


def test_a_billion_laughs_are_refused_at_once() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 6)}]" for n in range(1, 10)]
    started = time.process_time()
    with pytest.raises(InputError, match=r"aliases grow|anchor"):
        read_yaml("\n".join(lines))
    assert time.process_time() - started < 20


def test_merge_keys_can_not_multiply_either() -> None:
    lines = ["m0: &m0 {" + ", ".join(f"k{n}: {n}" for n in range(2000)) + "}"]
    lines += [f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}, *m{n - 1}]}}" for n in range(1, 8)]
    with pytest.raises(InputError, match="aliases grow"):
        read_yaml("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: " + "[" * 40 + "]" * 40, "nests deeper"),
        ("a: [" + "1, " * 30_000 + "]", "more than 20000 values"),
        ("a: &a 1\nb: [" + "*a, " * 100 + "]", "to an anchor"),
        ("a: " + "x" * (MAX_BYTES + 1), "larger than 1 MiB"),
    ],
)
def test_limits_name_what_was_exceeded(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_yaml(text)


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    read = read_yaml(
        "a: 1e-4\nb: 22:30\nc: 2026-01-31\nd: no\ne: true\nf: ~\ng: .5\nh: -3\ni: '1e-4'\nj: 1_000\nk: 0x10\nl:\n"
    ).data
    assert read == {
        "a": 1e-4, "b": "22:30", "c": "2026-01-31", "d": "no", "e": True, "f": None, "g": 0.5, "h": -3, "i": "1e-4",
        "j": "1_000", "k": "0x10", "l": None,
    }  # fmt: skip


def test_anchors_and_merge_keys_work_within_reason() -> None:
    read = read_yaml("base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {<<: [*b, {x: 9, z: 8}]}").data
    assert read["one"] == {"x": 1, "y": 3}
    assert read["two"] == {"x": 1, "y": 2, "z": 8}


def test_lines_are_known_for_names_and_entries() -> None:
    read = read_yaml("a: 1\nb:\n  c: 2\n  d:\n    - 3\n    - 4\n")
    assert read.lines[("a",)] == 1
    assert read.lines[("b", "c")] == 3
    assert read.lines[("b", "d", 1)] == 6


def test_the_line_of_a_fault_is_told() -> None:
    with pytest.raises(InputError, match=r"line 3.*stands twice"):
        read_yaml("a: 1\nb: 2\na: 3\n")


def test_values_of_overrides_are_typed() -> None:
    assert read_value("3") == 3
    assert read_value("1e-4") == 1e-4
    assert read_value("[1, 2]") == [1, 2]
    assert read_value("{name: adam}") == {"name": "adam"}
    assert read_value("auto") == "auto"
    assert read_value("") is None


def test_what_is_written_reads_back_equal_even_when_it_looks_like_something_else() -> None:
    data = {"a": ["1e-4", "no", "null", "22:30", "~", "<<", "1.5", "true", ""], "b": {"c": 1e-300, "d": None}}
    assert read_yaml(write_yaml(data)).data == data
