"""What ``overread explore``, ``stats`` and ``init`` do; loads the readers of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.cli.output import tell
from core.domain.errors import InputError
from core.domain.progress import Progress
from core.recipes.cases import Case, Part
from core.recipes.draft import draft_recipe
from core.recipes.explore.page import write_report
from core.recipes.explore.report import explore
from core.recipes.load import load_recipe, parse_recipe
from core.recipes.proposal import Proposal, propose
from core.recipes.reading import read_case
from core.recipes.schema import Recipe
from core.recipes.sources.registry import list_cases
from core.recipes.splits import split_cases
from core.recipes.statistics import (
    Statistics,
    read_statistics,
    save_statistics,
    training_statistics,
    verify_statistics,
)
from core.recipes.thumbnails import picture_thumbnail
from core.recipes.yaml_text import write_yaml


def recipe_for(data: Path, recipe: str | None, overrides: Sequence[str]) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe that is named, or one that fits the folder, with what a person should know of it."""
    if recipe is not None:
        return load_recipe(recipe, overrides), ()
    proposal = propose(data)
    return parse_recipe(draft_recipe(proposal, data.resolve().name), overrides), proposal.notes


def explored(
    data: Path, out: Path, recipe: str | None, overrides: Sequence[str], progress: Progress
) -> dict[str, Any]:
    """Write the report of a data set and return it as a document."""
    chosen, notes = recipe_for(data, recipe, overrides)
    labels = {label.value: label.name for label in chosen.bundle.labels}
    report = explore(
        data, chosen.data, chosen.seed, labels, name=data.resolve().name, notes=notes, progress=progress
    )
    files = write_report(report, out)
    return {**report.document(), "files": [{"kind": kind, "path": path} for kind, path in files.items()]}


def measured(
    data: Path, recipe: str | None, overrides: Sequence[str], mode: str, file: Path, progress: Progress
) -> Statistics:
    """Compute, save or verify the statistics of the training part."""
    chosen, _ = recipe_for(data, recipe, overrides)
    cases = list_cases(chosen.data.source, data, chosen.data.channels, chosen.data.missing)
    split = split_cases(cases, chosen.data.split, chosen.seed, picture_thumbnail)
    training = split.parts[Part.TRAIN]
    if mode == "verify":
        statistics = read_statistics(file)
        verify_statistics(statistics, training)
        return statistics

    def values(case: Case) -> dict[str, Any]:
        return {name: volume.voxels for name, volume in read_case(case, chosen.data).volumes.items()}

    statistics = training_statistics(chosen.name, training, chosen.data.channels, values, progress)
    if mode == "save":
        save_statistics(file, statistics)
    return statistics


def described(proposal: Proposal) -> list[str]:
    """Return what was found in a folder, in lines."""
    k, j, i = proposal.size_kji
    size = f"{i} × {j}" + (f" × {k}" if k > 1 else "")
    names = ", ".join(name for _, name in proposal.labels[:12]) + (" …" if len(proposal.labels) > 12 else "")
    lines = [f"Task: {proposal.task} ({proposal.spatial_dims}-D), source {proposal.source['name']}"]
    lines += [f"Labels: {names}", f"Size of the images: {size}"]
    if proposal.channels != ("image",):
        lines.append(f"Channels: {', '.join(proposal.channels)}")
    return [*lines, *(f"! {note}" for note in proposal.notes)]


def proposed(data: Path, task: str | None) -> Proposal:
    """Look at a folder and tell what was found.

    Raises
    ------
    InputError
        ``init.task`` when it is laid out for another task.
    """
    proposal = propose(data)
    if task is not None and task != proposal.task:
        raise InputError(
            "init.task",
            f"“{data.name}” is laid out for {proposal.task}, not for {task}.",
            "Leave --task out, or lay the data out for it.",
        )
    for line in described(proposal):
        tell(line)
    return proposal


def write_recipe(file: Path, document: dict[str, Any]) -> None:
    """Write a drafted recipe and read it back."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = (
        "# Every setting that isn't here has its default; `overread train --set name=value` overrides any.\n"
    )
    file.write_text(text + write_yaml(document), encoding="utf-8")
    load_recipe(file)
