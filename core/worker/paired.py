"""Statistics of a paired difference: patients are the independent units. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.bootstrap import percentile_interval, resampled

RESAMPLES = 2000
_EXACT_UP_TO = 14
_SIGNS = 20_000


def paired(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return means, difference, its 95 % interval over patients and the two-sided p of a sign-flip test.

    Source: B. Efron, R. Tibshirani 1993, chapter 13 (percentile interval, patients drawn whole); E. J. G. Pitman 1937
    (permutation test of paired differences; exact up to 14 patients).
    """
    current = np.array([row["current"] for row in rows], dtype=np.float64)
    candidate = np.array([row["candidate"] for row in rows], dtype=np.float64)
    patients = np.array([row["patient"] for row in rows])
    difference = candidate - current

    def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((weights @ difference) / weights.sum(axis=1))[:, None]

    value, draws = resampled(mean, len(rows), groups=patients, resamples=RESAMPLES, seed=seed)
    low, high = percentile_interval(draws[:, 0])
    return {
        "current": float(current.mean()),
        "candidate": float(candidate.mean()),
        "difference": float(value[0]),
        "ci95": [low, high],
        "p": sign_flip_p(difference, patients, seed),
    }


def sign_flip_p(difference: NDArray[np.float64], patients: NDArray, seed: int = 0) -> float:
    """Return the two-sided p of a mean difference of zero; all cases of a patient change their sign together."""
    place = np.unique(patients, return_inverse=True)[1].ravel()
    sums = np.bincount(place, weights=difference)
    observed = abs(sums.sum())
    if len(sums) <= _EXACT_UP_TO:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
        found = np.abs(signs @ sums) >= observed - 1e-12
        return float(found.mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (_SIGNS, len(sums)))
    found = np.abs(signs @ sums) >= observed - 1e-12
    return float((found.sum() + 1) / (_SIGNS + 1))
