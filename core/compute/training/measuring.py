"""The finished model on the test part, measured with intervals and held against gates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import Calibration
from core.compute.evaluation.classes import ClassMetrics, evaluate_classes
from core.compute.evaluation.classification import softmax
from core.compute.evaluation.structures import CaseScore, StructureMetrics, aggregate, score_case
from core.compute.inference.loaded import ModelCache
from core.compute.inference.run import run_bundle
from core.compute.training.cards import Metric
from core.config.atomic import atomic_write_text
from core.domain.progress import CancelToken, Progress
from core.domain.volume import Volume
from core.recipes.cases import Case
from core.recipes.gates import Measured, all_passed, judge, read_gates, shipped_gates
from core.recipes.schema import Recipe

METRICS_FILE = "metrics.json"


class Content(Protocol):
    """What ``core.recipes.reading.read_case`` returns, as far as it matters here."""

    @property
    def volumes(self) -> Mapping[str, Volume]:
        """Volumes by channel."""

    @property
    def labels(self) -> NDArray[np.uint8] | None:
        """Label map on the grid of the first channel."""


@dataclass(frozen=True, eq=False)
class Result:
    """Metrics by name, by class, everything for JSON, and how the gates judged (None: no gates asked for)."""

    metrics: dict[str, Measured]
    per_class: dict[str, dict[str, Measured]]
    details: dict[str, Any]
    verdicts: list[dict[str, Any]]
    passed: bool | None

    def document(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return {
            "metrics": {name: _finite(value.as_dict()) for name, value in self.metrics.items()},
            "per_class": {
                label: {name: _finite(value.as_dict()) for name, value in found.items()}
                for label, found in self.per_class.items()
            },
            "gates": _finite(self.verdicts),
            "passed": self.passed,
            "details": _finite(self.details),
        }

    def for_card(self) -> dict[str, Metric]:
        """Return the numbers for a bundle's card: [value, low, high]."""
        out: dict[str, Metric] = {}
        for name, value in self.metrics.items():
            if np.isfinite([value.value, value.low, value.high]).all():
                out[f"test_{name}"] = [round(float(n), 4) for n in (value.value, value.low, value.high)]
        for label, found in self.per_class.items():
            for name in ("recall", "dice"):
                value_of = found.get(name)
                if value_of is not None and np.isfinite([value_of.value, value_of.low, value_of.high]).all():
                    numbers = (value_of.value, value_of.low, value_of.high)
                    out[f"test_{name}_{label}"] = [round(float(n), 4) for n in numbers]
        return out


def judged(
    recipe: Recipe, measured: ClassMetrics | StructureMetrics, more: Mapping[str, Measured] | None = None
) -> Result:
    """Hold measured values against the recipe's gates."""
    metrics = {**measured.metrics, **(more or {})}
    verdicts: list[dict[str, Any]] = []
    passed = None
    if recipe.evaluation.gates is not None:
        wanted = recipe.evaluation.gates
        path = Path(wanted) if wanted.endswith((".yaml", ".yml")) else shipped_gates(wanted)
        found = judge(read_gates(path), metrics, measured.per_class)
        verdicts, passed = [verdict.as_dict() for verdict in found], all_passed(found)
    return Result(metrics, measured.per_class, measured.as_dict(), verdicts, passed)


def measure_classes(
    recipe: Recipe,
    logits: NDArray[np.float64],
    labels: NDArray[np.int64],
    patients: Sequence[str],
    calibration: Calibration,
) -> Result:
    """Measure calibrated probabilities; also how often prediction sets hold the truth and how large they are."""
    names = [label.name for label in sorted(recipe.bundle.labels, key=lambda label: label.value)]
    probabilities = softmax(logits, calibration.temperature)
    measured = evaluate_classes(
        probabilities,
        labels,
        names,
        patients=np.array(patients),
        resamples=recipe.evaluation.bootstrap,
        seed=recipe.seed,
    )
    more: dict[str, Measured] = {}
    if calibration.conformal is not None:
        sets = 1.0 - probabilities <= calibration.conformal.quantile
        sets[np.arange(len(labels)), probabilities.argmax(axis=1)] = True
        more["prediction_set_coverage"] = _plain_mean(sets[np.arange(len(labels)), labels])
        more["prediction_set_size"] = _plain_mean(sets.sum(axis=1))
    return judged(recipe, measured, more)


def measure_structures(
    recipe: Recipe,
    bundle: Bundle,
    cases: Iterable[tuple[Case, Content]],
    count: int,
    progress: Progress,
    cancel: CancelToken | None,
) -> Result:
    """Run the bundle as a reader would and score its labels on the grid of each case's series."""
    structures = {label.name: label.value for label in recipe.bundle.labels}
    cache, rows, patients = ModelCache(), [], {}
    for index, (case, content) in enumerate(cases):
        if cancel is not None:
            cancel.raise_if_cancelled()
        rows += score_volume(bundle, case, content, structures, recipe, cache)
        patients[case.id] = case.patient
        progress("Evaluating", (index + 1) / max(count, 1))
    measured = aggregate(
        rows,
        tuple(structures),
        patients=patients,
        tolerance_mm=recipe.evaluation.surface_tolerance_mm,
        resamples=recipe.evaluation.bootstrap,
        seed=recipe.seed,
    )
    return judged(recipe, measured)


def score_volume(
    bundle: Bundle,
    case: Case,
    content: Content,
    structures: Mapping[str, int],
    recipe: Recipe,
    cache: ModelCache,
) -> list[CaseScore]:
    """Return a row per structure of one case."""
    volume = next(iter(content.volumes.values()))
    answer = run_bundle(bundle, volume, cache=cache, backend="exact").labels
    assert answer is not None
    assert content.labels is not None
    return score_case(
        answer,
        content.labels,
        structures,
        volume.geometry.spacing_kji_mm,
        case=case.id,
        tolerance_mm=recipe.evaluation.surface_tolerance_mm,
    )


def write_result(result: Result, out: Path) -> None:
    """Write ``evaluation/metrics.json`` and, beside the run, its numbers as ``metrics.json``."""
    document = result.document()
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write_text(out / "evaluation" / METRICS_FILE, text)
    short = {name: value["value"] for name, value in document["metrics"].items()}
    atomic_write_text(out / METRICS_FILE, json.dumps(short, indent=2, allow_nan=False) + "\n")


def _plain_mean(values: NDArray) -> Measured:
    mean = float(np.mean(values)) if len(values) else float("nan")
    return Measured(mean, mean, mean, len(values))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
