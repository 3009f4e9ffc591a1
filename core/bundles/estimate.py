"""How long a model will take on a series, from what its engine was measured to need per window."""

from __future__ import annotations

import json
import math
from pathlib import Path

from core.bundles.bundle import Bundle
from core.bundles.manifest import Inference
from core.domain.study import SeriesSummary


def estimate_seconds(bundle: Bundle, summary: SeriesSummary, probe_folder: Path) -> float | None:
    """Return seconds, or None when the model was never measured on this machine.

    ``probe_folder`` holds the engine choices (``<sha256 of the weights, 16 digits>-….json``). The figure is
    an upper bound of the network's time: windows of air that are answered from memory are counted as the
    others.
    """
    measured = _measured(bundle, probe_folder)
    if measured is None:
        return None
    manifest = bundle.manifest
    if not manifest.is_3d:
        return measured
    if summary.shape_kji is None or summary.spacing_kji_mm is None:
        return None
    shape = _model_shape(bundle, summary)
    per_window = measured / manifest.inference.batch
    return per_window * count_windows(shape, manifest.inference)


def count_windows(shape: tuple[int, int, int], settings: Inference) -> float:
    """Return how many windows cover ``shape``; for whole-image networks, in units of the probe's 64³
    window.
    """
    if settings.patch_kji is None:
        return math.prod(shape) / 64**3
    total = 1
    for length, window in zip(shape, settings.patch_kji, strict=True):
        stride = max(int(window * (1 - settings.overlap)), 1)
        total *= math.ceil(max(length - window, 0) / stride) + 1
    return float(total)


def _model_shape(bundle: Bundle, summary: SeriesSummary) -> tuple[int, int, int]:
    """Size of the model grid; the axes' order doesn't matter for an estimate."""
    steps = bundle.manifest.preprocessing
    assert summary.shape_kji is not None and summary.spacing_kji_mm is not None
    if steps.conform is not None:
        return (steps.conform.size,) * 3
    if steps.spacing_ijk_mm is None:
        return summary.shape_kji
    new = steps.spacing_ijk_mm[::-1]
    k, j, i = (
        max(1, round(n * old / target))
        for n, old, target in zip(summary.shape_kji, summary.spacing_kji_mm, new, strict=True)
    )
    return k, j, i


def _measured(bundle: Bundle, folder: Path) -> float | None:
    files = sorted(
        folder.glob(f"{bundle.identity.sha256[:16]}-*.json"), key=lambda file: file.stat().st_mtime
    )
    for file in reversed(files):
        try:
            document = json.loads(file.read_bytes())
            return float(document["call_seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
