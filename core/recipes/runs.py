"""Runs beside each other: what was trained how, and what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.domain.errors import InputError
from core.recipes.load import load_recipe

RUN_FILE, METRICS_FILE, RECIPE_FILE = "run.json", "metrics.json", "recipe.yaml"


@dataclass(frozen=True)
class RunRow:
    """One run: where it lies, its state, its metrics, and the recipe's values that differ among the runs."""

    folder: str
    run_id: str
    name: str
    state: str
    seconds: float | None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    differs: Mapping[str, Any] = field(default_factory=dict)


def compare_runs(folders: Sequence[Path]) -> list[RunRow]:
    """Read runs and say in what their recipes differ; the order given is kept.

    Raises
    ------
    InputError
        ``runs.unreadable`` for a folder that isn't a run's.
    """
    documents = [_read(folder) for folder in folders]
    recipes = [_flat(load_recipe(folder / RECIPE_FILE).model_dump(mode="json")) for folder in folders]
    keys = {key for recipe in recipes for key in recipe}
    missing = object()
    varying = sorted(
        key
        for key in keys
        if any(recipe.get(key, missing) != recipes[0].get(key, missing) for recipe in recipes)
    )
    return [
        RunRow(
            folder.name,
            str(run.get("run_id", "")),
            str(run.get("name", "")),
            str(run.get("state", "")),
            run.get("seconds"),
            metrics,
            {key: recipe.get(key) for key in varying},
        )
        for folder, (run, metrics), recipe in zip(folders, documents, recipes, strict=True)
    ]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        metrics_file = folder / METRICS_FILE
        metrics = json.loads(metrics_file.read_text(encoding="utf-8")) if metrics_file.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(
            "runs.unreadable",
            f"“{folder.name}” isn't the folder of a run: {RUN_FILE} can't be read.",
            "Give folders that “overread train --out” made.",
        ) from error
    return run, metrics


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(document, dict):
        return {prefix: document}
    out: dict[str, Any] = {}
    for key, value in document.items():
        out |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return out
