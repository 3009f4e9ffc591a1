"""The thorax network's bundle: manifest, reference case, evaluation on phantoms never trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import (
    Code,
    Explain,
    ExplainLayer,
    Findings,
    Inference,
    Label,
    LabelRule,
    Manifest,
    Network,
    Postprocessing,
    Preprocessing,
    Requirements,
    Scale,
    Weights,
)
from core.bundles.writer import Reference, write_bundle
from core.compute.evaluation.segmentation import dice_over_cases
from core.compute.inference.loaded import ModelCache
from core.compute.inference.run import run_bundle
from core.compute.training.cards import card_text, licence_text
from core.compute.training.export import ONNX_FILE, SAFETENSORS_FILE
from core.compute.training.phantom_data import load_phantom
from core.compute.training.recipe import PhantomData, Recipe
from core.domain.geometry import VolumeGeometry
from core.domain.progress import Progress
from core.domain.volume import Volume
from core.phantom.labels import AIRWAY, BODY, BONES, HEART, LEFT_LUNG, LIVER, RIGHT_LUNG, THORAX_SEGMENTS
from core.phantom.population import random_spec
from core.phantom.thorax import make_thorax

VERSION = "1.0.0"
_REFERENCE_SEED = 900_001
_MIN_VOXELS = 100


def thorax_manifest(
    recipe: Recipe, settings: PhantomData, metrics: Mapping[str, float | list[float] | str]
) -> Manifest:
    """Return the manifest of the thorax network."""
    rules = [LabelRule(value=v, fill_holes=True, largest_component=True) for v in (HEART, LIVER)]
    rules += [LabelRule(value=AIRWAY, min_component_ml=1.0)]
    rules += [LabelRule(value=v, fill_holes=True, min_component_ml=5.0) for v in (LEFT_LUNG, RIGHT_LUNG)]
    rules += [LabelRule(value=BONES, min_component_ml=0.2)]
    # What the rules above took away inside the body is body again: the last rule fills it.
    rules += [LabelRule(value=BODY, fill_holes=True, min_component_ml=50.0)]
    return Manifest(
        id="thorax-ct",
        version=VERSION,
        task="segmentation",
        title="Thorax on CT",
        description="Left and right lung, trachea and main bronchi, heart, liver, bones and the remaining body "
        "on CT of the chest, abdomen or both.",
        intended_use="Research and review support, not for primary diagnosis. Orientation, rough volumes, masks "
        "for further processing; each result is to be looked at.",
        not_intended_for="Primary diagnosis, treatment planning, anatomy outside neck to upper thigh, MR, PET, "
        "children under about ten years.",
        licence="MIT",
        source="Trained by this repository: overread train thorax-ct",
        training_data=f"{settings.count} procedural phantoms made by core.phantom (seeds {settings.first_seed} to "
        f"{settings.first_seed + settings.count - 1}); no patient was in the training data.",
        metrics=dict(metrics),
        network=Network(name=recipe.network.name, params=dict(recipe.network.params)),
        weights=(
            Weights(file=SAFETENSORS_FILE, format="safetensors"),
            Weights(file=ONNX_FILE, format="onnx"),
        ),
        labels=tuple(
            Label(
                value=s.value,
                name=s.label,
                code=Code(**s.code.as_dict()),
                category=Code(**s.category.as_dict()),
                color_rgb=s.color_rgb,
            )
            for s in THORAX_SEGMENTS
        ),
        preprocessing=Preprocessing(
            orientation="LPS",
            spacing_ijk_mm=(settings.spacing_mm,) * 3,
            antialias=True,
            intensity=(
                Scale(
                    op="scale", from_low=settings.low_hu, from_high=settings.high_hu, to_low=-1.0, to_high=1.0
                ),
            ),
        ),
        inference=Inference(
            patch_kji=settings.patch_kji,
            overlap=0.5,
            mode="gaussian",
            sigma_scale=0.2,
            pad_value=-1.0,
            divisor=2 ** (len(recipe.network.params["channels"]) - 1),
        ),
        postprocessing=Postprocessing(rules=tuple(rules)),
        requirements=Requirements(
            modalities=("CT",), kind="volume", min_slices=4, min_extent_mm=20.0, max_spacing_mm=10.0
        ),
        findings=Findings(per="segment"),
        explain=Explain(
            layers=(
                ExplainLayer(name="decoder.1", title="Second decoder stage (6 mm)"),
                ExplainLayer(name="encoder.4", title="Deepest stage (48 mm)"),
                ExplainLayer(name="decoder.0", title="Last decoder stage (3 mm)"),
            )
        ),
    )


def publish_segmentation(
    recipe: Recipe,
    settings: PhantomData,
    files: Mapping[str, bytes],
    cache: Path,
    holdout: range,
    folder: Path,
    private_key_file: Path | None,
    reference_metrics: Mapping[str, list[float]] | None,
    progress: Progress,
) -> tuple[Path, dict[str, float | list[float] | str]]:
    """Write the bundle, evaluate it as it will be used, and write it again with the numbers in its card."""
    volume, _ = _reference_volume()

    def write(metrics: Mapping[str, float | list[float] | str], labels: NDArray[np.uint8] | None) -> Bundle:
        return write_bundle(
            folder,
            thorax_manifest(recipe, settings, metrics),
            files=files,
            card=card_text("thorax-ct", metrics),
            licence_text=licence_text("thorax-ct"),
            reference=None
            if labels is None
            else Reference(volume.voxels, volume.geometry.lps_from_ijk, "CT", "HU", labels=labels),
            private_key_file=private_key_file,
            overwrite=True,
        )

    bundle = write({}, None)
    cases = []
    model = ModelCache()
    for index, seed in enumerate(holdout):
        hu, truth = load_phantom(cache, seed, settings.spacing_mm)
        output = run_bundle(bundle, phantom_volume(hu, settings.spacing_mm), cache=model, backend="exact")
        assert output.labels is not None
        cases.append((output.labels, truth))
        progress("Evaluating", (index + 1) / len(holdout))
    names = [s.label for s in THORAX_SEGMENTS]
    estimates = dice_over_cases(cases, names, min_truth_voxels=_MIN_VOXELS)
    metrics: dict[str, float | list[float] | str] = {"holdout_phantoms": float(len(cases))}
    for name, estimate in estimates.items():
        if np.isfinite(estimate.value):
            metrics[f"dice_phantoms_{name}"] = estimate.as_list()
    for name, values in (reference_metrics or {}).items():
        metrics[f"dice_real_case_{name}"] = list(values)
    answer = run_bundle(bundle, volume, backend="exact").labels
    return Path(str(write(metrics, answer).path)), metrics


def phantom_volume(hu: NDArray[np.int16], spacing_mm: float) -> Volume:
    """Return a phantom's voxels as an isotropic CT volume along LPS."""
    geometry = VolumeGeometry.from_axes(hu.shape, (spacing_mm,) * 3, np.eye(3), (0.0, 0.0, 0.0))
    return Volume(geometry, np.ascontiguousarray(hu), "CT", "1.2.3", units="HU")


def _reference_volume() -> tuple[Volume, NDArray[np.uint8]]:
    """Return a small, coarse phantom: whole chest, 6 mm slices, so that it weighs little."""
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
    volume = Volume(phantom.geometry, phantom.hu, "CT", "1.2.3", units="HU")
    return volume, phantom.labels
