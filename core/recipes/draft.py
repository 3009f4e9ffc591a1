"""Writes a first recipe for a data folder: what ``overread init`` proposes."""

from __future__ import annotations

import re
from typing import Any

from core.domain.errors import InputError
from core.recipes.includes import merged
from core.recipes.nearest import did_you_mean
from core.recipes.proposal import Proposal
from models.networks.specs import SPECS, NetworkSpec

_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Source: Okabe & Ito, "Color Universal Design", 2008 (told apart by colour-blind readers)."""
_PATCH = 64
# Mirroring isn't among them: in a body, left and right differ.
_AUGMENTATION: tuple[dict[str, Any], ...] = (
    {"name": "rand_affine", "params": {"probability": 0.5}},
    {"name": "rand_intensity", "params": {"probability": 0.5}},
    {"name": "rand_noise", "params": {"probability": 0.2}},
)


def fitting_networks(task: str, spatial_dims: int) -> tuple[str, ...]:
    """Return the names of the networks for a task, sorted."""
    return tuple(sorted(n for n, s in SPECS.items() if s.task == task and spatial_dims in s.dimensions))


def usual_network(proposal: Proposal) -> str:
    """Return the network that is proposed first."""
    if proposal.task == "segmentation":
        return "unet"
    return "densenet121" if max(proposal.size_kji[1:]) <= 96 or proposal.spatial_dims == 3 else "resnet18"


def draft_recipe(proposal: Proposal, name: str, network: str | None = None) -> dict[str, Any]:
    """Return a recipe as plain data that ``parse_recipe`` accepts.

    Raises
    ------
    InputError
        ``recipe.network`` when the network isn't for this task.
    """
    network = network or usual_network(proposal)
    fitting = fitting_networks(proposal.task, proposal.spatial_dims)
    if network not in fitting:
        raise InputError(
            "recipe.network",
            f"“{network}” isn't a network for {proposal.task} in {proposal.spatial_dims} dimensions.",
            did_you_mean(network, fitting),
        )
    spec = SPECS[network]
    document: dict[str, Any] = {
        "schema_version": 1,
        "name": recipe_name(name),
        "title": name,
        "seed": 42,
        "task": proposal.task,
        "spatial_dims": proposal.spatial_dims,
        "data": {
            "source": {key: value for key, value in proposal.source.items() if value != {}},
            "split": {"level": "patient", "train": 0.7, "validation": 0.15, "test": 0.15, **proposal.split},
            "channels": list(proposal.channels),
        },
        "network": {"name": network},
        "optimizer": {"name": spec.optimiser, "learning_rate": spec.learning_rate},
        "schedule": {"name": "cosine", "warmup_epochs": 1.0},
        "training": {
            "epochs": 30,
            "batch_size": min(spec.batch_size, 16),
            "early_stopping": {"patience": 10},
        },
        "bundle": _bundle(proposal, name),
    }
    return merged(document, _of_task(proposal, spec), root=True)


def recipe_name(text: str) -> str:
    """Return a name that a recipe may have."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return name if len(name) >= 2 else f"recipe-{name or 'new'}"


def _of_task(proposal: Proposal, spec: NetworkSpec) -> dict[str, Any]:
    if proposal.task == "classification":
        return {
            "data": {"balance": "weighted"},
            "preprocessing": {**_intensity(proposal), **_picture_size(proposal, spec)},
            "transforms": {"train": list(_AUGMENTATION)},
            "loss": {"name": "cross_entropy"},
            "training": {"monitor": {"value": "macro_f1"}},
        }
    out: dict[str, Any] = {
        "preprocessing": {**_intensity(proposal), **_picture_size(proposal, spec)},
        "transforms": {"train": list(_AUGMENTATION)},
        "loss": {"name": "dice_ce"},
        "training": {"monitor": {"value": "dice"}, "batch_size": 2 if proposal.spatial_dims == 3 else 8},
    }
    if proposal.spatial_dims == 3:
        patch = [_multiple(min(_PATCH, n), spec.divisor) for n in proposal.size_kji]
        out["data"] = {"sampling": {"patch_kji": patch, "per_case": 2, "foreground": 0.66}}
        out["bundle"] = {"inference": {"patch_kji": patch, "overlap": 0.5}}
    else:
        out["bundle"] = {"inference": {"divisor": spec.divisor}}
    return out


def _multiple(size: int, divisor: int) -> int:
    return max(divisor, -(-size // divisor) * divisor)


def _intensity(proposal: Proposal) -> dict[str, Any]:
    if proposal.modality == "CT":
        steps: list[dict[str, Any]] = [
            {"op": "scale", "from_low": -1000.0, "from_high": 1000.0, "to_low": 0.0, "to_high": 1.0}
        ]
    elif proposal.spatial_dims == 2:
        steps = [{"op": "percentile", "low": 0.0, "high": 100.0}]
    else:
        steps = [{"op": "percentile", "low": 0.5, "high": 99.5}]
    out: dict[str, Any] = {"intensity": steps, "channels": 3 if proposal.colour else 1}
    if proposal.spatial_dims == 3 and proposal.spacing_ijk_mm is not None:
        out["spacing_ijk_mm"] = [round(min(max(mm, 0.1), 10.0), 3) for mm in proposal.spacing_ijk_mm]
    return out


def _picture_size(proposal: Proposal, spec: NetworkSpec) -> dict[str, Any]:
    if proposal.spatial_dims != 2:
        return {}
    if proposal.task == "classification":
        return {"resize_hw": [spec.input_size, spec.input_size]}
    side = min(256, max(spec.divisor, max(proposal.size_kji[1:])))
    return {"resize_hw": [_multiple(side, spec.divisor)] * 2}


def _bundle(proposal: Proposal, name: str) -> dict[str, Any]:
    labels = [
        {"value": value, "name": text[:64], "color_rgb": list(_COLOURS[number % len(_COLOURS)])}
        for number, (value, text) in enumerate(proposal.labels)
    ]
    return {
        "id": recipe_name(name),
        "title": name[:120],
        "licence": "unstated",
        "labels": labels,
        "requirements": {
            "kind": "volume" if proposal.spatial_dims == 3 else "image",
            "modalities": [proposal.modality] if proposal.modality not in ("OT", "") else [],
            "colour": "any" if proposal.colour else "grey",
        },
    }
