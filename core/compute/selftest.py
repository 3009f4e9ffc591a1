"""Does a model still answer its reference input as its maker saw it?"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.bundles.bundle import Bundle
from core.bundles.manifest import Manifest
from core.compute.inference.gate import lowest_dice, measurement_gap
from core.compute.inference.loaded import ModelCache
from core.compute.inference.output import InferenceOutput
from core.compute.inference.reference import ReferenceCase, read_reference
from core.compute.inference.run import run_bundle
from core.domain.progress import CancelToken, Progress, no_progress

REQUIRED_AGREEMENT = 0.999
REQUIRED_DICE = 0.99
PROBABILITY_TOLERANCE = 0.02
MEASUREMENT_TOLERANCE = 0.05


@dataclass(frozen=True)
class SelfTestReport:
    """``agreement``: share of equal labels, or 1 - the largest difference of a probability, or of a measurement in
    units of its spread (0…1). A model of several tasks reports the one that fails, else the first.
    """

    model_id: str
    passed: bool
    agreement: float
    required: float
    device: str
    backend: str
    seconds: float
    message: str

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)


def run_selftest(
    bundle: Bundle,
    device: str = "auto",
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    cache: ModelCache | None = None,
) -> SelfTestReport:
    """Run the bundle on its reference input, with the engine that a real run would use.

    Raises
    ------
    InputError
        ``bundle.reference`` when the bundle carries none; otherwise as ``run_bundle``.
    """
    case = read_reference(bundle)
    started = time.perf_counter()
    output = run_bundle(
        bundle, case.given, text=case.text, device=device, progress=progress, cancel=cancel, cache=cache
    )
    checks = _checks(case, output, bundle.manifest)
    worst = next((check for check in checks if not check.passed), checks[0])
    return SelfTestReport(
        bundle.id,
        worst.passed,
        worst.agreement,
        worst.required,
        output.device,
        output.backend,
        time.perf_counter() - started,
        " ".join(check.message for check in checks),
    )


@dataclass(frozen=True)
class _Check:
    passed: bool
    agreement: float
    required: float
    message: str


def _checks(case: ReferenceCase, output: InferenceOutput, manifest: Manifest) -> list[_Check]:
    """Compare every part of the answer with what is expected; a part without an expectation fails."""
    checks: list[_Check] = []
    if output.labels is not None:
        agreement, passed = _compare_labels(case, output.labels)
        message = f"{agreement:.3%} of the voxels carry the expected label."
        checks.append(_Check(passed, agreement, REQUIRED_AGREEMENT, message))
    if output.classes:
        answered = {item.label: item.probability for item in output.classes}
        agreement = _compare_classes(
            case, np.array([answered[label.name] for label in manifest.image_classes])
        )
        required = 1.0 - PROBABILITY_TOLERANCE
        message = f"Probabilities differ by at most {1.0 - agreement:.4f} from the expected ones."
        checks.append(_Check(agreement >= required, agreement, required, message))
    if output.measurements:
        agreement = _compare_measurements(
            case, np.array([item.value for item in output.measurements]), manifest
        )
        required = 1.0 - MEASUREMENT_TOLERANCE
        message = (
            f"Measurements differ by at most {1.0 - agreement:.4f} of their spread from the expected ones."
        )
        checks.append(_Check(agreement >= required, agreement, required, message))
    return checks


def _compare_labels(case: ReferenceCase, labels: np.ndarray) -> tuple[float, bool]:
    expected = case.labels
    if expected is None or expected.shape != labels.shape:
        return 0.0, False
    agreement = float((expected == labels).mean())
    return agreement, agreement >= REQUIRED_AGREEMENT and lowest_dice(expected, labels) >= REQUIRED_DICE


def _compare_classes(case: ReferenceCase, probabilities: np.ndarray) -> float:
    expected = case.probabilities
    if expected is None or expected.shape != probabilities.shape:
        return 0.0
    return 1.0 - float(np.abs(expected - probabilities).max())


def _compare_measurements(case: ReferenceCase, values: np.ndarray, manifest: Manifest) -> float:
    expected = case.measurements
    if expected is None or expected.shape != values.shape:
        return 0.0
    return max(0.0, 1.0 - measurement_gap(expected, values, manifest))
