"""Does a model still answer its reference input as its maker saw it?"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.bundles.bundle import Bundle
from core.compute.inference.gate import lowest_dice
from core.compute.inference.loaded import ModelCache
from core.compute.inference.reference import ReferenceCase, read_reference
from core.compute.inference.run import run_bundle
from core.domain.progress import CancelToken, Progress, no_progress

REQUIRED_AGREEMENT = 0.999
REQUIRED_DICE = 0.99
PROBABILITY_TOLERANCE = 0.02


@dataclass(frozen=True)
class SelfTestReport:
    """``agreement``: share of equal labels, or 1 - the largest difference of a probability (0…1)."""

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
    output = run_bundle(bundle, case.volume, device=device, progress=progress, cancel=cancel, cache=cache)
    if output.labels is not None:
        agreement, passed = _compare_labels(case, output.labels)
        required = REQUIRED_AGREEMENT
        message = f"{agreement:.3%} of the voxels carry the expected label."
    else:
        answered = {item.label: item.probability for item in output.classes}
        order = [label.name for label in sorted(bundle.manifest.labels, key=lambda label: label.value)]
        agreement = _compare_classes(case, np.array([answered[name] for name in order]))
        required = 1.0 - PROBABILITY_TOLERANCE
        passed = agreement >= required
        message = f"Probabilities differ by at most {1.0 - agreement:.4f} from the expected ones."
    seconds = time.perf_counter() - started
    return SelfTestReport(
        bundle.id, passed, agreement, required, output.device, output.backend, seconds, message
    )


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
