"""Accuracy, recall, calibration and prediction sets of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from core.compute.evaluation.bootstrap import Estimate, bootstrap

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class ClassificationReport:
    """Results on a test set.

    ``recall`` and ``precision`` per class; ``coverage`` share of pictures whose prediction set holds the
    truth, ``set_size`` mean size of those sets; ``calibration_error`` with 15 bins.
    """

    accuracy: Estimate
    macro_f1: Estimate
    recall: dict[str, float]
    precision: dict[str, float]
    calibration_error: float
    coverage: float
    set_size: float


def softmax(logits: Matrix, temperature: float = 1.0) -> Matrix:
    """Return class probabilities of ``(N, C)`` logits divided by a temperature."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    out: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return out


def fit_temperature(logits: Matrix, labels: NDArray[np.int64]) -> float:
    """Return the temperature (0.05 … 20) with the smallest negative log-likelihood.

    Source: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        p = softmax(logits, float(np.exp(log_temperature)))[rows, labels]
        return float(-np.log(np.maximum(p, 1e-12)).mean())

    found = optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def conformal_quantile(probabilities: Matrix, labels: NDArray[np.int64], coverage: float) -> float:
    """Return q so that the set of classes with 1 − p ≤ q holds the truth with at least ``coverage``.

    Source: M. Sadinle et al., JASA 2019 (split conformal with the score 1 − p of the true class).
    """
    scores = np.sort(1.0 - probabilities[np.arange(len(labels)), labels])
    rank = int(np.ceil((len(scores) + 1) * coverage))
    return float(scores[rank - 1]) if rank <= len(scores) else 1.0


def expected_calibration_error(probabilities: Matrix, labels: NDArray[np.int64], bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal bins. Source: Naeini et al., AAAI 2015."""
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    right = predicted == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[place == b].mean() - confidence[place == b].mean()) * (place == b).mean()
            for b in range(bins) if (place == b).any()]  # fmt: skip
    return float(sum(gaps))


def macro_f1(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> float:
    """Return the mean F1 over the classes that occur in either."""
    scores = []
    for c in range(classes):
        hit = int(((predicted == c) & (labels == c)).sum())
        total = int((predicted == c).sum() + (labels == c).sum())
        if total:
            scores.append(2 * hit / total)
    return float(np.mean(scores))


def report(
    probabilities: Matrix, labels: NDArray[np.int64], names: Sequence[str], quantile: float, seed: int = 0
) -> ClassificationReport:
    """Evaluate calibrated probabilities on a test set; intervals over the pictures."""
    predicted = probabilities.argmax(axis=1)
    pairs = np.stack([predicted, labels], axis=1)
    sets = 1.0 - probabilities <= quantile

    def share(one: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
        return float(one[of].mean()) if of.any() else float("nan")

    return ClassificationReport(
        accuracy=bootstrap(lambda p: float((p[:, 0] == p[:, 1]).mean()), pairs, seed=seed),
        macro_f1=bootstrap(lambda p: macro_f1(p[:, 0], p[:, 1], len(names)), pairs, seed=seed),
        recall={name: share(predicted == n, labels == n) for n, name in enumerate(names)},
        precision={name: share(labels == n, predicted == n) for n, name in enumerate(names)},
        calibration_error=expected_calibration_error(probabilities, labels),
        coverage=float(sets[np.arange(len(labels)), labels].mean()),
        set_size=float(sets.sum(axis=1).mean()),
    )
