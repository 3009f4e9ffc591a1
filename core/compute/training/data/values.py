"""What the network is fed: the values of the prepared training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.compute.training.data.module import TrainingData
from core.compute.training.events import EventLog
from core.domain.progress import CancelToken, Progress
from core.recipes.cases import Part
from core.recipes.statistics import Running, Statistics, save_statistics

STATISTICS_FILE = "statistics.json"


def measure_values(
    data: TrainingData,
    split_sha256: str,
    folder: Path,
    events: EventLog,
    progress: Progress,
    cancel: CancelToken | None,
) -> Statistics:
    """Write ``statistics.json`` of the training part as it is after the preprocessing; what is unusual becomes notes.

    The random transforms aren't in it. ``fingerprint`` is the split's digest.

    Raises
    ------
    InputError
        ``data.not_finite``.
    """
    recipe, dataset = data.recipe, data.datasets[Part.TRAIN]
    running = {channel: Running() for channel in recipe.data.channels}
    for number in range(len(dataset)):
        if cancel is not None:
            cancel.raise_if_cancelled()
        image = np.asarray(dataset.prepared(number).image)
        for channel, one in enumerate(running.values()):
            one.add(image[channel])
        progress("Measuring the values", (number + 1) / len(dataset))
    found = {channel: one.result() for channel, one in running.items() if one.count}
    statistics = Statistics(recipe.name, len(dataset), split_sha256, found)
    save_statistics(folder / STATISTICS_FILE, statistics)
    for warning in statistics.warnings():
        events.note("values", warning)
    return statistics
