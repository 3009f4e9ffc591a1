"""Two models on the same cases: is the difference more than chance?

Every test is paired: it looks at what changes from one model to the other on the same case. A difference is candidate
less current. Several comparisons of one question are corrected by Holm's method (``holm``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from core.compute.evaluation.bootstrap import percentile_interval, resampled

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """A candidate against the current model on one metric.

    ``ci95`` is the interval of the difference, ``p`` two-sided, ``n`` the cases, ``method`` the test;
    ``p_adjusted`` is Holm's when several were made, else None.
    """

    metric: str
    current: float
    candidate: float
    difference: float
    ci95: tuple[float, float]
    p: float
    n: int
    method: str
    p_adjusted: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        found = dict(vars(self))
        found["ci95"] = list(self.ci95)
        return found


def mcnemar(current_right: Flags, candidate_right: Flags, *, metric: str = "accuracy") -> Comparison:
    """Compare two classifiers' right answers by McNemar's exact test with the mid-p correction.

    The interval is that of A. Agresti and Y. Min (Statistics in Medicine 2005, 24:729–740): Wald's after half a case
    was added to each cell, so that equal models still get a width.

    Parameters
    ----------
    current_right, candidate_right : numpy.ndarray
        ``(N,)`` bool, in the same order of cases.

    Raises
    ------
    ValueError
        When the lengths differ or there is no case.

    Source: Q. McNemar, Psychometrika 1947; mid-p: M. W. Fagerland et al., BMC Med. Res. Methodol. 2013, 13:91.
    """
    a, b = _paired(current_right, candidate_right)
    n = len(a)
    lost, won = int((a & ~b).sum()), int((~a & b).sum())
    low, high = _agresti_min(won, lost, n)
    difference = (won - lost) / n
    p = mcnemar_p(lost, won, mid=True)
    return Comparison(
        metric,
        float(a.mean()),
        float(b.mean()),
        difference,
        (low, high),
        p,
        n,
        "McNemar's exact test, mid-p",
    )


def mcnemar_p(lost: int, won: int, *, mid: bool) -> float:
    """Return the two-sided p of ``won`` against ``lost`` discordant cases: exact, or mid-p."""
    discordant = lost + won
    if discordant == 0:
        return 1.0
    least = min(lost, won)
    p = 2 * float(stats.binom.cdf(least, discordant, 0.5))
    if mid:
        p -= float(stats.binom.pmf(least, discordant, 0.5))
    return min(1.0, p)


def _agresti_min(won: int, lost: int, n: int) -> tuple[float, float]:
    total = n + 2.0
    b, c = won + 0.5, lost + 0.5
    difference = (b - c) / total
    half = float(stats.norm.isf(0.025)) * np.sqrt(b + c - (b - c) ** 2 / total) / total
    return max(-1.0, float(difference - half)), min(1.0, float(difference + half))


def delong(positive: Flags, current: Values, candidate: Values, *, metric: str = "auc_roc") -> Comparison:
    """Compare the areas under two ROC curves of the same cases.

    Raises
    ------
    ValueError
        When lengths differ or one class is missing.

    Source: E. R. DeLong et al., Biometrics 1988; computed by midranks as X. Sun, W. Xu, IEEE SPL 2014.
    """
    areas, covariance = delong_covariance(positive, np.stack([current, candidate]))
    difference = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    spread = float(np.sqrt(max(variance, 0.0)))
    if spread < 1e-12:
        p = 1.0 if abs(difference) < 1e-12 else 0.0
    else:
        p = float(2 * stats.norm.sf(abs(difference) / spread))
    half = float(stats.norm.isf(0.025)) * spread
    return Comparison(
        metric,
        float(areas[0]),
        float(areas[1]),
        difference,
        (difference - half, difference + half),
        p,
        len(positive),
        "DeLong",
    )


def delong_covariance(positive: Flags, scores: Values) -> tuple[Values, Values]:
    """Return the areas ``(k,)`` and their covariance ``(k, k)`` of ``(k, N)`` scores; ValueError as ``delong``."""
    positive = np.asarray(positive, bool)
    scores = np.atleast_2d(np.asarray(scores, np.float64))
    if scores.shape[1] != len(positive):
        raise ValueError("scores and truth differ in length")
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        raise ValueError("both classes are needed for an area under the curve")
    x, y = scores[:, positive], scores[:, ~positive]
    rank_x = stats.rankdata(x, axis=1)
    rank_y = stats.rankdata(y, axis=1)
    rank = stats.rankdata(np.concatenate([x, y], axis=1), axis=1)
    of_positive = (rank[:, :m] - rank_x) / n
    of_negative = 1.0 - (rank[:, m:] - rank_y) / m
    areas = of_positive.mean(axis=1)
    k = len(scores)
    covariance = np.zeros((k, k))
    for part, count in ((of_positive, m), (of_negative, n)):
        if count > 1:
            covariance += np.cov(part).reshape(k, k) / count
    return areas, covariance


def paired_bootstrap(
    current: Values,
    candidate: Values,
    *,
    metric: str,
    patients: NDArray | None = None,
    resamples: int = 5000,
    seed: int = 0,
) -> Comparison:
    """Compare the means of per-case values (Dice, right or wrong) by drawing cases with both models' values.

    p is twice the smaller share of draws on either side of no difference, never below 1 / (resamples + 1).

    Raises
    ------
    ValueError
        When the lengths differ or there is no case.

    Source: B. Efron, R. Tibshirani 1993, chapters 13 and 15.
    """
    a, b = _paired(current, candidate)
    d = b.astype(np.float64) - a

    def statistic(weights: Values) -> Values:
        out: Values = (weights @ d / np.maximum(weights.sum(axis=1), 1e-300))[:, None]
        return out

    value, draws = resampled(statistic, len(d), groups=patients, resamples=resamples, seed=seed)
    below, above = int((draws <= 0).sum()), int((draws >= 0).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (resamples + 1))
    if not d.any():
        p = 1.0
    return Comparison(
        metric,
        float(a.mean()),
        float(b.mean()),
        float(value[0]),
        percentile_interval(draws[:, 0]),
        p,
        len(d),
        "paired bootstrap" + ("" if patients is None else " over patients"),
    )


def wilcoxon_p(current: Values, candidate: Values) -> float:
    """Return the two-sided p of the signed-rank test; 1 when no case changes. Source: F. Wilcoxon 1945."""
    a, b = _paired(current, candidate)
    d = b - a
    return 1.0 if not d.any() else float(stats.wilcoxon(d, zero_method="pratt").pvalue)


def permutation_p(
    current: Values,
    candidate: Values,
    *,
    patients: NDArray | None = None,
    resamples: int = 9999,
    seed: int = 0,
) -> float:
    """Return the two-sided p of the mean difference when models are swapped within cases (or patients) at random.

    All sign changes are tried when there are at most 2¹² of them.

    Source: R. A. Fisher 1935; the added one: B. Phipson, G. K. Smyth 2010.
    """
    a, b = _paired(current, candidate)
    d = b.astype(np.float64) - a
    if patients is not None:
        place = np.unique(np.asarray(patients), return_inverse=True)[1].ravel()
        d = np.bincount(place, d)
    seen = abs(d.sum()) - 1e-12 * np.abs(d).sum()
    n = len(d)
    if n <= 12:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ d) >= seen).mean())
    rng = np.random.default_rng(seed)
    hits, left = 0, resamples
    while left:
        rows = min(left, max(1, 1_000_000 // n))
        signs = 1.0 - 2.0 * rng.integers(0, 2, (rows, n))
        hits += int((np.abs(signs @ d) >= seen).sum())
        left -= rows
    return (hits + 1) / (resamples + 1)


def holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with ``p_adjusted`` by S. Holm's step-down method (Scand. J. Statist. 1979)."""
    order = np.argsort([c.p for c in comparisons], kind="stable")
    adjusted = [0.0] * len(comparisons)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(comparisons) - rank) * comparisons[place].p))
        adjusted[place] = largest
    return [replace(c, p_adjusted=p) for c, p in zip(comparisons, adjusted, strict=True)]


