"""Which part of a volume is looked at when a segment is explained."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.manifest import Inference
from core.compute.inference.grids import ModelGrid
from core.compute.inference.windows import Triple, plan_windows
from core.domain.geometry import apply_reorientation

_WHOLE_IMAGE_WINDOW = (96, 96, 96)
_OVERLAP = 0.25


def region_on_model_grid(labels: NDArray, value: int, grid: ModelGrid) -> NDArray[np.bool_]:
    """Nearest-neighbour sample of ``labels == value`` (series' grid) on the model grid, ``(K, J, I)``
    bool.
    """
    region = apply_reorientation(labels, grid.permutation, grid.flips) == value
    for axis in range(3):
        index = np.rint(grid.series_index(axis)).astype(np.int64)
        valid = (index >= 0) & (index < region.shape[axis])
        region = np.take(region, np.clip(index, 0, region.shape[axis] - 1), axis=axis)
        shape = [-1 if dim == axis else 1 for dim in range(3)]
        region = region & valid.reshape(shape)
    return np.asarray(region, dtype=bool)


def window_size(settings: Inference, shape: Triple) -> Triple:
    """Size of the windows in which gradients are taken: the manifest's, or 96 voxels for whole-image
    networks.
    """
    if settings.patch_kji is not None:
        return settings.patch_kji
    divisor = settings.divisor
    k, j, i = (min(w, -(-n // divisor) * divisor) for w, n in zip(_WHOLE_IMAGE_WINDOW, shape, strict=True))
    return k, j, i


def whole_size(divisor: int, shape: Triple) -> Triple:
    """Size of the one window that holds the whole image."""
    k, j, i = (-(-n // divisor) * divisor for n in shape)
    return k, j, i


def windows_on(region: NDArray[np.bool_], size: Triple) -> list[Triple]:
    """Starts of the windows (of the padded image) that hold voxels of ``region``, the fullest first."""
    plan = plan_windows(region.shape, size, _OVERLAP)
    padded = pad_to(torch.from_numpy(region)[None], size, False)[0].numpy()
    counts = {}
    for start in plan.starts:
        box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        counts[start] = int(padded[box].sum())
    return sorted((start for start in plan.starts if counts[start]), key=lambda start: -counts[start])


def window_around(region: NDArray[np.bool_], size: Triple) -> Triple:
    """Start of the window (of the padded image) in the middle of ``region``; of the image when it is
    empty.
    """
    padded = [max(n, w) for n, w in zip(region.shape, size, strict=True)]
    before = [(p - n) // 2 for p, n in zip(padded, region.shape, strict=True)]
    found = np.argwhere(region)
    middle = found.mean(axis=0) if len(found) else (np.asarray(region.shape) - 1) / 2
    k, j, i = (
        int(np.clip(round(m + b - w / 2), 0, p - w))
        for m, b, w, p in zip(middle, before, size, padded, strict=True)
    )
    return k, j, i


def pad_to(image: torch.Tensor, size: Triple, value: float | bool) -> torch.Tensor:
    """Pad ``(C, K, J, I)`` evenly to at least ``size``, as the sliding window does."""
    margins: list[int] = []
    for axis in (2, 1, 0):
        missing = max(size[axis] - image.shape[axis + 1], 0)
        margins += [missing // 2, missing - missing // 2]
    return torch.nn.functional.pad(image, margins, value=value) if any(margins) else image


def cut(image: torch.Tensor, start: Triple, size: Triple) -> torch.Tensor:
    """Return the window ``(…, k, j, i)`` of a padded image; a view."""
    (a, b, c), (k, j, i) = start, size
    return image[..., a : a + k, b : b + j, c : c + i]
