"""Areas under ROC and precision–recall curves, weighted, for many draws at once; the curves themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def weighted_areas(scores: Values, positive: NDArray[np.bool_], weights: Values) -> tuple[Values, Values]:
    """Return the area under the ROC curve and the average precision for each row of weights.

    Parameters
    ----------
    scores : numpy.ndarray
        ``(n,)``; ties count half (ROC) and share one threshold (average precision).
    weights : numpy.ndarray
        ``(draws, n)`` float64.

    Returns
    -------
    auc, average_precision : numpy.ndarray
        ``(draws,)``; NaN where a draw holds one class only.

    Source: D. Bamber, J. Math. Psychol. 1975 (area = Mann–Whitney); average precision as in scikit-learn.
    """
    if len(scores) == 0:
        nothing = np.full(len(weights), np.nan)
        return nothing, nothing
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order]) != 0), len(scores) - 1)
    drawn = weights[:, order]
    hits = np.cumsum(drawn * positive[order], axis=1)[:, last]
    called = np.cumsum(drawn, axis=1)[:, last]
    false = called - hits
    p, n = hits[:, -1], false[:, -1]
    step = np.diff(hits, axis=1, prepend=0.0)
    width = np.diff(false, axis=1, prepend=0.0)
    area = (width * (hits - step / 2)).sum(axis=1)
    exact = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    both = (p > 0) & (n > 0)
    auc = np.where(both, area / np.where(both, p * n, 1.0), np.nan)
    average = np.where(both, (step * exact).sum(axis=1) / np.where(both, p, 1.0), np.nan)
    return auc, average


def area_under_roc(scores: Values, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; NaN with one class only."""
    return float(weighted_areas(scores, positive, np.ones((1, len(scores))))[0][0])


@dataclass(frozen=True, eq=False)
class Curves:
    """Points of both curves at every threshold, ``(points,)`` each, from the highest threshold on."""

    false_positive_rate: Values
    true_positive_rate: Values
    precision: Values
    recall: Values


def curves(scores: Values, positive: NDArray[np.bool_]) -> Curves | None:
    """Return the curves; None with one class only."""
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order]) != 0), len(scores) - 1)
    hits = np.cumsum(positive[order])[last].astype(np.float64)
    false = last + 1 - hits
    tpr, fpr = hits / hits[-1], false / false[-1]
    exact = hits / (last + 1)
    return Curves(np.append(0.0, fpr), np.append(0.0, tpr), np.append(1.0, exact), np.append(0.0, tpr))
