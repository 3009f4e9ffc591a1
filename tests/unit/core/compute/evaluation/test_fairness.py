"""Groups are compared by the published definitions; small ones are named, not compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryFairness

from core.compute.evaluation.fairness import (
    fairness_of_classes,
    fairness_of_scores,
    grouped,
    usable_columns,
)

NAMES = ("normal", "pneumonia")


def two_groups(n: int = 200, weak: float = 0.6) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    groups = np.where(rng.random(n) < 0.5, "F", "M")
    right = rng.random(n) < np.where(groups == "F", weak, 0.95)
    return labels, np.where(right, labels, 1 - labels), list(groups)


def test_gaps_have_the_published_definitions() -> None:
    labels, predicted, groups = two_groups()
    found = fairness_of_classes(labels, predicted, NAMES, "sex", groups, permutations=99)
    who = np.array(groups)
    tpr = [(predicted[(who == g) & (labels == 1)] == 1).mean() for g in "FM"]
    fpr = [(predicted[(who == g) & (labels == 0)] == 1).mean() for g in "FM"]
    share = [(predicted[who == g] == 1).mean() for g in "FM"]
    assert found.gaps["equalized_odds"] == pytest.approx(max(abs(tpr[0] - tpr[1]), abs(fpr[0] - fpr[1])))
    assert found.gaps["demographic_parity"] == pytest.approx(abs(share[0] - share[1]))
    assert found.gaps["recall pneumonia"] == pytest.approx(abs(tpr[0] - tpr[1]))


def test_parity_agrees_with_torchmetrics_ratio() -> None:
    labels, predicted, groups = two_groups()
    theirs = BinaryFairness(2, task="demographic_parity")
    theirs.update(
        torch.from_numpy(predicted), torch.from_numpy(labels), torch.from_numpy((np.array(groups) == "M") * 1)
    )
    (key, ratio), *_ = theirs.compute().items()
    share = [float((predicted[np.array(groups) == g] == 1).mean()) for g in "FM"]
    assert key.startswith("DP") and float(ratio) == pytest.approx(min(share) / max(share), abs=1e-6)
    found = fairness_of_classes(labels, predicted, NAMES, "sex", groups, permutations=9)
    assert found.gaps["demographic_parity"] == pytest.approx(max(share) - min(share))


def test_a_real_gap_is_significant_and_a_dealt_one_is_not() -> None:
    labels, predicted, groups = two_groups()
    assert fairness_of_classes(labels, predicted, NAMES, "sex", groups, permutations=499).p["accuracy"] < 0.01
    dealt = list(np.random.default_rng(2).permutation(groups))
    assert fairness_of_classes(labels, predicted, NAMES, "sex", dealt, permutations=499).p["accuracy"] > 0.05


def test_a_small_group_is_named_and_enters_no_gap() -> None:
    labels, predicted, groups = two_groups()
    groups[:4] = ["X"] * 4
    predicted[:4] = 1 - labels[:4]
    found = fairness_of_classes(labels, predicted, NAMES, "sex", groups, permutations=19)
    assert found.too_small == {"X": 4} and set(found.groups) == {"F", "M"}
    assert found.gaps["accuracy"] < 0.5
    alone = fairness_of_classes(labels, predicted, NAMES, "sex", ["A"] * 200, permutations=19)
    assert alone.gaps == {} and alone.note == "only one group is large enough"


def test_groups_carry_intervals_that_know_their_size() -> None:
    labels, predicted, groups = two_groups()
    row = fairness_of_classes(labels, predicted, NAMES, "sex", groups, permutations=9).groups["F"]["accuracy"]
    assert row.low < row.value < row.high and row.n == groups.count("F")


def test_scores_such_as_dice_are_compared_too() -> None:
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.normal(0.9, 0.02, 30), rng.normal(0.8, 0.02, 30)])
    found = fairness_of_scores(scores, "dice", "scanner", ["A"] * 30 + ["B"] * 30, permutations=199)
    assert found.gaps["dice"] == pytest.approx(scores[:30].mean() - scores[30:].mean())
    assert found.p["dice"] == pytest.approx(1 / 200)
    assert found.groups["A"]["dice"].low < 0.9 < found.groups["A"]["dice"].high + 0.01


def test_columns_of_many_numbers_become_thirds_and_of_many_texts_nothing() -> None:
    ages = [str(n) for n in range(30, 90)]
    bands = grouped(ages)
    assert bands is not None and len(set(bands)) == 3 and bands[0] == "≤ 49"
    assert {b: bands.count(b) for b in set(bands)} == {"≤ 49": 20, "49 – 69": 20, "> 69": 20}
    columns, notes = usable_columns(
        {"sex": ["F", "M"] * 30, "name": [f"Doe{n}" for n in range(60)], "site": ["x"] * 60, "age": ages}
    )
    assert set(columns) == {"sex", "age"}
    assert notes == [
        "column name: 60 different texts make no groups",
        "column site: all cases are in one group",
    ]
    assert "Doe" not in "".join(notes)


def test_people_are_no_groups_and_groups_of_one_are_not_named() -> None:
    labels, predicted, groups = two_groups()
    groups[:2] = ["Doe^Jane", "Roe^Rita"]
    found = fairness_of_classes(labels, predicted, NAMES, "sex", groups, permutations=9)
    assert found.too_small == {"others": 2}
    patients = [f"p{n // 5}" for n in range(40)]
    columns, notes = usable_columns(
        {"PatientName": ["a", "b"] * 20, "ward": [f"w{n // 5}" for n in range(40)], "sex": ["F", "M"] * 20},
        patients,
    )
    assert list(columns) == ["sex"]
    assert notes == [
        "column PatientName: 2 different texts make no groups",
        "column ward: it tells every patient from the others and makes no groups",
    ]


def test_bands_of_numbers_stand_in_their_order() -> None:
    labels, predicted, _ = two_groups()
    bands = grouped([str(n % 90) for n in range(200)])
    assert bands is not None
    found = fairness_of_classes(labels, predicted, NAMES, "age", bands, permutations=9)
    assert [g[0] for g in found.groups] == ["≤", "2", ">"]
    assert sum(m["accuracy"].n for m in found.groups.values()) == 200
