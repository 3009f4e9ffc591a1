"""Two models on the same cases: classes, structures and numbers, each by a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.case_rows import by_case, dice_table, mean_dice
from core.compute.evaluation.evaluation_set import EvaluationSet
from core.compute.evaluation.paired import Comparison, compare_cases, compare_classifiers, holm
from core.compute.evaluation.predicting import Predictions
from core.domain.errors import InputError

Values = NDArray[np.float64]


def true_classes(dataset: EvaluationSet, predictions: Predictions) -> NDArray[np.int64]:
    """Return ``(cases,)`` true classes, -1 unknown: as they were read, else as the source knows them."""
    listed = np.array([-1 if c.label is None else c.label for c in dataset.cases], dtype=np.int64)
    return listed if predictions.labels is None else np.where(listed >= 0, listed, predictions.labels)


def compared_rows(
    dataset: EvaluationSet,
    mine: Predictions,
    other: Predictions,
    patients: NDArray | None,
    seed: int,
) -> tuple[tuple[Comparison, ...], tuple[dict[str, Any], ...]]:
    """Compare on the cases that both models answered, task by task; differences are ``mine`` less ``other``.

    Returns
    -------
    comparisons, cases
        Rows of metrics, and the mark of each case under both models (probability of the truth, else mean Dice).

    Raises
    ------
    InputError
        ``evaluation.compare`` when there is no such case.
    """
    both = mine.answered & other.answered
    if not both.any():
        raise InputError(
            "evaluation.compare", "There is no case that both models could be run on.", "Choose other data."
        )
    who = None if patients is None else patients[both]
    names = [n for n, b in zip(mine.case_names, both, strict=True) if b]
    rows: list[Comparison] = []
    cases: list[dict[str, Any]] = []
    if mine.probabilities is not None and other.probabilities is not None:
        truth = true_classes(dataset, mine)
        known = both & (truth >= 0)
        if known.any():
            labels, a, b = truth[known], other.probabilities[known], mine.probabilities[known]
            mine_who = None if patients is None else patients[known]
            rows += compare_classifiers(labels, a, b, dataset.class_names, patients=mine_who, seed=seed)
            at = np.arange(len(labels)), labels
            shown = [n for n, k in zip(mine.case_names, known, strict=True) if k]
            cases = _pairs(shown, a[at], b[at])
    if dataset.structures:
        scored = [by_case(p.rows) for p in (other, mine)]
        masked = np.array([n in scored[0] and n in scored[1] for n in names])
        chosen = [n for n, m in zip(names, masked, strict=True) if m]
        if chosen:
            mine_who = None if who is None else who[masked]
            found, means = _structure_rows(dataset, other, mine, chosen, mine_who, seed)
            rows += found
            cases = cases or _pairs(chosen, *means)
    rows += _number_rows(dataset, other, mine, both, patients, seed)
    single = dataset.kind == "classes"
    # A classifier's rows are corrected already.
    return tuple(rows if single else holm(rows)), tuple(cases)


def _pairs(names: Sequence[str], current: Values, candidate: Values) -> list[dict[str, Any]]:
    return [
        {"case": n, "current": float(x), "candidate": float(y)}
        for n, x, y in zip(names, current, candidate, strict=True)
    ]


def _structure_rows(
    dataset: EvaluationSet,
    other: Predictions,
    mine: Predictions,
    names: Sequence[str],
    who: NDArray | None,
    seed: int,
) -> tuple[list[Comparison], tuple[Values, Values]]:
    """Compare the Dice of each structure and its mean; also return the means."""
    first, second = (dice_table(p.rows, names, dataset.structures) for p in (other, mine))
    rows = [
        compare_cases(first[:, k], second[:, k], metric=f"dice {name}", patients=who, seed=seed)
        for k, name in enumerate(dataset.structures)
    ]
    scored = [by_case(p.rows) for p in (other, mine)]
    a, b = (np.array([mean_dice(found[n]) for n in names]) for found in scored)
    return [compare_cases(a, b, metric="mean_dice", patients=who, seed=seed), *rows], (a, b)


def _number_rows(
    dataset: EvaluationSet,
    other: Predictions,
    mine: Predictions,
    both: NDArray[np.bool_],
    patients: NDArray | None,
    seed: int,
) -> list[Comparison]:
    """Compare the absolute error of each measurement: less is better."""
    if mine.values is None or other.values is None or mine.truth is None:
        return []
    rows = []
    for k, measurement in enumerate(dataset.measurements):
        known = both & np.isfinite(mine.truth[:, k])
        if known.any():
            a, b = (
                np.abs(p.values[known, k] - mine.truth[known, k])
                for p in (other, mine)
                if p.values is not None
            )
            who = None if patients is None else patients[known]
            rows.append(compare_cases(a, b, metric=f"error {measurement.name}", patients=who, seed=seed))
    return rows
