"""What was learnt before: a recipe trained first, and its task kept up while the next one is learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.bundles.bundle import Bundle, read_bundle
from core.compute.training.arithmetic import Arithmetic
from core.compute.training.data.dataset import collate
from core.compute.training.data.module import TrainingData
from core.compute.training.objective import build_objective
from core.compute.training.run_folder import processes
from core.compute.training.sampler import Draw
from core.domain.errors import InputError
from core.recipes.cases import Part
from core.recipes.load import load_recipe
from core.recipes.runs import RUN_FILE
from core.recipes.schema import Recipe
from core.recipes.sources.registry import list_cases
from core.recipes.splits import split_cases

FOLDER = "pretraining"
_DRAWS = 0x52


class Rehearsal:
    """Batches and loss of the task that the network began with.

    Parameters
    ----------
    before : Recipe
        The recipe of the pretraining: segmentation, of the same network, which must have ``located``.
    data : TrainingData
        Its cases.
    weight, batch_size
        As ``training.rehearsal`` has them.
    seed : int
        Of the recipe that rehearses.
    """

    def __init__(self, before: Recipe, data: TrainingData, weight: float, batch_size: int, seed: int) -> None:
        self._objective = build_objective(before, ())
        self._dataset = data.datasets[Part.TRAIN]
        self.weight, self._batch_size, self._seed = weight, batch_size, seed

    def loss(self, network: nn.Module, drawn: int, device: torch.device, how: Arithmetic) -> Tensor:
        """Return the weighted loss of the batch that belongs to the ``drawn``-th batch of the training."""
        rng = np.random.default_rng((self._seed, _DRAWS, drawn))
        picks = rng.integers(len(self._dataset), size=self._batch_size)
        batch = collate([self._dataset[Draw(drawn, int(case), n)] for n, case in enumerate(picks)])
        images, target = batch["image"].to(device), batch["target"].to(device)
        with how.autocast(device.type):
            answer = network.located(how.place(images))  # type: ignore[operator]
        return self.weight * self._objective(answer.float(), target)


def pretraining_of(recipe: Recipe) -> Recipe | None:
    """Return the recipe that is trained first, None when there is none.

    Raises
    ------
    InputError
        ``training.pretraining``: it is of another network, trains something first itself, or several processes train.
    """
    if recipe.network.pretraining is None:
        return None
    before = load_recipe(recipe.network.pretraining)
    if before.network.name != recipe.network.name or before.network.pretraining is not None:
        raise InputError(
            "training.pretraining",
            f"“{before.name}” can't come before “{recipe.name}”: it must be of the network {recipe.network.name} "
            "and begin from nothing itself.",
            "Correct network.pretraining.",
        )
    if processes()[1] > 1:
        raise InputError(
            "training.pretraining",
            f"“{recipe.name}” trains another recipe first, which one process does.",
            "Start it without torchrun, or train the first recipe alone and give its bundle by network.weights.",
        )
    return before


def pretrained(before: Recipe, out: Path, train: Callable[[Recipe, Path], dict[str, Any]]) -> Bundle:
    """Train the first recipe in ``out/pretraining``, or take what an interrupted run finished there."""
    folder = out / FOLDER
    if not _is_done(folder):
        train(before, folder)
    return read_bundle(folder / "bundle")


def _is_done(folder: Path) -> bool:
    try:
        state = json.loads((folder / RUN_FILE).read_text(encoding="utf-8")).get("state")
    except (OSError, ValueError):
        return False
    return bool(state == "done") and (folder / "bundle").is_dir()


def rehearsal_of(recipe: Recipe, data: Path | None, out: Path, network: nn.Module) -> Rehearsal | None:
    """Return what ``training.rehearsal`` asks for.

    Raises
    ------
    InputError
        ``training.rehearsal`` when the network can't answer for the first task.
    """
    settings, before = recipe.training.rehearsal, pretraining_of(recipe)
    if settings is None or before is None:
        return None
    if before.task != "segmentation" or not hasattr(network, "located"):
        raise InputError(
            "training.rehearsal",
            f"The network {recipe.network.name} can't rehearse “{before.name}” beside its own task.",
            "Remove training.rehearsal, or use the network cell_net.",
        )
    cases = list_cases(before.data.source, data, before.data.channels, before.data.missing)
    parts = split_cases(cases, before.data.split, before.seed).parts
    prepared = TrainingData(before, {Part.TRAIN: parts[Part.TRAIN]}, out / FOLDER)
    return Rehearsal(before, prepared, settings.weight, settings.batch_size, recipe.seed)
