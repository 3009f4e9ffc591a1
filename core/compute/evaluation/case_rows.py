"""What is said of single cases: one row each, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.numbers import NumberMetrics
from core.compute.evaluation.structures import CaseScore

Values = NDArray[np.float64]
Row = dict[str, Any]


def class_rows(
    names: Sequence[str], cases: Sequence[str], probabilities: Values, labels: NDArray[np.int64]
) -> list[Row]:
    """Return a row per case, the least probable truth first."""
    called = probabilities.argmax(axis=1)
    of_truth = probabilities[np.arange(len(labels)), labels]
    return [
        {
            "case": cases[n],
            "truth": names[labels[n]],
            "predicted": names[called[n]],
            "right": bool(called[n] == labels[n]),
            "probability_of_truth": float(of_truth[n]),
            "confidence": float(probabilities[n].max()),
        }
        for n in np.argsort(of_truth, kind="stable")
    ]


def by_case(rows: Sequence[CaseScore]) -> dict[str, list[CaseScore]]:
    """Return the scores of each case."""
    found: dict[str, list[CaseScore]] = {}
    for row in rows:
        found.setdefault(row.case, []).append(row)
    return found


def mean_dice(rows: Sequence[CaseScore]) -> float:
    """Return the mean Dice of the structures that occur in truth or prediction of a case (1 when none does)."""
    present = [r.dice for r in rows if not r.absent]
    return float(np.mean(present)) if present else 1.0


def mask_rows(rows: Sequence[CaseScore]) -> list[Row]:
    """Return a row per case, the lowest mean Dice first, with the Dice of every structure."""
    found: list[Row] = [
        {
            "case": case,
            "mean_dice": mean_dice(mine),
            "dice": {r.structure: r.dice for r in mine},
            "hd95_mm": {r.structure: r.hd95_mm for r in mine},
            "missed": [r.structure for r in mine if r.missed],
        }
        for case, mine in by_case(rows).items()
    ]
    return sorted(found, key=lambda row: float(row["mean_dice"]))


def number_rows(numbers: NumberMetrics, cases: Sequence[str]) -> list[Row]:
    """Return a row per case with truth and answer of every measurement, in the order of the cases."""
    rows = []
    for n, case in enumerate(cases):
        pairs = zip(numbers.units, numbers.truth[n], numbers.predicted[n], strict=True)
        found = {name: {"truth": float(t), "predicted": float(p)} for name, t, p in pairs}
        rows.append({"case": case, "measurements": found})
    return rows


def joined(parts: Sequence[Sequence[Row]]) -> list[Row]:
    """Return one row per case of the rows of several tasks, in the order of the first task that has the case."""
    found: dict[str, Row] = {}
    for rows in parts:
        for row in rows:
            found.setdefault(str(row["case"]), {}).update(row)
    return list(found.values())


def dice_table(rows: Sequence[CaseScore], cases: Sequence[str], structures: Mapping[str, int]) -> Values:
    """Return the Dice ``(cases, structures)``."""
    found = {(r.case, r.structure): r.dice for r in rows}
    return np.array([[found[n, s] for s in structures] for n in cases])
