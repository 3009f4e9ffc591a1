"""Gates are monotone, look at the bound, and refuse too few cases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.compute.evaluation.intervals import clopper_pearson
from core.domain.errors import InputError
from core.recipes.gates import (
    Gate,
    Gates,
    Measured,
    all_passed,
    judge,
    judge_document,
    parse_gates,
    read_gates,
    shipped_gates,
)

NUMBERS = st.floats(0, 1)


def measured(value: float, low: float | None = None, n: int = 100) -> Measured:
    return Measured(value, value if low is None else low, value, n)


def one(gate: Gate, found: Measured) -> bool:
    return all_passed(judge(Gates(gates=(gate,)), {gate.metric: found}, {}))


@settings(deadline=None)
@given(
    threshold=NUMBERS, worse=NUMBERS, better=NUMBERS, on=st.sampled_from([None, "lower", "value", "upper"])
)
def test_a_better_value_never_fails_where_a_worse_one_passed(
    threshold: float, worse: float, better: float, on: str | None
) -> None:
    worse, better = min(worse, better), max(worse, better)
    least = Gate(name="g", metric="m", at_least=threshold, on=on)
    assert one(least, measured(better)) or not one(least, measured(worse))
    most = Gate(name="g", metric="m", at_most=threshold, on=on)
    assert one(most, measured(worse)) or not one(most, measured(better))


@settings(deadline=None)
@given(right=st.integers(0, 60), more=st.integers(0, 60), threshold=NUMBERS)
def test_more_right_cases_of_the_same_number_never_fail(right: int, more: int, threshold: float) -> None:
    gate = Gate(name="g", metric="m", at_least=threshold)
    few, many = sorted((right, more))

    def passes(k: int) -> bool:
        return one(gate, Measured(k / 60, 0.0, 1.0, 60, exact=clopper_pearson(k, 60)))

    assert passes(many) or not passes(few)


def test_the_lower_bound_decides_unless_the_gate_says_otherwise() -> None:
    found = Measured(0.90, 0.82, 0.95, 50)
    assert not one(Gate(name="g", metric="m", at_least=0.85), found)
    assert one(Gate(name="g", metric="m", at_least=0.85, on="value"), found)
    assert one(Gate(name="g", metric="m", at_most=0.95), found)
    assert not one(Gate(name="g", metric="m", at_most=0.94), found)
    exact = Measured(1.0, 1.0, 1.0, 20, exact=(0.832, 1.0))
    assert not one(Gate(name="g", metric="m", at_least=0.85), exact)


def test_too_few_cases_are_insufficient_evidence_however_good() -> None:
    gate = Gate(name="g", metric="m", at_least=0.5, min_cases=20)
    verdict = judge(Gates(gates=(gate,)), {"m": measured(1.0, n=7)}, {})[0]
    assert not verdict.passed
    assert verdict.reason == "insufficient evidence: 7 cases, 20 needed"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_none_fails_a_ceiling(value: float) -> None:
    assert not one(Gate(name="g", metric="m", at_most=5.0), measured(value))


def test_what_was_not_measured_fails() -> None:
    gates = Gates(
        gates=(
            Gate(name="g", metric="m", at_least=0.1),
            Gate(name="h", metric="m", at_least=0.1, per_class=True),
        )
    )
    verdicts = judge(gates, {}, {})
    assert [v.passed for v in verdicts] == [False, False]
    assert "was not measured" in verdicts[0].reason


def test_a_gate_per_class_gives_one_row_per_class() -> None:
    gate = Gate(name="Recall", metric="recall", at_least=0.8, per_class=True, min_cases=5)
    rows = judge(
        Gates(gates=(gate,)),
        {},
        {"glioma": {"recall": measured(0.9)}, "pituitary": {"recall": measured(0.7)}},
    )
    assert [(r.name, r.passed) for r in rows] == [("Recall: glioma", True), ("Recall: pituitary", False)]
    assert set(rows[0].as_dict()) >= {"name", "threshold", "value", "bound", "passed", "reason"}


def test_the_shipped_brain_gates_are_those_of_the_recipe() -> None:
    gates = read_gates(shipped_gates("brain-tumour")).gates
    assert [(g.metric, g.threshold, g.per_class, g.looks_at) for g in gates] == [
        ("accuracy", 0.85, False, "lower"),
        ("recall", 0.80, True, "lower"),
        ("latency_ms", 500, False, "upper"),
        ("class_imbalance", 5, False, "value"),
    ]
    for name in ("classification", "segmentation"):
        assert read_gates(shipped_gates(name)).gates


def test_an_unknown_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError) as caught:
        parse_gates({"gates": [{"name": "g", "metric": "m", "atleast": 0.5}]})
    assert "gate 1" in caught.value.user_message
    assert "at_least" in caught.value.remedy


@pytest.mark.parametrize(
    "gate",
    [
        {"name": "g", "metric": "m"},
        {"name": "g", "metric": "m", "at_least": 0.1, "at_most": 0.2},
        {"name": "g", "metric": "m", "at_least": float("nan")},
        {"name": "g", "metric": "m", "at_least": 0.1, "min_cases": 0},
        {"name": "g", "metric": "m", "at_least": 0.1, "on": "middle"},
    ],
)
def test_a_gate_that_demands_nothing_clear_is_refused(gate: dict) -> None:
    with pytest.raises(InputError, match="gate 1"):
        parse_gates({"gates": [gate]})


@pytest.mark.parametrize(
    "text", ["gates: [", "a: &a [1]\nb: *a\n", "\x00", "gates: !!python/object:os.system {}"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(InputError):
        read_gates(file)
    with pytest.raises(InputError, match="can't be read"):
        read_gates(tmp_path / "none.yaml")


def test_an_unknown_shipped_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        shipped_gates("../secrets")
    assert "brain-tumour" in caught.value.remedy


def test_measured_values_survive_json_without_nan() -> None:
    found = Measured(0.5, 0.4, 0.6, 12, exact=(0.35, 0.65), wilson=(0.36, 0.64))
    assert Measured.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    missing = Measured.from_dict({"value": None, "ci95": [None, None], "n": 0})
    assert missing.value != missing.value
    with pytest.raises(InputError):
        Measured.from_dict({"value": 1.0})


def test_a_stored_evaluation_is_judged_again_without_the_model() -> None:
    document = {
        "details": {
            "metrics": {"accuracy": measured(0.9).as_dict()},
            "per_class": {"a": {"recall": measured(0.7).as_dict()}},
        }
    }
    gates = Gates(
        gates=(
            Gate(name="A", metric="accuracy", at_least=0.85),
            Gate(name="R", metric="recall", at_least=0.8, per_class=True),
        )
    )
    assert [v.passed for v in judge_document(gates, document)] == [True, False]
    with pytest.raises(InputError):
        judge_document(gates, {"metrics": {}})


def test_gates_load_without_torch() -> None:
    code = "import sys, core.recipes.gates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
