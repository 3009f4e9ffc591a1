"""The curves of a training: any number of values, a bounded number of points, in order of their steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from core.domain.training import CurvePoint

MOST_POINTS = 1200
LOSS, SCORE = "loss", "score"
_TITLES = {
    "loss": ("Training loss", LOSS),
    "train_loss": ("Training loss", LOSS),
    "validation_loss": ("Validation loss", LOSS),
    "validation_dice": ("Validation Dice", SCORE),
    "validation_accuracy": ("Validation accuracy", SCORE),
}


@dataclass(frozen=True)
class Curve:
    """What is drawn: ``steps`` and ``values`` are as long as each other; ``plot`` is ``"loss"`` or ``"score"``."""

    name: str
    title: str
    plot: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


class _Line:
    """Values that are averaged in pairs whenever there are too many of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stride = 1
        self._steps: list[float] = []
        self._values: list[float] = []
        self._group: list[tuple[int, float]] = []

    def add(self, step: int, value: float) -> None:
        """Append; a step that was there already takes its place, as after a resume from a checkpoint."""
        if self._group and step <= self._group[-1][0]:
            self._group = [pair for pair in self._group if pair[0] < step]
        while self._steps and step <= self._steps[-1]:
            self._steps.pop()
            self._values.pop()
        self._group.append((step, value))
        if len(self._group) >= self._stride:
            self._close_group()
        if len(self._steps) > self._most:
            self._halve()

    def _close_group(self) -> None:
        mean_step, mean_value = _mean(self._group)
        self._steps.append(mean_step)
        self._values.append(mean_value)
        self._group = []

    def _halve(self) -> None:
        pairs = list(zip(self._steps, self._values, strict=True))
        means = [_mean(pairs[place : place + 2]) for place in range(0, len(pairs), 2)]
        self._steps = [step for step, _ in means]
        self._values = [value for _, value in means]
        self._stride *= 2

    def points(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return steps and values; a group that isn't full yet is the last point."""
        if not self._group:
            return tuple(self._steps), tuple(self._values)
        step, value = _mean(self._group)
        return (*self._steps, step), (*self._values, value)


class CurveStore:
    """The curves of one training.

    Parameters
    ----------
    most : int
        Points kept of each curve; beyond it neighbours are averaged.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}
        self.broken = 0
        """How many values were no numbers (NaN, infinite) and therefore can't be drawn."""

    def add(self, points: Iterable[CurvePoint]) -> None:
        """Take values in the order in which they were recorded; names that aren't shown are left out."""
        for point in points:
            if curve_title(point.name) is None:
                continue
            if not math.isfinite(point.value):
                self.broken += 1
                continue
            self._lines.setdefault(point.name, _Line(self._most)).add(point.step, point.value)

    def curves(self) -> tuple[Curve, ...]:
        """Return what is drawn.

        Where each step's loss is known, the mean of each epoch adds nothing; the values of single labels
        (``validation_dice_2`` beside ``validation_dice``) stay in the record.
        """
        found = []
        for name, line in sorted(self._lines.items()):
            titled = curve_title(name)
            if titled is None or (name == "train_loss" and "loss" in self._lines):
                continue
            if any(name.startswith(f"{other}_") for other in self._lines):
                continue
            steps, values = line.points()
            found.append(Curve(name, *titled, steps, values))
        return tuple(found)


def curve_title(name: str) -> tuple[str, str] | None:
    """Return title and plot of a value, or None when it isn't drawn."""
    if name in _TITLES:
        return _TITLES[name]
    if name.startswith("validation_"):
        return f"Validation {name.removeprefix('validation_').replace('_', ' ')}", SCORE
    return None


def _mean(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    listed = list(pairs)
    return sum(step for step, _ in listed) / len(listed), sum(value for _, value in listed) / len(listed)
