"""Agreement between readers, and of readers with a model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.bootstrap import percentile_interval, resampled
from core.compute.evaluation.confusion import cohen_kappa
from core.recipes.gates import Measured

Values = NDArray[np.float64]
Codes = NDArray[np.int64]


def kappa_of_pair(
    first: Codes,
    second: Codes,
    categories: int,
    *,
    weights: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Measured:
    """Return Cohen's kappa of two raters with its interval over the cases.

    Parameters
    ----------
    first, second : numpy.ndarray
        ``(N,)`` categories 0 … ``categories`` − 1.
    weights : str, optional
        ``"linear"`` or ``"quadratic"`` for ordered categories.

    Raises
    ------
    ValueError
        When the lengths differ.

    Source: J. Cohen 1960, 1968. Where both raters use one category only, kappa has no value (NaN).
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise ValueError("both raters must have rated the same cases")
    n = len(first)
    cell = np.zeros((n, categories * categories))
    cell[np.arange(n), first * categories + second] = 1.0

    def statistic(w: Values) -> Values:
        return cohen_kappa((w @ cell).reshape(-1, categories, categories), weights)[:, None]

    value, draws = resampled(statistic, n, resamples=resamples, seed=seed)
    return Measured(float(value[0]), *percentile_interval(draws[:, 0]), n)


def fleiss_kappa(ratings: Codes, categories: int) -> float:
    """Return Fleiss' kappa of ``(cases, raters)`` categories; every case has the same number of ratings.

    Raises
    ------
    ValueError
        With fewer than two raters.

    Source: J. L. Fleiss, Psychol. Bull. 1971, 76:378–382.
    """
    ratings = np.asarray(ratings)
    raters = ratings.shape[1]
    if raters < 2:
        raise ValueError("agreement needs two raters")
    counts = np.stack([(ratings == c).sum(axis=1) for c in range(categories)], axis=1)
    share = counts.sum(axis=0) / counts.sum()
    seen = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    chance = float((share**2).sum())
    return float((seen.mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def intraclass_correlation(ratings: Values) -> float:
    """Return ICC(2,1) of ``(cases, raters)`` numbers: two-way random effects, absolute agreement, one rater.

    Source: P. E. Shrout, J. L. Fleiss, Psychol. Bull. 1979, 86:420–428.
    """
    x = np.asarray(ratings, np.float64)
    n, k = x.shape
    mean = x.mean()
    rows = k * ((x.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((x.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    rest = ((x - mean) ** 2).sum() - rows * (n - 1) - columns * (k - 1)
    error = rest / ((n - 1) * (k - 1))
    below = rows + (k - 1) * error + k * (columns - error) / n
    return float((rows - error) / below) if below > 0 else float("nan")


@dataclass(frozen=True)
class Agreement:
    """Kappa of every pair of raters, Fleiss' kappa of the readers, and how each reader agrees with the model.

    ``pairs`` maps ``"A and B"`` to kappa; ``fleiss`` is over the cases that all readers rated (``n``).
    """

    pairs: dict[str, Measured]
    with_model: dict[str, Measured]
    fleiss: float
    n: int

    def as_dict(self) -> dict[str, object]:
        """Return the agreement for JSON."""
        return {
            "pairs": {k: v.as_dict() for k, v in self.pairs.items()},
            "with_model": {k: v.as_dict() for k, v in self.with_model.items()},
            "fleiss_kappa": self.fleiss,
            "n": self.n,
        }


def agreement(
    readers: Mapping[str, Mapping[str, str]],
    model: Mapping[str, str] | None = None,
    *,
    categories: Sequence[str] | None = None,
    weights: str | None = None,
) -> Agreement:
    """Compare raters on the cases that they share.

    Parameters
    ----------
    readers : mapping
        Reader → case → category.
    model : mapping, optional
        Case → category of the model.
    categories : sequence of str, optional
        In their order (needed for weighted kappa); else those that occur, sorted.
    """
    everyone = [*readers.values(), *([model] if model else [])]
    names = list(categories) if categories else sorted({v for r in everyone for v in r.values()})
    code = {name: n for n, name in enumerate(names)}

    def kappa(a: Mapping[str, str], b: Mapping[str, str]) -> Measured:
        shared = sorted(set(a) & set(b))
        x, y = (np.array([code[r[c]] for c in shared], dtype=np.int64) for r in (a, b))
        return kappa_of_pair(x, y, len(names), weights=weights)

    pairs = {f"{a} and {b}": kappa(readers[a], readers[b]) for a, b in itertools.combinations(readers, 2)}
    shared = sorted(set.intersection(*(set(r) for r in readers.values()))) if readers else []
    together = float("nan")
    if len(readers) > 1 and shared:
        table = np.array([[code[r[c]] for r in readers.values()] for c in shared])
        together = fleiss_kappa(table, len(names))
    with_model = {name: kappa(rated, model) for name, rated in readers.items()} if model else {}
    return Agreement(pairs, with_model, together, len(shared))
