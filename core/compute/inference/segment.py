"""Segmentation of one volume: windows, streamed labels, clean-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from core.bundles.manifest import Inference, Manifest
from core.compute.inference.backends import Backend
from core.compute.inference.grids import ModelGrid
from core.compute.inference.postprocess import clean_labels
from core.compute.inference.prepare import PreparedVolume
from core.compute.inference.slices import SliceBackend, flat_settings
from core.compute.inference.sliding import sliding_slabs
from core.compute.inference.stream import LabelStream
from core.domain.errors import InputError
from core.domain.geometry import undo_reorientation
from core.domain.progress import CancelToken

_SHARE_OF_MEMORY = 0.85
_REDUCED_WINDOW = (128, 128, 128)


@dataclass
class SegmentationOutcome:
    """Labels ``(K, J, I)`` uint8 on the given volume's grid, uncertainty, and seconds per phase."""

    labels: NDArray[np.uint8]
    uncertainty: float | None
    seconds: dict[str, float] = field(default_factory=dict)


def segment(
    prepared: PreparedVolume,
    manifest: Manifest,
    backend: Backend,
    settings: Inference,
    *,
    cancel: CancelToken | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> SegmentationOutcome:
    """Run the network over a prepared volume and return labels on the series' grid.

    Raises
    ------
    Cancelled
        Between windows; nothing is kept.
    InputError
        ``model.output`` when the network has another number of classes than the manifest.
    """
    if not manifest.is_3d:
        backend, settings = SliceBackend(backend), flat_settings(settings, prepared.tensor.shape[1:])
    slabs = sliding_slabs(prepared.tensor, backend, settings, cancel=cancel, on_window=on_window)
    timed = _Timed(slab.logits for slab in slabs)
    started = time.perf_counter()
    labels, uncertainty = labels_of(timed, prepared.grid, manifest)
    back = time.perf_counter() - started - timed.seconds
    return SegmentationOutcome(labels, uncertainty, {"infer": timed.seconds, "postprocess": back})


def labels_of(
    logits: Iterable[torch.Tensor], grid: ModelGrid, manifest: Manifest
) -> tuple[NDArray[np.uint8], float | None]:
    """Turn logits, ``(C, n, J, I)`` each and from the first model slice to the last, into cleaned labels.

    Returns
    -------
    labels : numpy.ndarray
        ``(K, J, I)`` uint8 on the series' grid.
    uncertainty : float or None
        See ``InferenceOutput``.

    Raises
    ------
    InputError
        ``model.output`` for too few channels.
    """
    stream = LabelStream(grid)
    # The temperature of a model of several tasks is that of its classes.
    confidence = _Confidence(1.0 if manifest.task == "multitask" else manifest.calibration.temperature)
    for part in logits:
        if part.shape[0] < manifest.channels_out():
            raise _wrong_channels(manifest, part.shape[0])
        confidence.add(part)
        stream.push(part)
    labels = clean_labels(stream.finished(), manifest.postprocessing, grid.series.voxel_volume_ml)
    labels = np.ascontiguousarray(undo_reorientation(labels, grid.permutation, grid.flips))
    return labels, confidence.uncertainty()


class _Timed:
    """Passes on what an iterator yields and counts the seconds that it takes to make it."""

    def __init__(self, inner: Iterable[torch.Tensor]) -> None:
        self._inner = iter(inner)
        self.seconds = 0.0

    def __iter__(self) -> _Timed:
        return self

    def __next__(self) -> torch.Tensor:
        before = time.perf_counter()
        try:
            return next(self._inner)
        finally:
            self.seconds += time.perf_counter() - before


def fitting_settings(manifest: Manifest, shape: tuple[int, ...]) -> tuple[Inference, list[str]]:
    """Return the manifest's windows, made smaller where the memory that is free now would not do.

    Returns
    -------
    settings : Inference
        What to use.
    fallbacks : list of str
        What was changed, in sentences.
    """
    settings = manifest.inference
    per_voxel = settings.memory_bytes_per_voxel
    if per_voxel is None:
        return settings, []
    free = psutil.virtual_memory().available * _SHARE_OF_MEMORY
    notes: list[str] = []
    if settings.patch_kji is None:
        if float(np.prod(shape)) * per_voxel > free:
            return smaller_settings(settings)
        return settings, notes
    fitting = int(free // (float(np.prod(settings.patch_kji)) * per_voxel))
    if fitting < settings.batch:
        notes.append(f"memory is short: {max(fitting, 1)} windows at a time instead of {settings.batch}")
        settings = settings.model_copy(update={"batch": max(fitting, 1)})
    return settings, notes


def smaller_settings(settings: Inference) -> tuple[Inference, list[str]]:
    """Return the next smaller way to run, after memory ran out; the same settings when there is none."""
    if settings.batch > 1:
        return settings.model_copy(update={"batch": 1}), ["memory ran out: one window at a time"]
    if settings.patch_kji is None:
        size = "×".join(str(n) for n in _REDUCED_WINDOW)
        note = f"memory is short: windows of {size} instead of the whole image; borders may differ slightly"
        return settings.model_copy(update={"patch_kji": _REDUCED_WINDOW}), [note]
    return settings, []


class _Confidence:
    """Mean probability of the chosen label over the foreground, gathered slab by slab."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._sum = 0.0
        self._count = 0

    def add(self, logits: torch.Tensor) -> None:
        scaled = logits / self._temperature
        best, chosen = scaled.max(dim=0)
        foreground = chosen > 0
        count = int(foreground.sum())
        if count:
            picked = scaled[:, foreground]
            self._sum += float(torch.exp(best[foreground] - torch.logsumexp(picked, dim=0)).sum())
            self._count += count

    def uncertainty(self) -> float | None:
        """Return 1 - mean probability; None without foreground."""
        return None if self._count == 0 else min(max(1.0 - self._sum / self._count, 0.0), 1.0)


def _wrong_channels(manifest: Manifest, channels: int) -> InputError:
    return InputError(
        "model.output",
        f"{manifest.title} answers with {channels} channels; its labels need {manifest.channels_out()}.",
        "Ask the maker of the model for a corrected bundle.",
    )
