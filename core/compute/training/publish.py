"""From trained weights to a bundle: manifest, reference case, card, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

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
    Measurement,
    Network,
    TextInput,
    Weights,
)
from core.bundles.writer import Reference, write_bundle
from core.compute.inference.contrasts import Given, named_contrasts, on_first_grid
from core.compute.inference.loaded import ModelCache
from core.compute.inference.run import run_bundle
from core.compute.training.cards import Metric, card_text, licence_text
from core.compute.training.export import ONNX_FILE, SAFETENSORS_FILE, onnx_of, safetensors_of
from core.compute.training.objective import network_params
from core.domain.errors import BugError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.recipes.bundle_schema import BundleLabel
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
    vocabulary : bytes, optional
        ``vocab.txt`` of the reports, for a network that takes a text.
    """

    recipe: Recipe
    network: nn.Module
    calibration: Calibration
    counts: Mapping[str, int]
    run_id: str
    vocabulary: bytes | None = None


def manifest_of(product: Product, metrics: Mapping[str, Metric]) -> Manifest:
    """Return the manifest that a recipe and its outcome make."""
    recipe, config = product.recipe, product.recipe.bundle
    parts = parts_of(product.network)
    whole = recipe.task == "classification"
    divisor = config.inference.divisor if whole else max(config.inference.divisor, parts.divisor)
    channels = recipe.data.channels
    text = recipe.data.text
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
        weights=_weights(recipe),
        labels=_labels(recipe.structures if recipe.task == "multitask" else config.labels),
        classes=_labels(recipe.classes) if recipe.task == "multitask" else (),
        measurements=tuple(
            Measurement.model_validate_json(item.model_dump_json()) for item in recipe.measurements
        ),
        inputs=channels if len(channels) > 1 else (),
        missing_inputs="zeros" if len(channels) > 1 and recipe.data.missing == "zeros" else "refuse",
        text=None if text is None else TextInput(max_tokens=text.max_tokens, lowercase=text.lowercase),
        preprocessing=recipe.preprocessing,
        inference=config.inference.model_copy(update={"divisor": min(divisor, 256)}),
        postprocessing=config.postprocessing,
        requirements=config.requirements.model_copy(
            update={"kind": "volume" if recipe.spatial_dims == 3 else "image"}
        ),
        calibration=product.calibration,
        findings=Findings(per="segment" if recipe.structures else "class" if recipe.classes else "none"),
        explain=Explain(layers=tuple(ExplainLayer(name=name) for name in parts.cam_layers)),
    )


def weight_files(product: Product) -> dict[str, bytes]:
    """Return the weights as the recipe wants them, ONNX held against the network, and the vocabulary.

    Raises
    ------
    BugError
        ``training.export``.
    """
    recipe = product.recipe
    files = {SAFETENSORS_FILE: safetensors_of(product.network, recipe.bundle.weights.encoding)}
    if recipe.data.text is not None:
        if product.vocabulary is None:
            raise BugError("training.export", "The vocabulary of the reports is missing.", "Report this.")
        files[TextInput().vocabulary_file] = product.vocabulary
    if not recipe.bundle.weights.onnx:
        return files
    size = _example_size(recipe, parts_of(product.network).divisor)
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, network_params(recipe)["in_channels"], *size, generator=generator)
    fixed = recipe.preprocessing.resize_hw is not None and recipe.task != "segmentation"
    spatial = () if fixed else tuple(range(2, 2 + len(size)))
    text = recipe.data.text
    ids = None if text is None else torch.randint(1, 3, (2, text.max_tokens), generator=generator)
    return files | {ONNX_FILE: onnx_of(product.network, example, dynamic=(0, *spatial), text=ids)}


def _weights(recipe: Recipe) -> tuple[Weights, ...]:
    wanted = recipe.bundle.weights
    encoding: Literal["float", "int8"] = "int8" if wanted.encoding == "int8" else "float"
    stored = Weights(file=SAFETENSORS_FILE, format="safetensors", encoding=encoding)
    return (stored, Weights(file=ONNX_FILE, format="onnx")) if wanted.onnx else (stored,)


def _labels(labels: tuple[BundleLabel, ...]) -> tuple[Label, ...]:
    return tuple(Label.model_validate_json(label.model_dump_json()) for label in labels)


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
    reference: Given | None,
    private_key_file: Path | None = None,
) -> Bundle:
    """Write the bundle; with a reference (a volume, or one per contrast) also the answer that its self-test expects."""
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


def answered(bundle: Bundle, given: Given, text: str | None = None) -> Reference:
    """Return a reference case with the bundle's own exact answer; contrasts are stored on the first one's grid."""
    manifest = bundle.manifest
    volumes = _on_one_grid(named_contrasts(manifest, given).volumes)
    one = volumes if manifest.inputs else next(iter(volumes.values()))
    answer = run_bundle(bundle, one, text=text, cache=ModelCache(), device="cpu", backend="exact")
    probabilities = None
    if answer.classes:
        by_name = {item.label: item.probability for item in answer.classes}
        probabilities = np.array([by_name[label.name] for label in manifest.image_classes], dtype=np.float32)
    values = np.array([item.value for item in answer.measurements], dtype=np.float32)
    contrast, volume = next(iter(volumes.items()))
    return Reference(
        voxels=volume.voxels,
        lps_from_ijk=volume.geometry.lps_from_ijk,
        modality=volume.modality,
        units=volume.units,
        labels=answer.labels,
        probabilities=probabilities,
        measurements=values if len(values) else None,
        contrast=contrast,
        others={name: other.voxels for name, other in volumes.items() if name != contrast},
        text=text or "",
        extra={"inverted": "true"} if volume.inverted else {},
    )


def _on_one_grid(volumes: dict[str, Volume]) -> dict[str, Volume]:
    """Bring contrasts onto the first one's grid; whole numbers stay whole numbers, so that they weigh little."""
    first = next(iter(volumes.values()))
    moved: dict[str, Volume] = {}
    for name, volume in volumes.items():
        made = on_first_grid(volume, first)
        if made is not volume and volume.voxels.dtype.kind in "iu":
            made = replace(made, voxels=np.rint(made.voxels).astype(volume.voxels.dtype))
        moved[name] = made
    return moved


def reference_crop(volume: Volume, labels: NDArray[np.uint8] | None, *, contrasts: int = 1) -> Volume:
    """Return a part of a volume that is small enough for a bundle, around the labelled voxels.

    Identifiers, dates and windows of the series are left behind. ``contrasts`` is how many such volumes the bundle
    will hold.
    """
    shape = np.array(volume.geometry.shape_kji)
    size = shape.copy()
    while int(np.prod(size)) > _REFERENCE_VOXELS // contrasts:
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


def reference_crops(volumes: Mapping[str, Volume], labels: NDArray[np.uint8] | None) -> dict[str, Volume]:
    """Return the same part of several contrasts, all on the first one's grid."""
    return {
        name: reference_crop(volume, labels, contrasts=len(volumes))
        for name, volume in _on_one_grid(dict(volumes)).items()
    }


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
