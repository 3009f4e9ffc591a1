"""Mean, deviation and percentiles of the values of the training part, in one pass over the cases.

Only training cases are looked at: what the others look like must not enter a training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config.atomic import atomic_write_text
from core.domain.errors import InputError, SafetyError
from core.domain.progress import CancelToken, Progress, no_progress
from core.recipes.cases import Case
from core.recipes.fingerprint import fingerprint

PERCENTILES = (0.5, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.5)
STATISTICS_FILE = "statistics.json"
EXTREME = 10.0
"""Standard deviations from the mean beyond which a normalised value is called extreme."""

_POINTS = 4001
_SKETCHES = 256

ReadChannels = Callable[[Case], Mapping[str, NDArray]]


@dataclass(frozen=True)
class ChannelStatistics:
    """Values of one channel over all voxels of all training cases, in the units of the files.

    ``std`` is the population's. Percentiles are exact to 0.05 % of rank. ``nonzero_…`` look at non-zero voxels only.
    """

    count: int
    mean: float
    std: float
    minimum: float
    maximum: float
    nonzero_share: float
    nonzero_mean: float
    nonzero_std: float
    percentiles: dict[str, float] = field(default_factory=dict)

    @property
    def normalised_range(self) -> tuple[float, float]:
        """Smallest and largest value after subtracting the mean and dividing by the deviation."""
        if self.std == 0:
            return 0.0, 0.0
        return (self.minimum - self.mean) / self.std, (self.maximum - self.mean) / self.std


@dataclass(frozen=True)
class Statistics:
    """Statistics by channel; ``fingerprint`` says of which cases."""

    recipe: str
    cases: int
    fingerprint: str
    channels: dict[str, ChannelStatistics]

    def warnings(self) -> list[str]:
        """Return what is unusual about the values, for people."""
        found = []
        for name, one in self.channels.items():
            low, high = one.normalised_range
            if one.std == 0:
                found.append(f"{name}: all values are {one.mean:g}; nothing can be learnt from them.")
            elif max(-low, high) > EXTREME:
                found.append(
                    f"{name}: normalised values reach {low:.1f} … {high:.1f}, beyond ±{EXTREME:g}. "
                    "Clip them first (preprocessing.intensity: clip or percentile)."
                )
            if 0 < one.std < 1e-6 * max(1.0, abs(one.mean)):
                found.append(f"{name}: the deviation {one.std:g} is tiny beside the mean {one.mean:g}.")
        return found

    def document(self) -> dict[str, Any]:
        """Return what ``statistics.json`` holds."""
        return {
            "schema_version": 1,
            "part": "train",
            **asdict(self),
            "normalised_range": {name: list(one.normalised_range) for name, one in self.channels.items()},
            "warnings": self.warnings(),
            "constants": self.constants(),
        }

    def constants(self) -> str:
        """Return mean and deviation per channel as two lines of Python."""
        means = ", ".join(f"{one.mean:.6g}" for one in self.channels.values())
        deviations = ", ".join(f"{one.std:.6g}" for one in self.channels.values())
        return f"MEAN = ({means},)\nSTD = ({deviations},)"


class Running:
    """Statistics that grow by one array at a time.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979
    (Welford's recurrence for whole blocks).
    """

    def __init__(self) -> None:
        self.count = self._nonzero = 0
        self._mean = self._squares = self._nonzero_mean = self._nonzero_squares = 0.0
        self._minimum, self._maximum = np.inf, -np.inf
        self._sketches: list[tuple[NDArray[np.float64], float]] = []

    def add(self, values: NDArray) -> None:
        """Take an array of any shape.

        Raises
        ------
        InputError
            ``data.not_finite`` when a value is no number.
        """
        flat = np.asarray(values, dtype=np.float64).ravel()
        if flat.size == 0:
            return
        if not np.isfinite(flat).all():
            raise InputError(
                "data.not_finite", "Some voxels are not numbers.", "Repair the image at its source."
            )
        self.count, self._mean, self._squares = _merged(self.count, self._mean, self._squares, flat)
        nonzero = flat[flat != 0]
        if nonzero.size:
            self._nonzero, self._nonzero_mean, self._nonzero_squares = _merged(
                self._nonzero, self._nonzero_mean, self._nonzero_squares, nonzero
            )
        self._minimum = min(self._minimum, float(flat.min()))
        self._maximum = max(self._maximum, float(flat.max()))
        self._sketches.append(_sketch(flat))
        if len(self._sketches) >= _SKETCHES:
            self._sketches = [self._combined(4 * _POINTS)]

    def result(self) -> ChannelStatistics:
        """Return the statistics of everything so far.

        Raises
        ------
        InputError
            ``data.no_images`` when there was nothing.
        """
        if self.count == 0:
            raise InputError("data.no_images", "There is no voxel to look at.", "Check the data.")
        points, _ = self._combined(100 * (_POINTS - 1) + 1)
        at = np.linspace(0, 100, len(points))
        return ChannelStatistics(
            count=self.count,
            mean=self._mean,
            std=float(np.sqrt(self._squares / self.count)),
            minimum=self._minimum,
            maximum=self._maximum,
            nonzero_share=self._nonzero / self.count,
            nonzero_mean=self._nonzero_mean,
            nonzero_std=float(np.sqrt(self._nonzero_squares / max(1, self._nonzero))),
            percentiles={f"{p:g}": float(np.interp(p, at, points)) for p in PERCENTILES},
        )

    def _combined(self, points: int) -> tuple[NDArray[np.float64], float]:
        """Return one list of quantiles that stands for all: each case weighs as many values as it has."""
        if len(self._sketches) == 1 and len(self._sketches[0][0]) <= points:
            return self._sketches[0]
        values = np.concatenate([sketch for sketch, _ in self._sketches])
        weights = np.concatenate([np.full(len(sketch), n / len(sketch)) for sketch, n in self._sketches])
        order = np.argsort(values, kind="stable")
        rank = np.cumsum(weights[order]) - weights[order] / 2
        at = np.linspace(0, rank[-1] + weights[order][-1] / 2, points)
        return np.interp(at, rank, values[order]), float(weights.sum())


def _merged(count: int, mean: float, squares: float, block: NDArray[np.float64]) -> tuple[int, float, float]:
    size = block.size
    own = float(block.mean())
    own_squares = float(np.square(block - own).sum())
    total = count + size
    delta = own - mean
    return total, mean + delta * size / total, squares + own_squares + delta**2 * count * size / total


def _sketch(flat: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    ordered = np.sort(flat)
    if flat.size <= _POINTS:
        return ordered, float(flat.size)
    # Sorting once is much faster than np.quantile for so many points.
    return np.interp(np.linspace(0, flat.size - 1, _POINTS), np.arange(flat.size), ordered), float(flat.size)


def training_statistics(
    recipe: str,
    training: Sequence[Case],
    channels: Iterable[str],
    read: ReadChannels,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> Statistics:
    """Compute the statistics of training cases.

    Parameters
    ----------
    training : sequence of Case
        ``split.parts[Part.TRAIN]``, nothing else.
    read : callable
        Case → channel → array of any shape, in the units to describe.

    Raises
    ------
    InputError
        ``data.not_finite`` naming the case.
    """
    running = {channel: Running() for channel in channels}
    ordered = sorted(training, key=lambda case: case.id)
    for number, case in enumerate(ordered):
        if cancel is not None:
            cancel.raise_if_cancelled()
        for channel, values in read(case).items():
            try:
                running[channel].add(values)
            except InputError as error:
                raise InputError(
                    error.code, f"Case “{case.id}”, {channel}: {error.user_message}", error.remedy
                ) from None
        progress("Measuring the values", (number + 1) / len(ordered))
    found = {channel: one.result() for channel, one in running.items() if one.count}
    return Statistics(recipe, len(ordered), fingerprint(ordered), found)


def save_statistics(file: Path, statistics: Statistics) -> None:
    """Write ``statistics.json``."""
    atomic_write_text(file, json.dumps(statistics.document(), indent=1) + "\n")


def read_statistics(file: Path) -> Statistics:
    """Read what ``save_statistics`` wrote.

    Raises
    ------
    InputError
        ``statistics.absent`` or ``statistics.damaged``.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        channels = {name: ChannelStatistics(**one) for name, one in document["channels"].items()}
        return Statistics(document["recipe"], int(document["cases"]), document["fingerprint"], channels)
    except FileNotFoundError:
        raise InputError(
            "statistics.absent",
            f"There is no “{file.name}”.",
            "Write it first: overread stats … --mode save.",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(
            "statistics.damaged", f"“{file.name}” can't be understood.", "Write it again."
        ) from error


def verify_statistics(statistics: Statistics, training: Sequence[Case]) -> None:
    """Refuse statistics of other data.

    Raises
    ------
    SafetyError
        ``statistics.other_data`` when a training case or the content of one of its files differs.
    """
    if statistics.cases != len(training):
        raise SafetyError(
            "statistics.other_data",
            f"The statistics are of {statistics.cases} training cases; the data has {len(training)}.",
            "Compute them again: overread stats … --mode save.",
        )
    if statistics.fingerprint != fingerprint(training):
        raise SafetyError(
            "statistics.other_data",
            "The statistics are of other files than the training part has now.",
            "Compute them again: overread stats … --mode save.",
        )
