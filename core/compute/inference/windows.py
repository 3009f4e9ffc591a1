"""Where sliding windows lie, and how much each of their voxels counts.

Source: MONAI 1.5 ``sliding_window_inference`` (placement: fixed stride, the last window moved back to the
edge; weights: a Gaussian of ``sigma_scale`` × size, not below 1e-3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class WindowPlan:
    """Windows on an image that was padded to at least one window.

    Attributes
    ----------
    padded : tuple of int
        Size (k, j, i) after padding.
    pad_before : tuple of int
        Voxels added before the image along (k, j, i).
    size : tuple of int
        Size of each window.
    starts : tuple of tuple of int
        First voxel of each window in the padded image, sorted by k first.
    """

    padded: Triple
    pad_before: Triple
    size: Triple
    starts: tuple[Triple, ...]


def plan_windows(shape: Triple, size: Triple, overlap: float) -> WindowPlan:
    """Place windows of ``size`` on an image of ``shape`` as MONAI does."""
    padded = _triple(max(n, w) for n, w in zip(shape, size, strict=True))
    before = _triple(max(w - n, 0) // 2 for n, w in zip(shape, size, strict=True))
    axes = [_axis_starts(n, w, overlap) for n, w in zip(padded, size, strict=True)]
    return WindowPlan(padded, before, size, tuple((k, j, i) for k, j, i in product(*axes)))


def _axis_starts(length: int, window: int, overlap: float) -> list[int]:
    if length == window:
        return [0]
    stride = max(int(window * (1 - overlap)), 1)
    count = math.ceil((length - window) / stride) + 1
    return [min(index * stride, length - window) for index in range(count)]


def importance_map(size: Triple, mode: str, sigma_scale: float) -> torch.Tensor:
    """Return ``(k, j, i)`` float32 weights of a window, all positive."""
    weights = torch.ones(size, dtype=torch.float32)
    if mode == "gaussian":
        for axis, length in enumerate(size):
            x = torch.arange(-(length - 1) / 2.0, (length - 1) / 2.0 + 1, dtype=torch.float32)
            bell = torch.exp(x**2 / (-2 * (length * sigma_scale) ** 2))
            weights = weights * bell.reshape([-1 if dim == axis else 1 for dim in range(3)])
    return weights.clamp_(min=max(float(weights.min()), 1e-3))


def _triple(numbers: object) -> Triple:
    k, j, i = (int(n) for n in numbers)  # type: ignore[attr-defined]
    return k, j, i
