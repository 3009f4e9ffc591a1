"""The recipe of a fine-tuning: everything that the model in use says of itself, at a low rate, on readers' cases."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any

from core.bundles.bundle import Bundle
from core.domain.errors import InputError
from core.domain.training import CasePart, TrainingPreview
from core.recipes.finetune import FineTuneSettings
from core.recipes.load import parse_recipe
from core.recipes.schema import Recipe
from core.services.lay_cases import CHANNEL

_VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)")
_FILLED_IN = frozenset({"in_channels", "out_channels"})
_DRAWS_PER_EPOCH = 16
_PATCH_LIMIT_KJI = (96, 96, 96)


def next_version(known: Collection[str]) -> str:
    """Return the next minor version after all known ones: ``1.2.0`` and ``1.3.0-rc`` give ``1.4.0``."""
    numbers = [tuple(int(part) for part in match.groups()) for v in known if (match := _VERSION.match(v))]
    if not numbers:
        raise InputError(
            "training.version", "The model has no version number.", "Add it to the catalogue again."
        )
    major, minor, _ = max(numbers)
    return f"{major}.{minor + 1}.0"


def finetune_recipe(
    bundle: Bundle, settings: FineTuneSettings, preview: TrainingPreview, version: str, *, threads: int
) -> Recipe:
    """Return the recipe that trains ``bundle`` further.

    Parameters
    ----------
    version : str
        Of the candidate.
    threads : int
        Processor threads that the training may use.
    """
    manifest = bundle.manifest
    segmentation = manifest.task == "segmentation"
    training_cases = max(1, preview.count(CasePart.TRAIN))
    assert manifest.network is not None
    document: dict[str, Any] = {
        "name": f"finetune-{manifest.id}"[:63].rstrip("-"),
        "title": f"Fine-tuning of {manifest.title}"[:120],
        "seed": settings.seed,
        "task": manifest.task,
        "spatial_dims": 3 if manifest.is_3d else 2,
        "data": {
            "source": {"name": "library_cases"},
            "split": {"method": "given", "near_duplicates": None},
            "channels": [CHANNEL],
            "repeat": math.ceil(_DRAWS_PER_EPOCH / training_cases) if segmentation else 1,
        },
        "preprocessing": manifest.preprocessing.model_dump(mode="json"),
        "network": {
            "name": manifest.network.name,
            "params": {k: v for k, v in manifest.network.params.items() if k not in _FILLED_IN},
            "weights": str(bundle.path),
        },
        "loss": {"name": "dice_ce" if segmentation else "cross_entropy"},
        "optimizer": {"name": "adamw", "learning_rate": settings.learning_rate, "weight_decay": 1e-4},
        "schedule": {"name": "cosine", "warmup_epochs": min(1.0, settings.epochs / 4), "final": 0.05},
        "training": {
            "epochs": settings.epochs,
            "batch_size": 1 if segmentation else min(8, training_cases),
            "precision": "auto",
            "monitor": {"value": "loss"},
            "early_stopping": {"patience": max(3, settings.epochs // 3), "min_delta": 0.0},
            "checkpoints": {"every_steps": 10, "top_k": 1},
            "budget_minutes": settings.budget_minutes,
            "threads": threads,
        },
        "evaluation": {"bootstrap": 1000},
        "bundle": _bundle(bundle, preview, version),
    }
    if segmentation and manifest.is_3d and manifest.inference.patch_kji is not None:
        patch = [min(a, b) for a, b in zip(manifest.inference.patch_kji, _PATCH_LIMIT_KJI, strict=True)]
        document["data"]["sampling"] = {"patch_kji": patch, "per_case": 1, "foreground": 0.66}
    return parse_recipe(document)


def _bundle(bundle: Bundle, preview: TrainingPreview, version: str) -> dict[str, Any]:
    manifest = bundle.manifest
    corrected = sum(case.is_corrected for case in preview.included)
    accepted = len(preview.included) - corrected
    conformal = manifest.calibration.conformal
    taught = (
        f"{manifest.training_data} Trained further from version {manifest.version} on cases of this installation: "
        f"{accepted} accepted and {corrected} corrected by readers, of which {preview.count(CasePart.TEST)} were kept "
        "out for the comparison."
    )
    plain = json.loads(manifest.model_dump_json())
    labels = [{k: v for k, v in label.items() if v is not None} for label in plain["labels"]]
    return {
        "id": manifest.id,
        "version": version,
        "title": manifest.title,
        "description": manifest.description,
        "intended_use": manifest.intended_use,
        "not_intended_for": manifest.not_intended_for,
        "licence": manifest.licence,
        "training_data": taught.strip(),
        "labels": labels,
        "requirements": plain["requirements"],
        "inference": plain["inference"],
        "postprocessing": plain["postprocessing"],
        "coverage": conformal.coverage if conformal is not None else 0.95,
    }
