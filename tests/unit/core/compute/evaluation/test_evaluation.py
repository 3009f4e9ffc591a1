"""Measures against references: MONAI and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from core.compute.evaluation.bootstrap import bootstrap, mean_of
from core.compute.evaluation.classification import (
    conformal_quantile,
    expected_calibration_error,
    fit_temperature,
    macro_f1,
    report,
    softmax,
)
from core.compute.evaluation.segmentation import (
    confusion,
    dice_from,
    dice_of_case,
    dice_over_cases,
    iou_from,
)


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 4, (6, 9, 11)).astype(np.uint8)
    predicted = np.where(rng.uniform(size=truth.shape) < 0.3, rng.integers(0, 4, truth.shape), truth)
    return predicted.astype(np.uint8), truth


def test_dice_equals_monai() -> None:
    import torch
    from monai.metrics import DiceMetric, MeanIoU

    predicted, truth = label_maps()
    onehot = [
        torch.nn.functional.one_hot(torch.from_numpy(a.astype(np.int64)), 4).movedim(-1, 0)[None]
        for a in (predicted, truth)
    ]
    dice = DiceMetric(include_background=True, reduction="none")(*onehot)[0].numpy()
    iou = MeanIoU(include_background=True, reduction="none")(*onehot)[0].numpy()
    matrix = confusion(predicted, truth, 4)
    assert np.allclose(dice_from(matrix), dice, atol=1e-6)
    assert np.allclose(iou_from(matrix), iou, atol=1e-6)


def test_a_missed_structure_counts_as_zero_and_an_absent_one_not_at_all() -> None:
    truth, nothing = np.array([[1, 1, 0]]), np.array([[0, 0, 0]])
    dice = dice_from(confusion(nothing, truth, 3))
    assert dice[1] == 0.0
    assert np.isnan(dice[2])


def test_maps_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match="below"):
        confusion(np.full((2, 2), 5), np.zeros((2, 2), int), 2)


def test_dice_over_cases_has_an_interval_around_the_mean() -> None:
    predicted, truth = label_maps()
    found = dice_over_cases([(predicted, truth), (truth, truth), (predicted, predicted)], ["a", "b", "c"])
    assert found["a"].low <= found["a"].value <= found["a"].high
    assert found["a"].value < 1.0


def test_dice_of_a_case_is_the_dice_of_the_whole() -> None:
    predicted, truth = label_maps()
    whole = dice_from(confusion(predicted, truth, 4))[1:]
    found = dice_of_case(predicted, truth, ["a", "b", "c"])
    assert np.allclose([e.value for e in found.values()], whole)
    assert all(e.low <= e.value <= e.high for e in found.values())


def test_bootstrap_repeats_and_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    assert bootstrap(mean_of, np.arange(9.0)) == bootstrap(mean_of, np.arange(9.0))
    inside = 0
    for n in range(60):
        e = bootstrap(mean_of, rng.normal(1.0, 2.0, 60), resamples=300, seed=n)
        inside += e.low <= 1.0 <= e.high
    assert 50 <= inside <= 60


def logits_and_labels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 5, 800)
    logits = rng.normal(0, 1, (800, 5))
    logits[np.arange(800), labels] += 2.0
    return logits, labels


def test_measures_equal_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    logits, labels = logits_and_labels()
    p = softmax(logits)
    predicted = p.argmax(axis=1)
    found = report(p, labels, list("abcde"), 0.9)
    assert found.accuracy.value == pytest.approx(accuracy_score(labels, predicted))
    assert found.macro_f1.value == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert list(found.recall.values()) == pytest.approx(list(recall_score(labels, predicted, average=None)))
    assert list(found.precision.values()) == pytest.approx(
        list(precision_score(labels, predicted, average=None))
    )
    assert macro_f1(predicted, labels, 5) == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_temperature_finds_the_factor_that_was_hidden() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(0, 2, (4000, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(true)])
    assert fit_temperature(true * 3.0, labels) == pytest.approx(3.0, rel=0.1)


def test_prediction_sets_cover_what_they_promise() -> None:
    logits, labels = logits_and_labels()
    p = softmax(logits)
    quantile = conformal_quantile(p[:400], labels[:400], 0.9)
    covered = (1 - p[np.arange(400, 800), labels[400:]] <= quantile).mean()
    assert covered > 0.86


def test_calibration_error_of_a_perfectly_calibrated_answer_is_zero() -> None:
    p = np.tile([0.75, 0.25], (400, 1))
    labels = np.array([0, 0, 0, 1] * 100)
    assert expected_calibration_error(p, labels) == pytest.approx(0.0, abs=1e-9)
