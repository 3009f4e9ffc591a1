"""Intensity steps of a manifest, on float32 arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.bundles.manifest import Clip, Intensity, Percentile, Round, Scale, VoiWindow, ZScore
from core.domain.errors import BugError
from core.domain.window import Window

_TINY = 1e-8
Float = NDArray[np.float32]


def apply_intensity(array: Float, steps: Sequence[Intensity], window: Window | None = None) -> Float:
    """Apply ``steps`` in order and return the result; ``array`` (any shape, float32) may be overwritten.

    ``window`` is the VOI window of the series in the units of ``array``, for the ``voi`` step.
    """
    for step in steps:
        array = _apply(array, step, window)
    return array


def _apply(array: Float, step: Intensity, window: Window | None) -> Float:
    match step:
        case Clip():
            return np.clip(array, np.float32(step.low), np.float32(step.high), out=array)
        case Scale():
            return _linear(array, step.from_low, step.from_high, step.to_low, step.to_high, step.clip)
        case Percentile():
            if step.unless_8bit and _is_8bit(array):
                return array
            low, high = _percentiles(array, step.low, step.high)
            return _linear(array, low, high, step.to_low, step.to_high, step.clip)
        case VoiWindow():
            low, high = (window.low, window.high) if window else _percentiles(array, 0.0, 100.0)
            return _linear(array, low, high, 0.0, 1.0, True)
        case ZScore():
            return _zscore(array, step)
        case Round():
            return np.floor(array, out=array) if step.mode == "floor" else np.rint(array, out=array)
    raise BugError("model.intensity", f"There is no intensity step {type(step).__name__}.", "Report this.")


def _linear(array: Float, low: float, high: float, to_low: float, to_high: float, clip: bool) -> Float:
    if high - low < _TINY:
        array.fill(to_low)
        return array
    factor = (to_high - to_low) / (high - low)
    array *= np.float32(factor)
    array += np.float32(to_low - low * factor)
    if clip:
        np.clip(array, min(to_low, to_high), max(to_low, to_high), out=array)
    return array


def _is_8bit(array: Float) -> bool:
    return bool(array.min() >= 0 and array.max() <= 255 and (array == np.rint(array)).all())


def _percentiles(array: Float, low: float, high: float) -> tuple[float, float]:
    """Percentiles with linear interpolation; the extremes without sorting."""
    inner = [q for q in (low, high) if 0.0 < q < 100.0]
    values = dict(zip(inner, np.percentile(array, inner), strict=True)) if inner else {}
    ends = {0.0: lambda: float(array.min()), 100.0: lambda: float(array.max())}
    first, second = (ends[q]() if q in ends else float(values[q]) for q in (low, high))
    return first, second


def _zscore(array: Float, step: ZScore) -> Float:
    chosen = array[array != 0] if step.nonzero else array
    if chosen.size == 0:
        return array
    mean = float(chosen.mean(dtype=np.float64)) if step.mean is None else step.mean
    std = float(chosen.std(dtype=np.float64)) if step.std is None else step.std
    keep = (array == 0) if step.nonzero else None
    array -= np.float32(mean)
    array /= np.float32(max(std, _TINY))
    if keep is not None:
        array[keep] = 0
    return array
