"""What is known of a case beside its voxels, and the targets of several tasks that come of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.domain.errors import InputError
from core.recipes.cases import UNJUDGED, Case, CaseData
from core.recipes.schema import Recipe

UNKNOWN_CLASS = -1
"""Class of a case whose class isn't known."""


@dataclass(frozen=True)
class Facts:
    """Class, measurements and report; None or absent where nothing is known.

    Attributes
    ----------
    label : int or None
        Index of the class.
    values : mapping of str to float
        Measurement → its value in the unit of the recipe.
    text : str or None
        The report; never shown when the facts are printed.
    """

    label: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    text: str | None = field(default=None, repr=False)

    def beside(self, case: Case) -> Facts:
        """Return what is known of a case from its source and from reading it, which these facts are."""
        return Facts(
            case.label if self.label is None else self.label,
            {**self.values, **case.values},
            self.text if case.text is None else case.text,
        )


def facts_read(content: CaseData) -> Facts:
    """Return what reading a case gave."""
    return Facts(content.label, dict(content.values), content.text)


def class_of(facts: Facts, case: str, recipe: Recipe) -> int | None:
    """Return the class, None when it isn't known.

    Raises
    ------
    InputError
        ``training.target`` for a class that the recipe doesn't name.
    """
    count = len(recipe.classes)
    if facts.label is not None and not 0 <= facts.label < count:
        raise InputError(
            "training.target",
            f"The case {case} has the class {facts.label}; the recipe names {count} classes.",
            "Correct the data set or the classes of the bundle.",
        )
    return facts.label


def targets_of(
    labels: Tensor | None, facts: Facts, case: str, recipe: Recipe, shape: tuple[int, ...]
) -> dict[str, Tensor]:
    """Return the targets of the tasks that a recipe trains.

    Parameters
    ----------
    labels : torch.Tensor or None
        Label map of ``shape``, uint8; None is unjudged everywhere.

    Returns
    -------
    dict of str to torch.Tensor
        ``segmentation`` uint8 of ``shape``, ``classification`` int64 scalar (−1 unknown), ``regression`` ``(R,)``
        float32 in standard deviations from the mean (NaN unknown).

    Raises
    ------
    InputError
        ``training.target`` for a class that the recipe doesn't name, or a value that isn't a finite number.
    """
    targets: dict[str, Tensor] = {}
    for task in recipe.task_names:
        if task == "segmentation":
            unjudged = torch.full(shape, UNJUDGED, dtype=torch.uint8)
            targets[task] = unjudged if labels is None else labels
        elif task == "classification":
            known = class_of(facts, case, recipe)
            targets[task] = torch.tensor(UNKNOWN_CLASS if known is None else known)
        else:
            targets[task] = torch.tensor(_standardised(facts, case, recipe), dtype=torch.float32)
    return targets


def _standardised(facts: Facts, case: str, recipe: Recipe) -> list[float]:
    row = []
    for measurement in recipe.measurements:
        value = facts.values.get(measurement.name, math.nan)
        if math.isinf(value):
            raise InputError(
                "training.target",
                f"The case {case} has no finite “{measurement.name}”.",
                "Correct the data set, or leave the value out.",
            )
        row.append((value - measurement.mean) / measurement.std)
    return row
