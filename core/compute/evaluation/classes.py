"""All metrics of a classifier on a test set, each with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation import confusion as of
from core.compute.evaluation.bootstrap import percentile_interval, resampled
from core.compute.evaluation.calibration import weighted_ece
from core.compute.evaluation.intervals import clopper_pearson, effective_cases, wilson
from core.compute.evaluation.ranking import weighted_areas
from core.recipes.gates import Measured

Values = NDArray[np.float64]
OVERALL = (
    "accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "macro_recall", "macro_specificity",
    "macro_auc_roc", "macro_auc_pr", "cohen_kappa", "mcc", "brier", "nll", "ece",
)  # fmt: skip
PER_CLASS = ("recall", "precision", "specificity", "f1", "auc_roc", "auc_pr")
_FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class ClassMetrics:
    """Metrics of a classifier.

    Attributes
    ----------
    names : tuple of str
        Classes in the order of the probabilities.
    metrics, per_class : dict
        Metric → value (``OVERALL``); class → metric → value (``PER_CLASS``). Recall is sensitivity. Brier is the sum
        over classes of squared differences, 0…2; ``ece`` has 15 equal bins.
    matrix : numpy.ndarray
        ``(C, C)`` int64 counts, rows truth, columns prediction.
    cases, clusters : int
        Cases, and independent units (patients) among them.
    """

    names: tuple[str, ...]
    metrics: dict[str, Measured]
    per_class: dict[str, dict[str, Measured]]
    matrix: NDArray[np.int64]
    cases: int
    clusters: int
    draws: dict[str, Values] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the draws for JSON."""
        return {
            "classes": list(self.names),
            "metrics": {k: v.as_dict() for k, v in self.metrics.items()},
            "per_class": {c: {k: v.as_dict() for k, v in m.items()} for c, m in self.per_class.items()},
            "confusion_matrix": self.matrix.tolist(),
            "cases": self.cases,
            "clusters": self.clusters,
        }


def check_probabilities(probabilities: Values, labels: NDArray[np.int64], names: Sequence[str]) -> None:
    """Refuse what can't be evaluated.

    Raises
    ------
    ValueError
        When shapes disagree, a label is out of range, or a row isn't a distribution within 1e-3.
    """
    if probabilities.shape != (len(labels), len(names)):
        raise ValueError(
            f"probabilities are {probabilities.shape}, expected {len(labels)} cases × {len(names)}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= len(names)):
        raise ValueError("a label is out of range")
    if not np.isfinite(probabilities).all() or np.abs(probabilities.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise ValueError("probabilities of a case don't add up to 1")


def evaluate_classes(
    probabilities: Values,
    labels: NDArray[np.int64],
    names: Sequence[str],
    *,
    patients: NDArray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> ClassMetrics:
    """Evaluate ``(N, C)`` probabilities against ``(N,)`` labels.

    Parameters
    ----------
    patients : numpy.ndarray, optional
        ``(N,)`` identifiers: cases of one patient are drawn together.
    resamples : int
        Draws of the percentile bootstrap.

    Raises
    ------
    ValueError
        From ``check_probabilities``.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    check_probabilities(probabilities, labels, names)
    n, c = probabilities.shape

    def statistic(weights: Values) -> Values:
        return _values(probabilities, labels, weights)

    values, draws = resampled(statistic, n, groups=patients, resamples=resamples, seed=seed)
    clusters = n if patients is None else len(np.unique(np.asarray(patients)))
    predicted = probabilities.argmax(axis=1)
    matrix = np.bincount(labels * c + predicted, minlength=c * c).reshape(c, c)
    counts = {
        "recall": matrix.sum(axis=1),
        "precision": matrix.sum(axis=0),
        "specificity": n - matrix.sum(axis=1),
    }
    names = tuple(names)

    def measured(column: int, of_n: int, proportion: bool, independent: int) -> Measured:
        value, drawn = float(values[column]), draws[:, column]
        low, high = percentile_interval(drawn)
        if not proportion or not np.isfinite(value):
            return Measured(value, low, high, of_n)
        worth = effective_cases(value, of_n, independent, float(np.nanvar(drawn)) if len(drawn) else np.nan)
        right = value * worth
        if worth == of_n:
            right = round(right)
        return Measured(value, low, high, of_n, clopper_pearson(right, worth), wilson(right, worth))

    metrics = {m: measured(i, n, m == "accuracy", clusters) for i, m in enumerate(OVERALL)}
    per_class: dict[str, dict[str, Measured]] = {name: {} for name in names}
    who = np.arange(n) if patients is None else np.asarray(patients)
    chosen = {
        "recall": lambda k: labels == k,
        "precision": lambda k: predicted == k,
        "specificity": lambda k: labels != k,
    }
    for j, metric in enumerate(PER_CLASS):
        for k, name in enumerate(names):
            column = len(OVERALL) + j * c + k
            exact = metric in counts
            of_n = int(counts[metric][k]) if exact else int(matrix[k].sum())
            independent = len(np.unique(who[chosen[metric](k)])) if exact else of_n
            per_class[name][metric] = measured(column, of_n, exact, independent)
    return ClassMetrics(
        names, metrics, per_class, matrix, n, clusters, {m: draws[:, i] for i, m in enumerate(OVERALL)}
    )


def _values(probabilities: Values, labels: NDArray[np.int64], weights: Values) -> Values:
    """Return ``(draws, len(OVERALL) + len(PER_CLASS) · C)``."""
    n, c = probabilities.shape
    rows = np.arange(n)
    predicted = probabilities.argmax(axis=1)
    cell = np.zeros((n, c * c))
    cell[rows, labels * c + predicted] = 1.0
    m = (weights @ cell).reshape(-1, c, c)
    recall, precision, specificity, f1 = of.recall(m), of.precision(m), of.specificity(m), of.f1(m)
    areas = [weighted_areas(probabilities[:, k], labels == k, weights) for k in range(c)]
    auc, average = np.stack([a for a, _ in areas], axis=1), np.stack([b for _, b in areas], axis=1)
    truth = np.zeros((n, c))
    truth[rows, labels] = 1.0
    total = np.maximum(weights.sum(axis=1), 1e-300)
    brier = weights @ ((probabilities - truth) ** 2).sum(axis=1) / total
    nll = weights @ -np.log(np.maximum(probabilities[rows, labels], _FLOOR)) / total
    overall = [
        of.accuracy(m), of.balanced_accuracy(m), of.macro(f1), of.macro(precision), of.macro(recall),
        of.macro(specificity), of.macro(auc), of.macro(average), of.cohen_kappa(m), of.matthews(m), brier, nll,
        weighted_ece(probabilities.max(axis=1), predicted == labels, weights),
    ]  # fmt: skip
    return np.concatenate(
        [np.stack(overall, axis=1), recall, precision, specificity, f1, auc, average], axis=1
    )
