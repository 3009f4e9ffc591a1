"""From a case to what the network is shown: the same functions as in the reading application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.manifest import Label, Manifest, Measurement, Network, Weights
from core.compute.inference.grids import ModelGrid
from core.compute.inference.prepare import check_geometry, prepare_image, prepare_volume
from core.compute.training.data.targets import Facts, class_of, facts_read, targets_of
from core.domain.errors import InputError
from core.domain.geometry import apply_reorientation
from core.domain.volume import Volume
from core.recipes.cases import UNJUDGED, Case, CaseData
from core.recipes.reading import read_case
from core.recipes.schema import Recipe

Target = int | torch.Tensor | dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Sample:
    """One prepared case, or a window of it.

    Attributes
    ----------
    image : torch.Tensor
        ``(C, H, W)`` or ``(C, K, J, I)`` float32.
    target : int, torch.Tensor or dict of str to torch.Tensor
        Class, or label map ``(H, W)`` or ``(K, J, I)`` uint8 on the same grid, or those of several tasks
        (``targets.targets_of``).
    case : str
        Id of the case.
    spacing_mm : tuple of float
        Of the model grid, along the array axes: (k, j, i); ones for pictures.
    attributes : mapping of str to str
        As the source states them.
    facts : Facts
        What reading the case gave beside the voxels.
    text : torch.Tensor or None
        ``(L,)`` int64 word pieces of the report, 0 where there are none.
    """

    image: torch.Tensor
    target: Target
    case: str = ""
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    attributes: Mapping[str, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    text: torch.Tensor | None = None

    @property
    def label_map(self) -> torch.Tensor | None:
        """The label map, None without one."""
        if isinstance(self.target, dict):
            return self.target.get("segmentation")
        return self.target if isinstance(self.target, torch.Tensor) else None


def preparation_manifest(recipe: Recipe) -> Manifest:
    """Return the manifest that the recipe's bundle will have, as far as preprocessing and fit are concerned."""
    kind = "image" if recipe.spatial_dims == 2 else "volume"
    several = recipe.task == "multitask"
    labels, classes = (recipe.structures, recipe.classes) if several else (recipe.bundle.labels, ())
    return Manifest(
        id=recipe.bundle.id,
        version=recipe.bundle.version,
        task=recipe.task,
        title=recipe.bundle.title,
        intended_use=recipe.bundle.intended_use or "Training.",
        licence=recipe.bundle.licence,
        network=Network(name=recipe.network.name),
        weights=(Weights(file="model.safetensors", format="safetensors"),),
        labels=tuple(Label.model_validate(label.model_dump()) for label in labels),
        classes=tuple(Label.model_validate(label.model_dump()) for label in classes),
        measurements=tuple(Measurement.model_validate(one.model_dump()) for one in recipe.measurements),
        preprocessing=recipe.preprocessing,
        inference=recipe.bundle.inference,
        requirements=recipe.bundle.requirements.model_copy(update={"kind": kind}),
    )


def prepare_case(case: Case, recipe: Recipe, content: CaseData | None = None) -> Sample:
    """Read and prepare a case.

    Parameters
    ----------
    content : CaseData, optional
        What was read already.

    Raises
    ------
    InputError
        ``training.channel``: a contrast is missing and the recipe doesn't allow for it. ``training.target``: no
        class or label map, or one with values that the recipe doesn't name. ``training.channels``.
    SafetyError, InputError
        What the application refuses too: ``run.geometry``, ``run.sheared``, ``run.not_finite``, ``run.kind``.
    """
    if content is None:
        content = read_case(case, recipe.data)
    manifest = preparation_manifest(recipe)
    volumes = _present(case, recipe, content)
    first = next(iter(volumes.values()))
    images: dict[str, torch.Tensor] = {}
    grid: ModelGrid | None = None
    for channel, volume in volumes.items():
        images[channel], own = _prepared(volume, manifest)
        grid = grid or own
    image = _stacked(images, recipe)
    spacing = (1.0, 1.0, 1.0) if grid is None else grid.model.spacing_kji_mm
    facts = facts_read(content)
    target = _target(case, recipe, content, first, grid, image)
    return Sample(image, target, case.id, _triple(spacing), dict(case.attributes), facts)


def _prepared(volume: Volume, manifest: Manifest) -> tuple[torch.Tensor, ModelGrid | None]:
    check_geometry(manifest, volume)
    if manifest.requirements.kind == "image":
        return prepare_image(volume, manifest)[0], None
    prepared = prepare_volume(volume, manifest)
    return prepared.tensor, prepared.grid


