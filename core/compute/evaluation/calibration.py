"""How far probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.classification import fit_temperature, softmax

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy in equal bins of confidence.

    ``confidence`` and ``accuracy`` are means per bin (NaN in an empty one), ``count`` the cases in it.
    """

    edges: Values
    confidence: Values
    accuracy: Values
    count: NDArray[np.int64]


def bins_of(confidence: Values, bins: int) -> NDArray[np.int64]:
    """Return the bin of each confidence (0…1), as ``expected_calibration_error`` bins them."""
    out: NDArray[np.int64] = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return out


def reliability(probabilities: Values, labels: NDArray[np.int64], bins: int = 15) -> Reliability:
    """Return the reliability curve of ``(N, C)`` probabilities. Source: Naeini et al., AAAI 2015."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = bins_of(confidence, bins)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(place, confidence, minlength=bins) / count
        exact = np.bincount(place, right, minlength=bins) / count
    return Reliability(np.linspace(0, 1, bins + 1), mean, exact, count)


def weighted_ece(confidence: Values, right: NDArray[np.bool_], weights: Values, bins: int = 15) -> Values:
    """Return the expected calibration error for each row of ``(draws, n)`` weights: ``(draws,)``."""
    member = np.zeros((len(confidence), bins))
    member[np.arange(len(confidence)), bins_of(confidence, bins)] = 1.0
    gap = np.abs(weights @ (member * (right.astype(np.float64) - confidence)[:, None]))
    out: Values = gap.sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-300)
    return out


def tempered(probabilities: Values, temperature: float) -> Values:
    """Return ``(N, C)`` probabilities as if their logits had been divided by a temperature; keeps the order."""
    return softmax(np.log(np.maximum(probabilities, 1e-12)), temperature)


def best_temperature(probabilities: Values, labels: NDArray[np.int64]) -> float:
    """Return the temperature that would calibrate the probabilities best on these cases.

    1 is calibrated, above 1 the model is too sure, below 1 not sure enough. Source: C. Guo et al., ICML 2017.
    """
    return fit_temperature(np.log(np.maximum(probabilities, 1e-12)), labels)
