"""The last step of ``demo``: a small classifier of pictures and reports, from nothing to a bundle in seconds."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.domain.progress import Progress

RECIPE = "chest-report"
NEEDED = ("torch", "monai", "lightning", "sklearn", "transformers", "tokenizers")
# Drawn radiographs and a text encoder small enough for seconds on one core.
SETTINGS = (
    "data.source.pictures=null",
    "data.source.radiographs={count: 128, held_out: 40, size: 24}",
    "data.cache.enabled=false",
    "preprocessing.resize_hw=[24, 24]",
    "network.params.image_params={channels: [8, 16, 32]}",
    "network.params.text_config={hidden_size: 48, num_hidden_layers: 1, intermediate_size: 64}",
    "network.params.width=48",
    "optimizer.learning_rate=0.003",
    "training.epochs=8",
    "training.batch_size=16",
    "training.precision=fp32",
    "training.memory_format=contiguous",
    "training.threads=1",
    "evaluation={gates: null, bootstrap: 100}",
    "bundle.id=demo-chest-report",
    "bundle.title=Drawn radiographs with invented reports",
    "bundle.licence=CC0-1.0",
    "bundle.training_data=Drawn radiographs and invented reports of this program.",
)
_TOLD = ("accuracy", "macro_auc_roc", "cohen_kappa")


def train_on_reports(out: Path, progress: Progress) -> dict[str, Any]:
    """Train, evaluate and publish the classifier as ``overread train`` does.

    Returns
    -------
    dict
        ``done``, ``summary``; where it was done ``recipe``, ``network``, ``fusion``, ``cases`` by part, ``epochs``,
        ``seconds``, ``metrics`` of the test part and ``bundle``; where it was left out the ``reason``.

    Raises
    ------
    AppError
        If a step of the training is refused.
    """
    reason = why_left_out()
    if reason:
        return {"done": False, "reason": reason, "summary": f"left out: {reason}"}
    # torch is loaded by this step only.
    from core.compute.training.run import train_recipe
    from core.recipes.load import load_recipe
    from core.recipes.sources_schema import SyntheticReports

    recipe = load_recipe(RECIPE, list(SETTINGS))
    shutil.rmtree(out, ignore_errors=True)
    answer = train_recipe(recipe, out=out, device="cpu", progress=progress)
    metrics = {name: round(float(answer["metrics"][name]), 4) for name in _TOLD}
    source = recipe.data.source
    assert isinstance(source, SyntheticReports)
    counts = source.radiographs
    return {
        "done": True,
        "recipe": RECIPE,
        "network": recipe.network.name,
        "fusion": recipe.network.params["fusion"],
        "cases": {"train": counts.count, "validation": counts.held_out, "test": counts.held_out},
        "epochs": answer["epochs"],
        "seconds": answer["seconds"],
        "metrics": metrics,
        "bundle": answer["bundle"],
        "summary": (
            f"picture and report ({recipe.network.params['fusion']} fusion), "
            f"accuracy {metrics['accuracy']:.2f} on {counts.held_out} drawn radiographs"
        ),
    }


def why_left_out() -> str:
    """Return why the step can't be done here, empty when it can."""
    if getattr(sys, "frozen", False):
        return "the installed application doesn't hold the libraries of training"
    missing = [name for name in NEEDED if find_spec(name) is None]
    return f"{missing[0]} isn't installed; install overread[train]" if missing else ""
