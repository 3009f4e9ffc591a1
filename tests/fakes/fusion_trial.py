"""Trains picture alone and picture with report on the same cases, and compares their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.bundle import read_bundle
from core.compute.evaluation.paired import Comparison, delong
from core.compute.inference.networks import load_network
from core.compute.training.calibrating import logits_of
from core.compute.training.data.module import TrainingData
from core.compute.training.run import train_recipe
from core.recipes.cases import Part
from core.recipes.load import load_recipe
from core.recipes.schema import Recipe
from core.recipes.sources.registry import list_cases
from core.recipes.splits import split_cases

RECIPE = "chest-report"


@dataclass(frozen=True, eq=False)
class Answers:
    """Labels ``(N,)`` bool and scores ``(N,)`` (logit of class 1 minus that of class 0) on the test part.

    ``hidden`` are the scores when no report is shown; those of a picture classifier are the same.
    """

    labels: NDArray[np.bool_]
    shown: NDArray[np.float64]
    hidden: NDArray[np.float64]


def fused(fusion: str, settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe of picture and report."""
    return load_recipe(RECIPE, [*settings, f"network.params.fusion={fusion}"])


def image_alone(settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe of the same picture encoder without reports."""
    both = load_recipe(RECIPE, list(settings))
    channels = both.network.params["image_params"]["channels"]
    params = {"channels": channels}
    network = both.network.model_copy(update={"name": "cnn2d", "params": params})
    return both.model_copy(update={"network": network, "data": both.data.model_copy(update={"text": None})})


def answers_of(recipe: Recipe, data: Path | None, out: Path) -> Answers:
    """Train the recipe into ``out`` and return its answers on the test part."""
    train_recipe(recipe, data=data, out=out, device="cpu")
    network = load_network(read_bundle(out / "bundle"))
    assert network is not None
    cases = list_cases(recipe.data.source, data)
    feed = TrainingData(recipe, split_cases(cases, recipe.data.split, recipe.seed).parts, None)
    batches = list(feed.test_loader(64))
    shown, labels, _ = logits_of(network, batches)
    without: list[dict[str, Any]] = [
        {**batch, "text": torch.zeros_like(batch["text"])} if "text" in batch else batch for batch in batches
    ]
    hidden, _, _ = logits_of(network, without)
    assert len(feed.parts[Part.TEST]) == len(labels)
    return Answers(labels == 1, shown[:, 1] - shown[:, 0], hidden[:, 1] - hidden[:, 0])


def compared(alone: Answers, other: Answers, *, hidden: bool = False) -> Comparison:
    """Compare the areas under the ROC curves of the same test cases (DeLong): other minus picture alone."""
    assert np.array_equal(alone.labels, other.labels)
    return delong(alone.labels, alone.shown, other.hidden if hidden else other.shown)
