"""Classification metrics against scikit-learn, intervals against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from core.compute.evaluation import confusion as of
from core.compute.evaluation.bootstrap import percentile_interval, resampled
from core.compute.evaluation.calibration import best_temperature, reliability, tempered, weighted_ece
from core.compute.evaluation.classes import evaluate_classes
from core.compute.evaluation.classification import expected_calibration_error
from core.compute.evaluation.intervals import clopper_pearson, effective_cases, wilson
from core.compute.evaluation.ranking import area_under_roc, curves

NAMES = ("glioma", "meningioma", "pituitary")


def drawn(n: int = 240, classes: int = 3, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    powers = np.exp(np.round(logits, 1))  # rounding makes ties
    return powers / powers.sum(axis=1, keepdims=True), labels


def test_every_overall_metric_equals_scikit_learn() -> None:
    p, y = drawn()
    found = evaluate_classes(p, y, NAMES, resamples=20).metrics
    called = p.argmax(axis=1)
    truth = np.eye(3)[y]
    expected = {
        "accuracy": reference.accuracy_score(y, called),
        "balanced_accuracy": reference.balanced_accuracy_score(y, called),
        "macro_f1": reference.f1_score(y, called, average="macro"),
        "macro_precision": reference.precision_score(y, called, average="macro"),
        "macro_recall": reference.recall_score(y, called, average="macro"),
        "macro_auc_roc": reference.roc_auc_score(y, p, multi_class="ovr", average="macro"),
        "macro_auc_pr": reference.average_precision_score(truth, p, average="macro"),
        "cohen_kappa": reference.cohen_kappa_score(y, called),
        "mcc": reference.matthews_corrcoef(y, called),
        "nll": reference.log_loss(y, p),
        "brier": ((p - truth) ** 2).sum(axis=1).mean(),
        "ece": expected_calibration_error(p, y),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name


def test_every_metric_of_a_class_equals_scikit_learn() -> None:
    p, y = drawn()
    found = evaluate_classes(p, y, NAMES, resamples=20)
    called = p.argmax(axis=1)
    matrix = reference.confusion_matrix(y, called)
    np.testing.assert_array_equal(found.matrix, matrix)
    for k, name in enumerate(NAMES):
        mine = {m: v.value for m, v in found.per_class[name].items()}
        assert mine["recall"] == pytest.approx(reference.recall_score(y, called, average=None)[k])
        assert mine["precision"] == pytest.approx(reference.precision_score(y, called, average=None)[k])
        assert mine["f1"] == pytest.approx(reference.f1_score(y, called, average=None)[k])
        assert mine["specificity"] == pytest.approx(reference.recall_score(y != k, called != k))
        assert mine["auc_roc"] == pytest.approx(reference.roc_auc_score(y == k, p[:, k]), abs=1e-12)
        assert mine["auc_pr"] == pytest.approx(reference.average_precision_score(y == k, p[:, k]), abs=1e-12)


def test_the_vectorised_draws_equal_drawing_the_cases_one_by_one() -> None:
    p, y = drawn(40)
    found = evaluate_classes(p, y, NAMES, resamples=50, seed=3)
    picks = np.random.default_rng(3).integers(0, 40, (50, 40))
    one_by_one = [evaluate_classes(p[i], y[i], NAMES, resamples=0).metrics["macro_f1"].value for i in picks]
    np.testing.assert_allclose(found.draws["macro_f1"], one_by_one, atol=1e-12)
    assert (found.metrics["macro_f1"].low, found.metrics["macro_f1"].high) == pytest.approx(
        tuple(np.quantile(one_by_one, [0.025, 0.975]))
    )


def test_the_interval_of_a_mean_agrees_with_scipys_bootstrap() -> None:
    x = np.random.default_rng(1).exponential(size=80)
    value, draws = resampled(lambda w: (w @ x / w.sum(axis=1))[:, None], 80, resamples=4000)
    mine = percentile_interval(draws[:, 0])
    theirs = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    assert value[0] == pytest.approx(x.mean())
    assert mine == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_cases_of_one_patient_are_drawn_together_and_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(30) < 0.7
    y = np.zeros(300, dtype=int)
    p = np.where(np.repeat(right, 10)[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
    alone = evaluate_classes(p, y, ("a", "b")).metrics["accuracy"]
    together = evaluate_classes(p, y, ("a", "b"), patients=np.repeat(np.arange(30), 10)).metrics["accuracy"]
    assert together.high - together.low > 2.5 * (alone.high - alone.low)
    assert together.exact is not None and alone.exact is not None
    expected = clopper_pearson(together.value * 30, 30)
    assert together.exact == pytest.approx(expected, abs=0.02)  # 300 like cases are worth 30


def test_all_right_still_leaves_a_lower_bound_that_knows_how_few_there_were() -> None:
    y = np.zeros(10, dtype=int)
    found = evaluate_classes(np.tile([0.9, 0.1], (10, 1)), y, ("a", "b")).metrics["accuracy"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.exact is not None and found.exact[0] == pytest.approx(0.025 ** (1 / 10))
    assert found.bound("lower") == found.exact[0]
    clustered = evaluate_classes(
        np.tile([0.9, 0.1], (10, 1)), y, ("a", "b"), patients=np.repeat([1, 2], 5)
    ).metrics["accuracy"]
    assert clustered.exact is not None and clustered.exact[0] == pytest.approx(0.025 ** (1 / 2))


@pytest.mark.parametrize(("right", "n"), [(0, 12), (7, 12), (12, 12), (57, 60), (1, 400)])
def test_proportions_have_scipys_intervals(right: int, n: int) -> None:
    test = stats.binomtest(right, n)
    for mine, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        expected = test.proportion_ci(method=method)
        assert mine(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_cases_have_no_interval_and_independent_cases_keep_their_number() -> None:
    assert np.isnan(wilson(0, 0)).all() and np.isnan(clopper_pearson(0, 0)).all()
    assert effective_cases(0.8, 100, 100, 1.0) == 100
    assert effective_cases(0.8, 100, 20, 0.8 * 0.2 / 20) == pytest.approx(20)


def test_kappas_equal_scikit_learn_also_weighted() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 90), rng.integers(0, 4, 90)
    m = reference.confusion_matrix(a, b).astype(float)
    for weights in (None, "linear", "quadratic"):
        expected = reference.cohen_kappa_score(a, b, weights=weights)
        assert float(of.cohen_kappa(m, weights)) == pytest.approx(expected)


def test_curves_equal_scikit_learn_and_hold_the_area() -> None:
    rng = np.random.default_rng(4)
    scores, positive = rng.integers(0, 20, 200) / 20, rng.random(200) < 0.3
    found = curves(scores, positive)
    assert found is not None
    fpr, tpr, _ = reference.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, fpr)
    np.testing.assert_allclose(found.true_positive_rate, tpr)
    assert np.trapezoid(tpr, fpr) == pytest.approx(area_under_roc(scores, positive))
    assert curves(scores, np.ones(200, dtype=bool)) is None


def test_calibration_error_has_its_closed_form() -> None:
    # Ten cases at 0.8, of which 6 are right, and ten at 0.6, all right: (|0.6 - 0.8| + |1 - 0.6|) / 2 = 0.3.
    p = np.array([[0.8, 0.2]] * 10 + [[0.6, 0.4]] * 10)
    y = np.array([0] * 6 + [1] * 4 + [0] * 10)
    assert expected_calibration_error(p, y) == pytest.approx(0.3)
    assert weighted_ece(p.max(axis=1), p.argmax(axis=1) == y, np.ones((1, 20)))[0] == pytest.approx(0.3)
    curve = reliability(p, y)
    assert curve.count.sum() == 20
    assert curve.accuracy[np.flatnonzero(curve.count)] == pytest.approx([1.0, 0.6])
    assert curve.confidence[np.flatnonzero(curve.count)] == pytest.approx([0.6, 0.8])


def test_the_best_temperature_of_sharpened_probabilities_undoes_the_sharpening() -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(6000, 3)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random(6000)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    sharp = tempered(p, 0.5)
    temperature = best_temperature(sharp, y)
    assert temperature == pytest.approx(2.0, rel=0.06)
    assert (tempered(sharp, temperature).argmax(axis=1) == sharp.argmax(axis=1)).all()


def test_a_class_without_cases_has_no_recall_and_spoils_nothing() -> None:
    p, y = drawn()
    keep = y != 2
    found = evaluate_classes(p[keep], y[keep], NAMES, resamples=50)
    assert np.isnan(found.per_class["pituitary"]["recall"].value)
    assert found.per_class["pituitary"]["recall"].n == 0
    assert np.isfinite(found.metrics["balanced_accuracy"].value)
    assert np.isfinite(found.metrics["macro_auc_roc"].value)


@pytest.mark.parametrize("bad", [np.full((3, 2), 0.7), np.full((2, 2), 0.5), np.full((3, 2), np.nan)])
def test_what_is_no_distribution_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError):
        evaluate_classes(bad, np.array([0, 1, 0]), ("a", "b"))
