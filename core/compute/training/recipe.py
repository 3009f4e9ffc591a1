"""Training recipes: strict YAML documents under ``models/recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.config.resources import shipped_root
from core.domain.errors import InputError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkRecipe(_Strict):
    """A network of ``models.networks.registry`` with its arguments."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class PhantomData(_Strict):
    """Segmentation data: a pool of procedural phantoms, rendered once.

    ``low_hu`` … ``high_hu`` is mapped to −1 … 1. ``patch_kji`` are voxels of ``spacing_mm``. Seeds
    ``first_seed`` … ``first_seed + count`` train, the ``holdout`` seeds that follow are never trained on.
    """

    kind: Literal["phantoms"] = "phantoms"
    count: int = Field(ge=1)
    holdout: int = Field(ge=0)
    first_seed: int = 0
    spacing_mm: float = Field(gt=0)
    patch_kji: tuple[int, int, int]
    low_hu: float
    high_hu: float


class FolderData(_Strict):
    """Classification data: one folder of pictures per class, resized to ``size_px`` squared.

    Shares of the pictures (split within each class, near-duplicates kept together): the rest trains.
    """

    kind: Literal["folders"] = "folders"
    classes: tuple[str, ...] = Field(min_length=2)
    size_px: int = Field(ge=16, le=1024)
    calibration_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)
    duplicate_correlation: float = Field(default=0.995, gt=0, le=1)


class Recipe(_Strict):
    """How a model is trained.

    ``batch_size`` samples per step are shared by ``replicas`` threads with one core each, whose gradients are
    averaged (normalisation statistics are those of a replica's own share). ``steps`` optimiser steps:
    ``warmup_steps`` rising, then a cosine to zero. From ``freeze_norm_at`` (share
    of the steps) on, batch normalisation uses its running statistics, as in use. ``precision`` ``"auto"``
    takes bf16 where a probe finds it faster.
    """

    name: str
    seed: int = 0
    network: NetworkRecipe
    data: PhantomData | FolderData = Field(discriminator="kind")
    batch_size: int = Field(ge=1)
    replicas: int = Field(default=1, ge=1, le=64)
    steps: int = Field(ge=1)
    warmup_steps: int = Field(default=50, ge=0)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    dice_weight: float = Field(default=1.0, ge=0)
    class_weights: tuple[float, ...] | None = None
    freeze_norm_at: float = Field(default=0.7, ge=0, le=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every: int = Field(default=100, ge=1)


def load_recipe(name: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe by name (``"thorax-ct"``) or path.

    Parameters
    ----------
    name : str
        File name without suffix under ``models/recipes``, or the path of a YAML file.
    overrides : dict, optional
        Values to replace, with dotted keys (``{"data.count": 8, "steps": 20}``).

    Raises
    ------
    InputError
        ``recipe.unknown`` or ``recipe.invalid`` (names the field).
    """
    path = (
        Path(name)
        if name.endswith((".yaml", ".yml"))
        else shipped_root() / "models" / "recipes" / f"{name}.yaml"
    )
    if not path.is_file():
        raise InputError(
            "recipe.unknown", f"There is no training recipe “{name}”.", "See models/recipes for the names."
        )
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in (overrides or {}).items():
        place = document
        *parents, last = key.split(".")
        for parent in parents:
            place = place[parent]
        place[last] = value
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "recipe.invalid",
            f"The recipe “{name}” is invalid at {where}: {first['msg']}.",
            "Correct the YAML file.",
        ) from error
