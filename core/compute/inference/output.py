"""What a run of a model returns."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
import psutil
from numpy.typing import NDArray

from core.domain.result import ClassProbability, MeasuredValue


@dataclass(frozen=True, eq=False)
class InferenceOutput:
    """Labels, class probabilities, measurements, and how they came about.

    Attributes
    ----------
    labels : numpy.ndarray or None
        ``(K, J, I)`` uint8 on the grid of the first volume that was given; None for models without structures.
    classes : tuple of ClassProbability
        Calibrated, most probable first.
    prediction_set : tuple of str
        Classes that can't be excluded at the manifest's coverage; empty without calibration.
    uncertainty : float or None
        Segmentation: 1 - mean probability of the chosen label over the foreground on the model grid.
        Classification: entropy over its maximum. Both 0…1.
    out_of_distribution : float or None
        Share (0…1) of known images that looked less unusual.
    device, backend : str
        Where and with which engine it ran.
    fallbacks : tuple of str
        What could not be done as planned, in sentences.
    seconds : dict
        load, choose_engine (0 when the choice is remembered), preprocess, infer, postprocess, total.
    peak_rss_mb : float
        Largest resident memory of this process so far.
    measurements : tuple of MeasuredValue
        Numbers that a model of several tasks estimates, in their units.
    missing_inputs : tuple of str
        Contrasts that the model ran without.
    """

    labels: NDArray[np.uint8] | None
    classes: tuple[ClassProbability, ...]
    prediction_set: tuple[str, ...]
    uncertainty: float | None
    out_of_distribution: float | None
    device: str
    backend: str
    fallbacks: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: float = 0.0
    measurements: tuple[MeasuredValue, ...] = ()
    missing_inputs: tuple[str, ...] = ()


def peak_rss_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10⁶ bytes)."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
