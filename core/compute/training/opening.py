"""From a data folder to the feed of a training: cases, split, leakage check, fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.compute.training.case_feed import CaseFeed
from core.compute.training.data.module import TrainingData
from core.compute.training.data.values import STATISTICS_FILE, measure_values
from core.compute.training.events import EventLog
from core.compute.training.run_folder import SPLIT_FILE, RunFolder
from core.config.sealed_file import is_mounted
from core.domain.errors import SafetyError
from core.domain.progress import CancelToken, Progress
from core.recipes.cases import Case, Part
from core.recipes.fingerprint import fingerprint
from core.recipes.schema import Recipe
from core.recipes.sources.registry import list_cases
from core.recipes.splits import SplitResult, restored, split_cases
from core.recipes.thumbnails import picture_thumbnail

# Sources whose cases are patients of this computer: what is prepared of them doesn't go to the disk unsealed.
PRIVATE_SOURCES = {"library_cases"}


@dataclass(frozen=True, eq=False)
class Opened:
    """The data of a run: its feed and its cases by part."""

    feed: CaseFeed
    parts: Mapping[Part, tuple[Case, ...]]


def open_data(
    recipe: Recipe,
    folder: Path | None,
    run: RunFolder,
    events: EventLog,
    *,
    cuda: bool,
    progress: Progress,
    cancel: CancelToken | None,
) -> Opened:
    """List, split, check and prepare the cases; the split of a run that goes on is the stored one.

    Raises
    ------
    InputError
        From the source, from a case that can't be prepared.
    SafetyError
        ``split.leak``; ``training.other_data`` when the data of a run that goes on have changed.
    """
    source = recipe.data.source
    cases = list_cases(source, folder, recipe.data.channels, recipe.data.missing)
    mark = fingerprint(cases, progress, cancel)
    before = run.document.get("data_fingerprint")
    if before not in (None, mark):
        raise SafetyError(
            "training.other_data",
            "The data have changed since this run began.",
            "Give the data that it began with, or start a new run in another folder.",
        )
    split = _split(recipe, cases, run, events, known=before is not None)
    run.update(data_fingerprint=mark, split_sha256=split.sha256())
    # Below a sealed folder the cache is sealed; elsewhere patients' images stay in memory.
    private = source.name in PRIVATE_SOURCES and not is_mounted(run.folder / "any")
    place = None if private else run.folder
    data = TrainingData(recipe, split.parts, place, pin_memory=cuda)
    if data.left_out:
        events.note("left_out", f"{len(data.left_out)} cases lack a contrast and were left out.")
    data.prepare_all(progress, cancel)
    if run.leader and not (run.folder / STATISTICS_FILE).exists():
        measure_values(data, split.sha256(), run.folder, events, progress, cancel)
    return Opened(CaseFeed(data), data.parts)


def _split(
    recipe: Recipe, cases: list[Case], run: RunFolder, events: EventLog, *, known: bool
) -> SplitResult:
    stored = run.folder / SPLIT_FILE
    if known and stored.is_file():
        return restored(json.loads(stored.read_text(encoding="utf-8")), cases)
    split = split_cases(cases, recipe.data.split, recipe.seed, picture_thumbnail)
    for warning in split.warnings:
        events.note("split", warning)
    run.write(SPLIT_FILE, split.document())
    return split
