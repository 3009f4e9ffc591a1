"""Paired comparisons against hand-computed values, scipy and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from core.compute.evaluation.paired import (
    Comparison,
    compare_cases,
    compare_classifiers,
    delong,
    delong_covariance,
    holm,
    mcnemar,
    mcnemar_p,
    paired_bootstrap,
    permutation_p,
    wilcoxon_p,
)
from core.compute.evaluation.ranking import area_under_roc


def test_mcnemar_has_its_exact_and_mid_p_by_hand() -> None:
    # Nine discordant cases, two against seven: 2 (1 + 9 + 36) / 512; mid-p takes one 36 / 512 away.
    assert mcnemar_p(2, 7, mid=False) == pytest.approx(92 / 512)
    assert mcnemar_p(2, 7, mid=True) == pytest.approx(56 / 512)
    assert mcnemar_p(2, 7, mid=False) == pytest.approx(stats.binomtest(2, 9).pvalue)
    assert mcnemar_p(0, 0, mid=True) == 1.0
    assert mcnemar_p(5, 5, mid=False) == 1.0


def test_mcnemar_reports_the_difference_with_an_interval() -> None:
    current = np.array([True] * 60 + [False] * 12 + [True] * 3 + [False] * 25)
    candidate = np.array([True] * 60 + [True] * 12 + [False] * 3 + [False] * 25)
    found = mcnemar(current, candidate)
    assert (found.current, found.candidate) == (0.63, 0.72)
    assert found.difference == pytest.approx(0.09)
    assert found.ci95[0] < 0.09 < found.ci95[1]
    # Agresti and Min by hand: (9 ± 1.96 sqrt(16 − 81 / 102)) / 102.
    half = stats.norm.isf(0.025) * math.sqrt(16 - 81 / 102) / 102
    assert found.ci95 == pytest.approx((9 / 102 - half, 9 / 102 + half))
    same = mcnemar(current, current)
    assert same.p == 1.0 and same.ci95[0] < 0 < same.ci95[1]


def test_delong_by_hand_on_seven_cases() -> None:
    # Structural components of DeLong et al. by hand: positives 3, 5, 6; negatives 1, 2, 4, 3.
    positive = np.array([1, 1, 1, 0, 0, 0, 0], dtype=bool)
    scores = np.array([3.0, 5, 6, 1, 2, 4, 3])
    areas, covariance = delong_covariance(positive, scores)
    v10 = np.array([(1 + 1 + 0 + 0.5) / 4, 1.0, 1.0])
    v01 = np.array([1.0, 1.0, 2 / 3, (0.5 + 1 + 1) / 3])
    assert areas[0] == pytest.approx(v10.mean())
    assert areas[0] == pytest.approx(roc_auc_score(positive, scores))
    assert covariance[0, 0] == pytest.approx(v10.var(ddof=1) / 3 + v01.var(ddof=1) / 4)


def test_delong_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(400) < 0.4
    truth = positive + rng.normal(size=400)
    a, b = truth + rng.normal(size=400), truth + 0.6 * rng.normal(size=400)
    found = delong(positive, a, b)
    draws = []
    for _ in range(1500):
        i = rng.integers(0, 400, 400)
        draws.append(area_under_roc(b[i], positive[i]) - area_under_roc(a[i], positive[i]))
    assert found.difference == pytest.approx(roc_auc_score(positive, b) - roc_auc_score(positive, a))
    assert found.ci95 == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.006)
    p = 2 * min(np.mean(np.array(draws) <= 0), np.mean(np.array(draws) >= 0))
    assert found.p == pytest.approx(p, abs=0.02)


def test_equal_scores_differ_by_nothing() -> None:
    positive, scores = np.arange(20) % 2 == 0, np.arange(20.0) ** 0.5
    found = delong(positive, scores, scores)
    assert (found.difference, found.p) == (0.0, 1.0)


def test_delong_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        delong(np.ones(4, bool), np.arange(4.0), np.arange(4.0))


def test_the_paired_bootstrap_sees_a_small_but_steady_gain() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0.8, 0.1, 60)
    found = paired_bootstrap(a, a + rng.normal(0.01, 0.01, 60), metric="dice")
    assert found.ci95[0] > 0 and found.p < 0.01
    unpaired = stats.ttest_ind(a, a + 0.01).pvalue
    assert unpaired > 0.3


def test_no_difference_is_no_evidence() -> None:
    a = np.linspace(0.5, 0.9, 20)
    assert paired_bootstrap(a, a, metric="dice").p == 1.0
    assert wilcoxon_p(a, a) == 1.0
    assert permutation_p(a, a) == 1.0


def test_the_permutation_test_is_exact_for_few_cases_and_close_to_scipys_for_many() -> None:
    d = np.array([0.1, 0.2, 0.05, 0.3, 0.15])
    assert permutation_p(np.zeros(5), d) == pytest.approx(2 / 2**5)
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(0.4, 1, size=40)
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(y - x), permutation_type="samples", n_resamples=9999, rng=0
    ).pvalue
    assert permutation_p(a, b) == pytest.approx(theirs, abs=0.02)


def test_wilcoxon_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(0.4, 1, size=40)
    assert wilcoxon_p(a, b) == pytest.approx(stats.wilcoxon(b - a).pvalue)


def test_holm_by_hand() -> None:
    rows = [Comparison(str(p), 0, 0, 0, (0, 0), p, 9, "x") for p in (0.01, 0.04, 0.03, 0.005)]
    assert [round(c.p_adjusted or 0, 6) for c in holm(rows)] == [0.03, 0.06, 0.06, 0.02]


def test_false_alarms_stay_at_their_level() -> None:
    rng = np.random.default_rng(7)
    p = [mcnemar(rng.random(80) < 0.8, rng.random(80) < 0.8).p for _ in range(2000)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    p = [permutation_p(*rng.normal(size=(2, 25)), resamples=499) for _ in range(200)]
    assert np.mean(np.array(p) < 0.05) < 0.1


def test_classifiers_are_compared_on_accuracy_recall_and_area() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 300)
    weak, strong = (rng.normal(size=(300, 3)) + s * np.eye(3)[labels] for s in (0.8, 2.5))
    soft = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (weak, strong)]
    rows = compare_classifiers(labels, *soft, ("a", "b", "c"))
    assert [r.metric for r in rows] == [
        "accuracy", "recall a", "auc_roc a", "recall b", "auc_roc b", "recall c", "auc_roc c",
    ]  # fmt: skip
    assert all(r.difference > 0 and r.p_adjusted is not None and r.p_adjusted >= r.p for r in rows)
    assert rows[0].p_adjusted is not None and rows[0].p_adjusted < 0.001
    patients = np.arange(300) // 3
    assert "over patients" in compare_classifiers(labels, *soft, ("a", "b", "c"), patients=patients)[0].method


def test_per_case_dice_is_compared_over_patients() -> None:
    rng = np.random.default_rng(5)
    a = rng.uniform(0.6, 0.9, 30)
    found = compare_cases(a, a - 0.02, metric="dice liver", patients=np.arange(30) // 2)
    assert found.difference == pytest.approx(-0.02)
    assert found.p < 0.01 and found.ci95[1] < 0
    assert set(found.as_dict()) >= {"metric", "current", "candidate", "difference", "ci95", "p", "n"}


def test_unpaired_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="no case"):
        paired_bootstrap(np.zeros(0), np.zeros(0), metric="dice")
