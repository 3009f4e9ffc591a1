"""The finished model on the test part: run as a reader would, measured with intervals, held against gates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.bundles.bundle import Bundle
from core.compute.evaluation.assess import Evaluation
from core.compute.evaluation.evaluation_set import evaluation_set_of
from core.compute.evaluation.report import write_report
from core.compute.evaluation.run import OpenedModel, evaluate_models, open_gates
from core.compute.evaluation.structures import aggregate, score_case
from core.compute.inference.sliding import full_logits, sliding_slabs
from core.compute.training.cards import Metric
from core.compute.training.validating import NetworkBackend, engine_for
from core.config.atomic import atomic_write_text
from core.domain.progress import CancelToken, Progress
from core.recipes.cases import Case
from core.recipes.gates import Measured
from core.recipes.schema import Recipe

METRICS_FILE = "metrics.json"
_OF_CLASS = ("recall", "dice", "mae", "bias", "r2")


def runs_in_application(recipe: Recipe) -> bool:
    """Whether the application's own inference runs the bundle: it takes several contrasts of volumes only."""
    return len(recipe.data.channels) == 1 or recipe.spatial_dims == 3


def evaluate_bundle(
    recipe: Recipe,
    bundle: Bundle,
    cases: Sequence[Case],
    out: Path,
    progress: Progress,
    cancel: CancelToken | None,
) -> Evaluation:
    """Evaluate with the engine that computes exactly and write ``evaluation/`` with its reports."""
    evaluation = evaluate_models(
        OpenedModel(bundle, out),
        evaluation_set_of(cases, recipe.data, bundle.manifest),
        gates=open_gates(recipe.evaluation.gates),
        tolerance_mm=recipe.evaluation.surface_tolerance_mm,
        resamples=recipe.evaluation.bootstrap,
        seed=recipe.seed,
        device="cpu",
        backend="exact",
        progress=progress,
        cancel=cancel,
    )
    write_report(evaluation, out / "evaluation")
    write_short(evaluation.document()["metrics"], out)
    return evaluation


def measure_contrasts(
    recipe: Recipe, backend: NetworkBackend, batches: Iterable[dict[str, Any]], patients: dict[str, str]
) -> dict[str, Measured]:
    """Score a segmentation of several contrasts, which the application doesn't run, on the model's grid."""
    structures = {label.name: label.value for label in recipe.bundle.labels}
    rows = []
    for batch in batches:
        for number, case in enumerate(batch["case"]):
            image, truth = batch["image"][number], batch["target"][number]
            volume = image[:, None] if image.ndim == 3 else image
            engine, settings = engine_for(backend, recipe, volume, backend.divisor)
            slabs = sliding_slabs(volume, engine, settings)
            answer = full_logits(slabs).argmax(dim=0).numpy().astype(np.uint8)
            rows += score_case(
                answer,
                truth.numpy().astype(np.uint8).reshape(answer.shape),
                structures,
                batch["spacing_mm"][number],
                case=case,
                tolerance_mm=recipe.evaluation.surface_tolerance_mm,
            )
    measured = aggregate(
        rows,
        tuple(structures),
        patients=patients,
        tolerance_mm=recipe.evaluation.surface_tolerance_mm,
        resamples=recipe.evaluation.bootstrap,
        seed=recipe.seed,
    )
    per_class = {f"dice_{name}": found["dice"] for name, found in measured.per_class.items()}
    return {**measured.metrics, **per_class}


def card_numbers(evaluation: Evaluation) -> dict[str, Metric]:
    """Return the numbers for a bundle's card: [value, low, high]."""
    out = numbers_of(evaluation.metrics)
    for label, found in evaluation.per_class.items():
        chosen = {f"{name}_{label}": found[name] for name in _OF_CLASS if name in found}
        out |= numbers_of(chosen)
    return out


def numbers_of(metrics: dict[str, Measured]) -> dict[str, Metric]:
    """Return what is finite, under ``test_…``."""
    out: dict[str, Metric] = {}
    for name, found in metrics.items():
        numbers = [found.value, found.bound("lower"), found.bound("upper")]
        if np.isfinite(numbers).all():
            out[f"test_{name}"] = [round(float(number), 4) for number in numbers]
    return out


def write_short(metrics: dict[str, Any], out: Path) -> None:
    """Write the values alone beside the run, as ``metrics.json``."""
    short = {name: value for name, value in metrics.items() if name != "ci95"}
    atomic_write_text(out / METRICS_FILE, json.dumps(short, indent=2, allow_nan=False) + "\n")