def _present(case: Case, recipe: Recipe, content: CaseData) -> dict[str, Volume]:
    """Return the volumes in the order of the recipe's channels."""
    channels = recipe.data.channels
    # The reader fills a missing channel with zeros of the scanner; here it is zero for the network.
    lacking = {name for name in channels if case.images and name not in case.images}
    missing = [name for name in channels if name not in content.volumes or name in lacking]
    if missing and (recipe.data.missing != "zeros" or len(missing) == len(channels)):
        raise InputError(
            "training.channel",
            f"The case {case.id} has no “{missing[0]}”.",
            "Add the file, or set data.missing to leave_out or zeros.",
        )
    if len(channels) > 1 and recipe.preprocessing.channels != 1:
        raise InputError(
            "training.channels",
            f"preprocessing.channels {recipe.preprocessing.channels} repeats a single channel; "
            f"the recipe has {len(channels)} of them.",
            "Set preprocessing.channels to 1.",
        )
    return {name: content.volumes[name] for name in channels if name not in missing}


def _stacked(images: dict[str, torch.Tensor], recipe: Recipe) -> torch.Tensor:
    """Channels in the recipe's order; one that is missing is zero after normalisation."""
    like = next(iter(images.values()))
    return torch.cat([images.get(name, torch.zeros_like(like)) for name in recipe.data.channels])


def _target(
    case: Case,
    recipe: Recipe,
    content: CaseData,
    first: Volume,
    grid: ModelGrid | None,
    image: torch.Tensor,
) -> Target:
    facts = facts_read(content).beside(case)
    if recipe.task == "classification":
        label = class_of(facts, case.id, recipe)
        if label is None:
            raise InputError("training.target", f"The case {case.id} has no class.", "Correct the data set.")
        return int(label)
    if recipe.task == "multitask":
        labels = None
        if content.labels is not None and recipe.structures:
            labels = _label_map(case, recipe, content.labels, first, grid)
        return targets_of(labels, facts, case.id, recipe, tuple(image.shape[1:]))
    if content.labels is None:
        raise InputError("training.target", f"The case {case.id} has no label map.", "Add its mask.")
    return _label_map(case, recipe, content.labels, first, grid)


def _label_map(
    case: Case, recipe: Recipe, labels: NDArray[np.uint8], first: Volume, grid: ModelGrid | None
) -> torch.Tensor:
    if labels.shape != first.geometry.shape_kji:
        raise InputError(
            "training.target",
            f"The label map of {case.id} has {labels.shape} voxels, its image {first.geometry.shape_kji}.",
            "Give a mask on the grid of the image.",
        )
    judged = labels
    if recipe.loss.name == "cells" or recipe.task == "multitask":
        judged = judged[judged != UNJUDGED]
    highest = int(judged.max(initial=0))
    if highest >= recipe.out_channels:
        raise InputError(
            "training.target",
            f"The label map of {case.id} holds the value {highest}; the recipe's highest label is "
            f"{recipe.out_channels - 1}.",
            "Name the label in bundle.labels or map the value in data.source.values.",
        )
    if grid is None:
        return torch.from_numpy(_resized(labels[0], recipe.preprocessing.resize_hw))
    return torch.from_numpy(labels_on_model_grid(labels, grid))


def labels_on_model_grid(labels: NDArray[np.uint8], grid: ModelGrid) -> NDArray[np.uint8]:
    """Return a label map ``(K, J, I)`` of the series on the model grid, by the nearest voxel.

    No value appears that wasn't there. Model voxels outside the series are background where the image gets its
    fill value (``conform``), else the nearest edge, as the image.
    """
    array = apply_reorientation(labels, grid.permutation, grid.flips)
    picks, outside = [], []
    for axis, count in enumerate(array.shape):
        index = grid.series_index(axis)
        picks.append(_nearest(index, count))
        outside.append((index < -1e-6) | (index > count - 1 + 1e-6))
    out = np.ascontiguousarray(array[np.ix_(*picks)], dtype=np.uint8)
    if grid.constant_outside:
        for axis, beyond in enumerate(outside):
            out[(slice(None),) * axis + (beyond,)] = 0
    return out


def _resized(labels: NDArray[np.uint8], size_hw: tuple[int, int] | None) -> NDArray[np.uint8]:
    if size_hw is None:
        return np.array(labels, dtype=np.uint8, order="C")
    picks = [
        _nearest((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, n_in)
        for n_in, n_out in zip(labels.shape, size_hw, strict=True)
    ]
    return np.ascontiguousarray(labels[np.ix_(*picks)], dtype=np.uint8)


def _nearest(index: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.clip(np.floor(index + 0.5), 0, count - 1).astype(np.int64)


def _triple(values: tuple[float, ...]) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return a, b, c
