"""Does a model serve all groups of patients alike?

Groups come from columns given with the cases (sex, age band, scanner). A group below the least size is named as too
small and enters no gap: a gap of five patients is noise. The permutation test asks how often a gap as large arises when
the group labels are dealt out at random.

Source: M. Hardt et al., NeurIPS 2016 (equalized odds); definitions of the differences as in fairlearn's documentation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.bootstrap import percentile_interval, resampled
from core.compute.evaluation.intervals import clopper_pearson
from core.recipes.gates import Measured

Values = NDArray[np.float64]
MIN_GROUP = 10
MAX_GROUPS = 12
_BANDS = 3
_BAND_ORDER = {"≤": 0, ">": 2}
# A group of one or two cases is not named: its value may be that of a person.
_NAMED_FROM = 3
_IDENTITY = re.compile(r"name|patient|birth|mrn|accession|address|phone|e-?mail|insurance|(^|_)id($|_)")


@dataclass(frozen=True)
class GroupReport:
    """One column: its groups against each other.

    Attributes
    ----------
    groups : dict
        Group → metric → value with interval (``accuracy`` and ``recall <class>``, or the given score).
    too_small : dict
        Group → cases, below the least size: not compared. Those of one or two cases are together, as “others”.
    gaps : dict
        Metric → largest less smallest of the groups. ``equalized_odds`` is the largest gap of any class's true- or
        false-positive rate, ``demographic_parity`` of the share that any class is predicted in.
    p : dict
        Metric → share of permutations with a gap at least as large.
    """

    column: str
    groups: dict[str, dict[str, Measured]]
    too_small: dict[str, int]
    gaps: dict[str, float]
    p: dict[str, float]
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "column": self.column,
            "groups": {g: {k: v.as_dict() for k, v in m.items()} for g, m in self.groups.items()},
            "too_small": self.too_small,
            "gaps": self.gaps,
            "p": self.p,
            "note": self.note,
        }


def grouped(values: Sequence[str]) -> list[str] | None:
    """Return the groups of a column's texts: the values, or thirds of a column of many numbers; None for neither.

    A column of many different texts (names, dates) makes no groups and must not be printed.
    """
    kinds = set(values)
    if len(kinds) <= MAX_GROUPS:
        return [v or "not stated" for v in values]
    try:
        numbers = np.array([float(v) if v else np.nan for v in values])
    except ValueError:
        return None
    edges = np.nanquantile(numbers, np.linspace(0, 1, _BANDS + 1)[1:-1], method="lower")
    names = [
        f"≤ {edges[0]:g}",
        *(f"{low:g} – {high:g}" for low, high in itertools.pairwise(edges)),
        f"> {edges[-1]:g}",
    ]
    return [
        "not stated" if np.isnan(x) else names[int(np.searchsorted(edges, x, side="left"))] for x in numbers
    ]


def fairness_of_classes(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    names: Sequence[str],
    column: str,
    groups: Sequence[str],
    *,
    min_group: int = MIN_GROUP,
    permutations: int = 1999,
    seed: int = 0,
) -> GroupReport:
    """Compare groups on accuracy, recall per class, equalized odds and demographic parity.

    Parameters
    ----------
    labels, predicted : numpy.ndarray
        ``(N,)`` class indices.
    groups : sequence of str
        ``(N,)`` group of each case.
    """
    labels, predicted, who = np.asarray(labels), np.asarray(predicted), np.asarray(groups)
    large, small = _split(who, min_group)
    found = {g: _class_metrics(labels[who == g], predicted[who == g], names) for g in large}
    keep = np.isin(who, large)
    if len(large) < 2:
        return GroupReport(column, found, small, {}, {}, _few(large))
    c = len(names)
    y, z = np.eye(c)[labels[keep]], np.eye(c)[predicted[keep]]
    place = _places(large, who[keep])

    def gaps(place: NDArray) -> Values:
        member = np.eye(len(large))[place]
        return _gaps(member.T, y, z, min_group)

    seen, p = _permuted(gaps, place, permutations, seed)
    keys = ["accuracy", *(f"recall {n}" for n in names), "equalized_odds", "demographic_parity"]
    known = [i for i, g in enumerate(seen) if np.isfinite(g)]
    return GroupReport(
        column,
        found,
        small,
        {keys[i]: float(seen[i]) for i in known},
        {keys[i]: float(p[i]) for i in known},
    )


def fairness_of_scores(
    scores: Values,
    metric: str,
    column: str,
    groups: Sequence[str],
    *,
    min_group: int = MIN_GROUP,
    permutations: int = 1999,
    seed: int = 0,
) -> GroupReport:
    """Compare groups on the mean of a per-case score such as Dice."""
    scores, who = np.asarray(scores, np.float64), np.asarray(groups)
    known = np.isfinite(scores)
    scores, who = scores[known], who[known]
    large, small = _split(who, min_group)
    found = {}
    for group in large:
        x = scores[who == group]
        value, draws = resampled(partial(_mean, x), len(x), seed=seed)
        found[group] = {metric: Measured(float(value[0]), *percentile_interval(draws[:, 0]), len(x))}
    if len(large) < 2:
        return GroupReport(column, found, small, {}, {}, _few(large))
    keep = np.isin(who, large)
    place = _places(large, who[keep])
    x = scores[keep]

    def gaps(place: NDArray) -> Values:
        means = np.bincount(place, x) / np.bincount(place)
        return np.array([means.max() - means.min()])

    seen, p = _permuted(gaps, place, permutations, seed)
    return GroupReport(column, found, small, {metric: float(seen[0])}, {metric: float(p[0])})


def _places(large: Sequence[str], who: NDArray) -> NDArray[np.int64]:
    index = {group: n for n, group in enumerate(large)}
    return np.array([index[group] for group in who], dtype=np.int64)


def _mean(x: Values, weights: Values) -> Values:
    out: Values = (weights @ x / weights.sum(axis=1))[:, None]
    return out


def _split(who: NDArray, min_group: int) -> tuple[list[str], dict[str, int]]:
    names, counts = np.unique(who, return_counts=True)
    sizes = {str(n): int(k) for n, k in zip(names, counts, strict=True)}
    # Bands of numbers in their order, not that of their first character.
    sizes = dict(sorted(sizes.items(), key=lambda pair: _BAND_ORDER.get(pair[0][:1], 1)))
    small: dict[str, int] = {}
    for group, k in sizes.items():
        if k < min_group:
            name = group if k >= _NAMED_FROM else "others"
            small[name] = small.get(name, 0) + k
    return [g for g, k in sizes.items() if k >= min_group], small


def _few(large: Sequence[str]) -> str:
    return "no group is large enough to be compared" if not large else "only one group is large enough"


def _class_metrics(labels: NDArray, predicted: NDArray, names: Sequence[str]) -> dict[str, Measured]:
    def share(right: NDArray[np.bool_]) -> Measured:
        n, k = len(right), int(right.sum())
        low, high = clopper_pearson(k, n)
        return Measured(k / n if n else float("nan"), low, high, n, (low, high))

    found = {"accuracy": share(labels == predicted)}
    for k, name in enumerate(names):
        found[f"recall {name}"] = share(predicted[labels == k] == k)
    return found


def _gaps(member: Values, y: Values, z: Values, min_group: int) -> Values:
    """Return the gaps for ``(groups, N)`` membership and ``(N, C)`` one-hot truth and prediction.

    A rate that rests on fewer than ``min_group`` / 2 cases of a group has no value there.
    """
    size = member.sum(axis=1)
    cases, hits, called = member @ y, member @ (y * z), member @ z
    least = max(1, min_group // 2)

    def rate(a: Values, b: Values) -> Values:
        return np.where(b >= least, a / np.maximum(b, 1), np.nan)

    def spread(rates: Values) -> Values:
        known = np.isfinite(rates)
        high = np.where(known, rates, -np.inf).max(axis=0)
        low = np.where(known, rates, np.inf).min(axis=0)
        out: Values = np.where(known.sum(axis=0) > 1, high - low, np.nan)
        return out

    accuracy = spread(rate(hits.sum(axis=1), size)[:, None])
    recall = spread(rate(hits, cases))
    alarm = spread(rate(called - hits, size[:, None] - cases))
    parity = spread(rate(called, np.repeat(size[:, None], y.shape[1], axis=1)))
    both = np.concatenate([recall, alarm])

    def largest(gaps: Values) -> float:
        return float(np.nanmax(gaps)) if np.isfinite(gaps).any() else float("nan")

    return np.concatenate([accuracy, recall, [largest(both), largest(parity)]])


def _permuted(
    gaps: Callable[[NDArray], Values], place: NDArray, permutations: int, seed: int
) -> tuple[Values, Values]:
    """Return the gaps seen and the share of permutations with gaps at least as large (one added)."""
    seen = gaps(place)
    rng = np.random.default_rng(seed)
    hits = np.zeros(len(seen))
    for _ in range(permutations):
        hits += gaps(rng.permutation(place)) >= seen - 1e-12
    return seen, (hits + 1) / (permutations + 1)


def usable_columns(
    columns: Mapping[str, Sequence[str]], patients: Sequence[str] | None = None
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the columns that make groups, and a sentence for each that doesn't (without its values).

    A column that names people, or tells every patient from every other one, is identity and makes no groups.
    """
    found: dict[str, list[str]] = {}
    notes = []
    for name, values in columns.items():
        groups = None if _IDENTITY.search(name.casefold()) else grouped(values)
        if groups is None:
            notes.append(f"column {name}: {len(set(values))} different texts make no groups")
        elif _tells_patients_apart(groups, patients):
            notes.append(f"column {name}: it tells every patient from the others and makes no groups")
        elif len(set(groups)) > 1:
            found[name] = groups
        else:
            notes.append(f"column {name}: all cases are in one group")
    return found, notes


def _tells_patients_apart(groups: Sequence[str], patients: Sequence[str] | None) -> bool:
    people = list(range(len(groups))) if patients is None else list(patients)
    return len(set(people)) > 2 and len(set(groups)) == len(set(people)) == len(
        set(zip(groups, people, strict=True))
    )
