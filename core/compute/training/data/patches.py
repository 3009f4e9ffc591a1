"""Windows out of volumes: where they lie and how small volumes are padded."""

from __future__ import annotations

import numpy as np
import torch

from core.compute.training.data.cache_file import CachedCase
from core.recipes.cases import UNJUDGED
from core.recipes.schema import Recipe, Sampling
from models.networks.registry import names, spec

Starts = tuple[int, ...]


def window_size(sampling: Sampling, dims: int) -> tuple[int, ...]:
    """Return the size of a window along the array's axes; pictures take (j, i)."""
    return tuple(sampling.patch_kji[3 - dims :])


def draw_starts(
    case: CachedCase, size: tuple[int, ...], count: int, foreground: float, rng: np.random.Generator
) -> list[Starts]:
    """Draw where ``count`` windows begin; a start may be negative where the case is smaller than the window.

    A share ``foreground`` of them is centred on a voxel of a label, each label that the case has as often as the
    others; the voxels come from the stored index, nothing is scanned. The rest lies anywhere with equal
    probability.
    """
    labels = sorted(value for value, index in case.foreground.items() if len(index))
    phase = rng.uniform()
    starts = []
    for number in range(count):
        # Evenly spaced with one random phase: of n windows, n · share are on foreground up to less than one.
        if labels and (number + phase) / count < foreground:
            index = case.foreground[labels[int(rng.integers(len(labels)))]]
            flat = int(index[int(rng.integers(len(index)))])
            center = tuple(int(n) for n in np.unravel_index(flat, case.shape))
            starts.append(_start_around(center, size, case.shape))
        else:
            starts.append(_anywhere(size, case.shape, rng))
    return starts


def _start_around(center: Starts, size: Starts, shape: Starts) -> Starts:
    wanted = zip(center, size, shape, strict=True)
    return tuple(
        -((window - n) // 2) if n < window else min(max(c - window // 2, 0), n - window)
        for c, window, n in wanted
    )


def _anywhere(size: Starts, shape: Starts, rng: np.random.Generator) -> Starts:
    return tuple(
        -((window - n) // 2) if n < window else int(rng.integers(0, n - window + 1))
        for window, n in zip(size, shape, strict=True)
    )


def cut(
    case: CachedCase, start: Starts, size: Starts, pad_value: float, margin: Starts = ()
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return a window as image float32 and label map uint8, wider by ``margin`` on each side.

    Along an axis on which the case is smaller than the window it lies in the middle, as in the sliding window of the
    application, with ``pad_value`` and label 0 around it. Along the others the margin beyond the case repeats its
    edge.
    """
    margin = margin or (0,) * len(size)
    first = tuple(s - m for s, m in zip(start, margin, strict=True))
    last = tuple(s + n + m for s, n, m in zip(start, size, margin, strict=True))
    low = tuple(max(a, 0) for a in first)
    high = tuple(min(b, total) for b, total in zip(last, case.shape, strict=True))
    image, label = case.crop(low, tuple(b - a for a, b in zip(low, high, strict=True)))
    around = [(a - f, e - b) for f, a, b, e in zip(first, low, high, last, strict=True)]
    if not any(before or after for before, after in around):
        return image, label
    filled = [n < window for n, window in zip(case.shape, size, strict=True)]
    none = (0, 0)
    edges = [none if fill else pair for pair, fill in zip(around, filled, strict=True)]
    fills = [pair if fill else none for pair, fill in zip(around, filled, strict=True)]
    image = torch.from_numpy(
        np.pad(np.pad(image.numpy(), [none, *edges], mode="edge"), [none, *fills], constant_values=pad_value)
    )
    if label is None:
        return image, None
    return image, torch.from_numpy(np.pad(np.pad(label.numpy(), edges, mode="edge"), fills))


def whole_divisor(recipe: Recipe) -> int:
    """Return what the sizes of whole images must be multiples of in training: 1 where windows or classes are asked for.

    It is known of the networks' usual form; a network that needs more says so itself.
    """
    if recipe.task != "multitask":
        return 1
    known = spec(recipe.network.name).divisor if recipe.network.name in names() else 1
    return max(recipe.bundle.inference.divisor, known)


def filled_up(
    image: torch.Tensor, label: torch.Tensor | None, divisor: int, pad_value: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Fill an image ``(C, …)`` up to multiples of ``divisor`` on both sides, its label map with unjudged voxels.

    A channel of zeros stands for a missing contrast and stays one.
    """
    missing = [-n % divisor for n in image.shape[1:]]
    if not any(missing):
        return image, label
    around = [side for total in reversed(missing) for side in (total // 2, total - total // 2)]
    filled = torch.nn.functional.pad(image, around, value=pad_value)
    if pad_value:
        filled[[not bool(channel.any()) for channel in image]] = 0
    if label is None:
        return filled, None
    return filled, torch.nn.functional.pad(label, around, value=UNJUDGED)
