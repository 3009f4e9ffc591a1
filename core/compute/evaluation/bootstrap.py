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


def resampled(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    n: int,
    *,
    groups: NDArray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Evaluate a vectorised statistic on the cases and on draws of them with replacement.

    Drawing cases is giving them whole weights; all draws of a part are computed in one call, which makes thousands of
    draws as cheap as a few matrix products.

    Parameters
    ----------
    statistic : callable
        Maps ``(draws, n)`` float64 weights of the cases to ``(draws, values)`` float64.
    groups : numpy.ndarray, optional
        ``(n,)``; cases of one group (a patient) are drawn together, so that their likeness widens the interval.
    resamples : int
        Number of draws.

    Returns
    -------
    values, draws : numpy.ndarray
        ``(values,)`` on the cases themselves and ``(resamples, values)`` on the draws, float64.

    Source: B. Efron, R. Tibshirani 1993, chapter 13; clusters: A. C. Davison, D. V. Hinkley 1997, section 3.8.
    """
    values = statistic(np.ones((1, n)))[0]
    if n == 0 or resamples == 0:
        return values, np.full((0, len(values)), np.nan)
    rng = np.random.default_rng(seed)
    place = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    units = n if place is None else int(place.max()) + 1
    part = max(1, min(resamples, 2_000_000 // max(n, 1)))
    draws = []
    for start in range(0, resamples, part):
        rows = min(part, resamples - start)
        chosen = rng.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)
        draws.append(statistic(counts if place is None else counts[:, place]))
    return values, np.concatenate(draws)


def percentile_interval(draws: NDArray[np.float64], coverage: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of ``(resamples,)`` draws; draws without a value are left out."""
    finite = draws[np.isfinite(draws)]
    if finite.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
