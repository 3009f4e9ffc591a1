"""Confidence intervals by the seeded percentile bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float

    def as_list(self) -> list[float]:
        """Return [value, low, high] rounded to four digits."""
        return [round(self.value, 4), round(self.low, 4), round(self.high, 4)]


def bootstrap(
    statistic: Callable[[NDArray], float],
    cases: NDArray,
    *,
    resamples: int = 2000,
    coverage: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate a statistic and its percentile interval by drawing cases with replacement.

    Parameters
    ----------
    statistic : callable
        Maps ``(n, …)`` cases to a number; NaN results are left out of the interval.
    cases : numpy.ndarray
        ``(n, …)``; the first axis are the independent units (patients, pictures).

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    cases = np.asarray(cases)
    value = float(statistic(cases))
    if len(cases) == 0:
        return Estimate(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    draws = [float(statistic(cases[rng.integers(0, len(cases), len(cases))])) for _ in range(resamples)]
    finite = np.array([d for d in draws if np.isfinite(d)])
    if finite.size == 0:
        return Estimate(value, float("nan"), float("nan"))
    tail = (1 - coverage) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def mean_of(cases: NDArray) -> float:
    """Return the mean of the finite cases; NaN when there is none."""
    finite = cases[np.isfinite(cases)]
    return float(finite.mean()) if finite.size else float("nan")