def _paired(a: NDArray, b: NDArray) -> tuple[NDArray, NDArray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError("paired values must be two equally long rows")
    if len(a) == 0:
        raise ValueError("there is no case to compare on")
    return a, b


def compare_classifiers(
    labels: NDArray[np.int64],
    current: Values,
    candidate: Values,
    names: Sequence[str],
    *,
    patients: NDArray | None = None,
    seed: int = 0,
) -> list[Comparison]:
    """Compare two classifiers' ``(N, C)`` probabilities: accuracy, recall per class, area under ROC per class.

    Accuracy and recall by McNemar, by the paired bootstrap over patients where cases belong to patients; areas by
    DeLong, which takes cases as independent. Holm's correction over all rows.
    """
    labels = np.asarray(labels)
    right = [np.asarray(p).argmax(axis=1) == labels for p in (current, candidate)]
    rows = [_right_or_wrong(right[0], right[1], "accuracy", patients, seed)]
    for k, name in enumerate(names):
        mine = labels == k
        if not mine.any():
            continue
        who = None if patients is None else np.asarray(patients)[mine]
        rows.append(_right_or_wrong(right[0][mine], right[1][mine], f"recall {name}", who, seed))
        if not mine.all():
            rows.append(delong(mine, current[:, k], candidate[:, k], metric=f"auc_roc {name}"))
    return holm(rows)


def _right_or_wrong(a: Flags, b: Flags, metric: str, patients: NDArray | None, seed: int) -> Comparison:
    if patients is None or len(np.unique(patients)) == len(a):
        return mcnemar(a, b, metric=metric)
    return paired_bootstrap(
        a.astype(np.float64), b.astype(np.float64), metric=metric, patients=patients, seed=seed
    )


def compare_cases(
    current: Values,
    candidate: Values,
    *,
    metric: str,
    patients: NDArray | None = None,
    resamples: int = 5000,
    seed: int = 0,
) -> Comparison:
    """Compare per-case values such as Dice: interval by the paired bootstrap, p by the sign permutation test."""
    found = paired_bootstrap(
        current, candidate, metric=metric, patients=patients, resamples=resamples, seed=seed
    )
    p = permutation_p(current, candidate, patients=patients, seed=seed)
    return replace(found, p=p, method="paired bootstrap (interval), sign permutation (p)")
