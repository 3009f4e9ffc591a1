"""Train a recipe from the first random number to a bundle with its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.compute.training.export import ONNX_FILE, SAFETENSORS_FILE, onnx_of, safetensors_of
from core.compute.training.image_run import train_classifier
from core.compute.training.loop import train
from core.compute.training.losses.dice import DiceCrossEntropy
from core.compute.training.phantom_data import PhantomPool
from core.compute.training.publish import publish_segmentation
from core.compute.training.recipe import FolderData, PhantomData, Recipe, load_recipe
from core.config.atomic import atomic_write_text
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress, no_progress
from models.networks.registry import build


def train_recipe(
    name: str,
    *,
    data: Path | None = None,
    out: Path,
    overrides: dict[str, Any] | None = None,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    private_key_file: Path | None = None,
    reference_metrics: Mapping[str, list[float]] | None = None,
) -> dict[str, Any]:
    """Train a model by its recipe, evaluate it on what it has not seen, and write its bundle.

    Parameters
    ----------
    name : str
        Recipe under ``models/recipes`` or path of a YAML file.
    data : pathlib.Path, optional
        Folder of pictures (classification, needed) or cache of phantoms (segmentation, by default inside
        ``out``).
    out : pathlib.Path
        Receives checkpoints, ``progress.jsonl``, ``metrics.json`` and ``bundle/``. An interrupted training
        in the same folder is resumed.
    overrides : dict, optional
        Recipe values to replace, with dotted keys.
    private_key_file : pathlib.Path, optional
        Signs the bundle.
    reference_metrics : mapping, optional
        Dice [value, low, high] per label on a real reference case, for the card of a segmentation.

    Returns
    -------
    dict
        ``recipe``, ``bundle`` (path), ``metrics``, ``steps``, ``loss``.

    Raises
    ------
    InputError
        Recipe or data unusable.
    Cancelled
        When asked to; resume by calling again.
    """
    recipe = load_recipe(name, overrides)
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(recipe.data, FolderData):
        if data is None:
            raise InputError(
                "training.data", f"The recipe “{name}” needs a folder of pictures.", "Give it with --data."
            )
        result = train_classifier(recipe, data, out, progress, cancel, private_key_file)
    else:
        result = _train_segmentation(
            recipe,
            recipe.data,
            data or out / "phantoms",
            out,
            progress,
            cancel,
            private_key_file,
            reference_metrics,
        )
    atomic_write_text(out / "metrics.json", json.dumps(result["metrics"], indent=2) + "\n")
    return {"recipe": recipe.name, **result}


def _train_segmentation(
    recipe: Recipe,
    settings: PhantomData,
    cache: Path,
    out: Path,
    progress: Progress,
    cancel: CancelToken | None,
    private_key_file: Path | None,
    reference_metrics: Mapping[str, list[float]] | None,
) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)
    pool = PhantomPool(cache, settings, progress)
    network = build(recipe.network.name, **recipe.network.params)
    weights = torch.tensor(recipe.class_weights) if recipe.class_weights else None
    loss = DiceCrossEntropy(recipe.dice_weight, weights)
    trained = train(
        recipe,
        network,
        lambda step, items: pool.batch(recipe.seed, step, items),
        loss,
        out,
        progress=progress,
        cancel=cancel,
    )
    progress("Exporting", 0.0)
    example = torch.zeros(1, 1, 32, 48, 64).normal_(generator=torch.Generator().manual_seed(0))
    files = {
        SAFETENSORS_FILE: safetensors_of(trained.network),
        ONNX_FILE: onnx_of(trained.network, example, dynamic=(2, 3, 4)),
    }
    bundle, metrics = publish_segmentation(
        recipe,
        settings,
        files,
        cache,
        pool.holdout_seeds(),
        out / "bundle",
        private_key_file,
        reference_metrics,
        progress,
    )
    return {"bundle": str(bundle), "metrics": metrics, "steps": trained.steps, "loss": trained.loss}
