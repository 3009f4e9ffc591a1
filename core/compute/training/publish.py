"""From trained weights to a bundle: manifest, reference case, card, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.bundles.bundle import Bundle
from core.bundles.manifest import (
    Calibration,
    Explain,
    ExplainLayer,
    Findings,
    Label,
    Manifest,
    Network,
    Weights,
)
from core.bundles.writer import Reference, write_bundle
from core.compute.inference.loaded import ModelCache
from core.compute.inference.run import run_bundle
from core.compute.training.cards import Metric, card_text, licence_text
from core.compute.training.export import ONNX_FILE, SAFETENSORS_FILE, onnx_of, safetensors_of
from core.compute.training.objective import network_params
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.recipes.schema import Recipe
from models.networks.parts import parts_of

_REFERENCE_SEED = 900_001
_REFERENCE_VOXELS = 2_000_000


@dataclass(frozen=True, eq=False)
class Product:
    """What a training made, apart from the numbers of its evaluation.

    Attributes
    ----------
    network : torch.nn.Module
        On the processor, with the weights to be used.
    calibration : Calibration
        Of a classifier; plain for segmentation.
    counts : mapping of str to int
        Cases by part.
    run_id : str
        Of the run folder.
    """

    recipe: Recipe
    network: nn.Module
    calibration: Calibration
    counts: Mapping[str, int]
    run_id: str


def manifest_of(product: Product, metrics: Mapping[str, Metric]) -> Manifest:
    """Return the manifest that a recipe and its outcome make."""
    recipe, config = product.recipe, product.recipe.bundle
    parts = parts_of(product.network)
    segments = recipe.task == "segmentation"
    divisor = max(config.inference.divisor, parts.divisor) if segments else config.inference.divisor
    weights = [Weights(file=SAFETENSORS_FILE, format="safetensors"), Weights(file=ONNX_FILE, format="onnx")]
    return Manifest(
        id=config.id,
        version=config.version,
        task=recipe.task,
        title=config.title,
        description=config.description,
        intended_use=config.intended_use,
        not_intended_for=config.not_intended_for,
        licence=config.licence,
        source=f"Trained by Overread: recipe {recipe.name}, run {product.run_id}",
        training_data=config.training_data or _training_data(product),
        metrics=dict(metrics),
        network=Network(name=recipe.network.name, params=_plain(network_params(recipe))),
        weights=tuple(weights),
        labels=tuple(Label.model_validate_json(label.model_dump_json()) for label in config.labels),
        preprocessing=recipe.preprocessing,
        inference=config.inference.model_copy(update={"divisor": min(divisor, 256)}),
        postprocessing=config.postprocessing,
        requirements=config.requirements.model_copy(
            update={"kind": "volume" if recipe.spatial_dims == 3 else "image"}
        ),
        calibration=product.calibration,
        findings=Findings(per="segment" if segments else "class"),
        explain=Explain(layers=tuple(ExplainLayer(name=name) for name in parts.cam_layers)),
    )


def weight_files(product: Product) -> dict[str, bytes]:
    """Return the weights as safetensors and ONNX, both held against the network.

    Raises
    ------
    BugError
        ``training.export``.
    """
    recipe = product.recipe
    params = network_params(recipe)
    size = _example_size(recipe, parts_of(product.network).divisor)
    example = torch.randn(2, params["in_channels"], *size, generator=torch.Generator().manual_seed(0))
    fixed = recipe.preprocessing.resize_hw is not None and recipe.task == "classification"
    spatial = () if fixed else tuple(range(2, 2 + len(size)))
    return {
        SAFETENSORS_FILE: safetensors_of(product.network),
        ONNX_FILE: onnx_of(product.network, example, dynamic=(0, *spatial)),
    }


def _example_size(recipe: Recipe, divisor: int) -> tuple[int, ...]:
    if recipe.spatial_dims == 2:
        if recipe.preprocessing.resize_hw is not None:
            return recipe.preprocessing.resize_hw
        patch = recipe.bundle.inference.patch_kji
        return patch[1:] if patch is not None else (2 * max(divisor, 16),) * 2
    patch = recipe.bundle.inference.patch_kji or (64, 64, 64)
    # Unequal sizes, so that the exporter doesn't take two axes for one; small, so that it is fast.
    step = max(divisor, 8)
    return tuple(step * max(1, min(n // step, 2 + axis)) for axis, n in enumerate(patch))


def write_product(
    product: Product,
    files: Mapping[str, bytes],
    folder: Path,
    metrics: Mapping[str, Metric],
    *,
    reference: Volume | None,
    private_key_file: Path | None = None,
) -> Bundle:
    """Write the bundle; with a reference volume also the answer that its self-test expects."""
    manifest = manifest_of(product, metrics)

    def write(known: Reference | None) -> Bundle:
        return write_bundle(
            folder,
            manifest,
            files=files,
            card=card_text(product.recipe, metrics, product.counts, product.run_id),
            licence_text=licence_text(product.recipe),
            reference=known,
            private_key_file=private_key_file,
            overwrite=True,
        )

    bundle = write(None)
    return bundle if reference is None else write(answered(bundle, reference))


def answered(bundle: Bundle, volume: Volume) -> Reference:
    """Return a reference case with the bundle's own exact answer."""
    answer = run_bundle(bundle, volume, cache=ModelCache(), device="cpu", backend="exact")
    probabilities = None
    if answer.labels is None:
        by_name = {item.label: item.probability for item in answer.classes}
        order = sorted(bundle.manifest.labels, key=lambda label: label.value)
        probabilities = np.array([by_name[label.name] for label in order], dtype=np.float32)
    return Reference(
        voxels=volume.voxels,
        lps_from_ijk=volume.geometry.lps_from_ijk,
        modality=volume.modality,
        units=volume.units,
        labels=answer.labels,
        probabilities=probabilities,
        extra={"inverted": "true"} if volume.inverted else {},
    )


