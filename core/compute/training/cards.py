"""Model cards and licences: templates beside the recipes or made from the recipe, filled with measured numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core.config.resources import shipped_root
from core.recipes.schema import Recipe

Metric = float | list[float] | str
_MARK = "{{METRICS}}"


def card_text(recipe: Recipe, metrics: Mapping[str, Metric], counts: Mapping[str, int], run_id: str) -> str:
    """Return ``models/recipes/<name>.card.md``, or a card made from the recipe, with the metrics in their place."""
    template = _read(f"{recipe.name}.card.md") or _card(recipe, counts, run_id)
    return template.replace(_MARK, metrics_table(metrics))


def licence_text(recipe: Recipe) -> str:
    """Return ``models/recipes/<name>.licence.txt``, or the licence that the recipe states."""
    return _read(f"{recipe.name}.licence.txt") or f"Licence of the weights: {recipe.bundle.licence}\n"


def metrics_table(metrics: Mapping[str, Metric]) -> str:
    """Return a Markdown table; [value, low, high] is shown as value with its 95 % interval."""
    lines = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for key, value in metrics.items():
        name = key.replace("_", " ")
        if isinstance(value, list) and len(value) == 3:
            lines.append(f"| {name} | {value[0]:.3f} | {value[1]:.3f} … {value[2]:.3f} |")
        elif isinstance(value, float):
            lines.append(f"| {name} | {value:g} | |")
        else:
            lines.append(f"| {name} | {value} | |")
    return "\n".join(lines)


def _card(recipe: Recipe, counts: Mapping[str, int], run_id: str) -> str:
    """Source of the sections: M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019."""
    config, training, split = recipe.bundle, recipe.training, recipe.data.split
    labels = ", ".join(label.name for label in sorted(config.labels, key=lambda label: label.value))
    parts = ", ".join(f"{counts.get(part, 0)} {part}" for part in ("train", "validation", "test"))
    return f"""# {config.title}

{config.description or config.title}. Answers: {labels}.

## Intended use

{config.intended_use}

**Not for**: {config.not_intended_for or "primary diagnosis; anything that the training data did not hold"}.

## Training data

{config.training_data or "The cases of the training folder."} Cases: {parts}; split by {split.level} ({split.method}).

## Training

{recipe.network.name}, up to {training.epochs} epochs, seed {recipe.seed}, recipe “{recipe.name}”, run {run_id}.

## Results on the test part

{_MARK}

Intervals: percentile bootstrap over the test cases ({recipe.evaluation.bootstrap} draws).

## Limits

What was measured holds for cases like those of the test part. Scanners, protocols, ages and diseases that it did not
hold are unknown ground. This model is for research and review support, not for primary diagnosis.
"""


def _read(file: str) -> str:
    path: Path = shipped_root() / "models" / "recipes" / file
    return path.read_text(encoding="utf-8") if path.is_file() else ""
