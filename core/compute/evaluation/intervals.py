"""Confidence intervals of proportions."""

from __future__ import annotations

import numpy as np
from scipy import stats


def wilson(right: float, n: float, coverage: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of ``right`` out of ``n`` (both may be effective, non-whole numbers).

    Source: E. B. Wilson, JASA 1927; without continuity correction.
    """
    if n <= 0:
        return float("nan"), float("nan")
    z = float(stats.norm.isf((1 - coverage) / 2))
    p = right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = max(0.0, float(middle - half)), min(1.0, float(middle + half))
    # The ends are exactly 0 and 1 there; rounding would leave 1e-17.
    return (0.0 if right <= 0 else low), (1.0 if right >= n else high)


def clopper_pearson(right: float, n: float, coverage: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of ``right`` out of ``n`` (both may be effective, non-whole numbers).

    Source: C. J. Clopper, E. S. Pearson, Biometrika 1934, by quantiles of the beta distribution.
    """
    if n <= 0:
        return float("nan"), float("nan")
    tail = (1 - coverage) / 2
    low = 0.0 if right <= 0 else float(stats.beta.ppf(tail, right, n - right + 1))
    high = 1.0 if right >= n else float(stats.beta.ppf(1 - tail, right + 1, n - right))
    return low, high


def effective_cases(value: float, n: int, clusters: int, variance: float) -> float:
    """Return how many independent cases ``n`` clustered ones are worth.

    ``n`` over the design effect, which is the variance of the proportion (from a bootstrap over clusters) over that
    of independent cases, at least 1. At 0 and 1, where no variance is seen, the number of clusters is taken.

    Source: E. L. Korn, B. I. Graubard, Survey Methodology 1998, 24:193–201.
    """
    if clusters >= n or n == 0:
        return float(n)
    independent = value * (1 - value) / n
    if not np.isfinite(variance) or independent <= 0 or variance <= 0:
        return float(clusters)
    return max(1.0, n / max(1.0, variance / independent))