def reference_crop(volume: Volume, labels: NDArray[np.uint8] | None) -> Volume:
    """Return a part of a volume that is small enough for a bundle, around the labelled voxels.

    Identifiers, dates and windows of the series are left behind.
    """
    shape = np.array(volume.geometry.shape_kji)
    size = shape.copy()
    while int(np.prod(size)) > _REFERENCE_VOXELS:
        size[np.argmax(size)] = max(1, int(size.max() * 0.9))
    middle = shape // 2
    if labels is not None and labels.any():
        middle = np.array([int(np.median(axis)) for axis in np.nonzero(labels)])
    start = np.clip(middle - size // 2, 0, shape - size)
    cut = tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))
    k, j, i = (int(n) for n in start)
    a, b, c = (int(n) for n in size)
    geometry = volume.geometry.cropped((k, j, i), (a, b, c))
    return Volume(
        geometry,
        np.ascontiguousarray(volume.voxels[cut]),
        volume.modality,
        "reference",
        units=volume.units,
        inverted=volume.inverted,
    )


def phantom_volume(hu: NDArray[np.int16], spacing_mm: float) -> Volume:
    """Return a phantom's voxels as an isotropic CT volume along LPS."""
    geometry = VolumeGeometry.from_axes(hu.shape, (spacing_mm,) * 3, np.eye(3), (0.0, 0.0, 0.0))
    return Volume(geometry, np.ascontiguousarray(hu), "CT", "1.2.3", units="HU")


def reference_phantom() -> Volume:
    """Return a small, coarse phantom: whole chest, 7 mm slices, so that it weighs little."""
    from core.phantom.population import random_spec
    from core.phantom.thorax import make_thorax

    spec = replace(
        random_spec(_REFERENCE_SEED),
        shape_kji=(40, 64, 84),
        spacing_kji_mm=(7.0, 5.0, 5.0),
        center_mm=(0.0, 4.0, 60.0),
        missing=(),
        arms="up",
        rotation_deg=0.0,
        noise_hu=10.0,
    )
    phantom = make_thorax(spec)
    return Volume(phantom.geometry, phantom.hu, "CT", "1.2.3", units="HU")


def _training_data(product: Product) -> str:
    counts = product.counts
    return (
        f"{counts.get('train', 0)} cases trained it, {counts.get('validation', 0)} chose and calibrated it, "
        f"{counts.get('test', 0)} tested it."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
