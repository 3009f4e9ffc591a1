"""Randomisation of phantoms and pictures so that a network meets more scanners and people than exist."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

AIR_HU = -1024.0

Array = NDArray[np.float32]


def vary_appearance(
    hu: Array, labels: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Array, NDArray[np.uint8]]:
    """Change contrast, noise, sharpness, slice thickness and field of view of a patch.

    Each change is drawn with its own probability; labels change only where the field of view is cut.
    """
    if rng.uniform() < 0.45:
        hu = _blend_neighbours(hu, labels, rng)
    hu = _shift_tissues(hu, labels, rng)
    if rng.uniform() < 0.5:
        hu = hu + np.float32(rng.uniform(5, 22)) * _slow_field(hu.shape, rng)
    if rng.uniform() < 0.08:
        hu = _add_metal(hu, labels, rng)
    if rng.uniform() < 0.25:
        hu = _add_clutter(hu, labels, rng)
    hu = _degrade(hu, rng)
    if rng.uniform() < 0.6:
        hu = hu + _grain(hu.shape, rng)
    if rng.uniform() < 0.25:
        hu = hu * np.float32(rng.uniform(0.93, 1.07)) + np.float32(rng.normal(0, 12))
    return _cut_field_of_view(hu, labels, rng)


def _shift_tissues(hu: Array, labels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Move each organ's attenuation a little, the lungs' and the bones' more."""
    table = rng.normal(0, (0, 1, 1, 5, 12, 12, 1, 5)).astype(np.float32)
    lung = np.float32(rng.normal(0, 25))
    table[1] += lung + rng.normal(0, 8)
    table[2] += lung + rng.normal(0, 8)
    hu = hu + table[labels]
    dense = np.float32(rng.uniform(0.65, 1.5))
    bone = hu > 150
    return np.where(bone & (labels == 6), 150 + (hu - 150) * dense, hu).astype(np.float32)


def _blend_neighbours(hu: Array, labels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Bring the soft tissue around the liver near its attenuation, so that brightness alone doesn't tell it."""
    liver = labels == 5
    soft = (labels == 7) & (hu > 15) & (hu < 220)
    if liver.sum() < 500 or soft.sum() < 500:
        return hu
    gap = np.float32(np.median(hu[liver][::7]) - np.median(hu[soft][::17]))
    share = np.float32(rng.uniform(0.2, 1.1)) + np.float32(0.35) * _slow_field(hu.shape, rng)
    return np.where(soft, hu + gap * share, hu).astype(np.float32)


def _slow_field(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 4, 4, 4)).astype(np.float32))
    return functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()


def _add_metal(hu: Array, labels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Put a few clips, wires or implants into the body, with dark and bright bands beside them."""
    inside = np.flatnonzero(labels.ravel() > 2)
    if inside.size == 0:
        return hu
    hu = hu.copy()
    for position in rng.choice(inside, int(rng.integers(1, 5))):
        k, j, i = (int(n) for n in np.unravel_index(int(position), hu.shape))
        radius = int(rng.integers(1, 5))
        box = tuple(slice(max(0, c - radius), c + radius + 1) for c in (k, j, i))
        z, y, x = (
            np.arange(b.start, min(b.stop, n)) - c for b, c, n in zip(box, (k, j, i), hu.shape, strict=True)
        )
        ball = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2
        band = rng.normal(0.0, 160.0, size=(hu.shape[2],)).astype(np.float32)
        away: Array = np.abs(np.arange(hu.shape[2], dtype=np.float32) - np.float32(i))
        far = np.exp(-away / np.float32(18.0))
        hu[box[0], box[1]] += band * far
        hu[box] = np.where(ball, np.float32(2500), hu[box])
    return hu


def _add_clutter(hu: Array, labels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Put folds of blankets, leads and supports into the air around the body."""
    fold = np.abs(_slow_field(hu.shape, rng) + np.float32(rng.normal(0, 0.3)))
    sheet = (fold < rng.uniform(0.01, 0.05)) & (labels == 0)
    return np.where(sheet, np.maximum(hu, np.float32(rng.uniform(-950, 0))), hu).astype(np.float32)


def _grain(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Correlated noise, at times with the horizontal bands of low dose."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    sigma = rng.uniform(0, 0.7)
    if sigma > 0.3:
        noise = ndimage.gaussian_filter(noise, (0.0, sigma, sigma), truncate=2.0)
        noise /= max(float(noise.std()), 1e-6)
    return noise * np.float32(rng.uniform(2, 32))


def _degrade(hu: Array, rng: np.random.Generator) -> Array:
    """Lower or raise the resolution: thick slices, soft kernels, edge enhancement."""
    kind = rng.uniform()
    if kind < 0.25:
        factor = rng.uniform(1.3, 3.2)
        size = (max(2, int(hu.shape[0] / factor)), *hu.shape[1:])
        tensor = torch.from_numpy(np.ascontiguousarray(hu))[None, None]
        thick = functional.interpolate(tensor, size=size, mode="area")
        return functional.interpolate(thick, size=hu.shape, mode="trilinear", align_corners=False)[
            0, 0
        ].numpy()
    if kind < 0.5:
        sigma = rng.uniform(0.3, 0.9)
        return ndimage.gaussian_filter(hu, (rng.uniform(0, sigma), sigma, sigma), truncate=2.5)
    if kind < 0.65:
        blurred = ndimage.gaussian_filter(hu, 0.8, truncate=2.5)
        return (hu + np.float32(rng.uniform(0.2, 0.8)) * (hu - blurred)).astype(np.float32)
    return hu


def _cut_field_of_view(
    hu: Array, labels: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Array, NDArray[np.uint8]]:
    """Blank what a smaller scan would not show: a few slices only, a round or narrow field."""
    hidden = np.zeros(hu.shape, dtype=bool)
    depth, rows, columns = hu.shape
    if rng.uniform() < 0.25:
        thick = int(rng.integers(8, max(9, depth * 3 // 4)))
        start = int(rng.integers(0, depth - thick + 1))
        hidden[:start] = True
        hidden[start + thick :] = True
    if rng.uniform() < 0.15:
        radius = rng.uniform(0.42, 0.62) * max(rows, columns) * 0.8
        y, x = np.mgrid[:rows, :columns]
        center = (rows / 2 + rng.normal(0, 5), columns / 2 + rng.normal(0, 5))
        hidden |= np.hypot(y - center[0], x - center[1])[None] > radius
    if not hidden.any():
        return hu, labels
    return np.where(hidden, np.float32(AIR_HU), hu), np.where(hidden, 0, labels).astype(np.uint8)


def vary_picture(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move, scale, turn, re-window, blur, invert and disturb pictures in 0 … 1; the outcome is in 0 … 1 again.

    Pictures are mirrored now and then too: the classes don't depend on the side.

    Parameters
    ----------
    images : torch.Tensor
        ``(N, C, H, W)`` float32.
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle, zoom, ratio = uniform(-0.25, 0.25), uniform(0.78, 1.28), uniform(0.9, 1.12)
    mirror = torch.where(uniform(0, 1) < 0.3, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * angle.cos() * zoom * ratio, -angle.sin() * zoom
    theta[:, 1, 0], theta[:, 1, 1] = mirror * angle.sin() * zoom, angle.cos() * zoom / ratio
    theta[:, :, 2] = torch.stack([uniform(-0.15, 0.15), uniform(-0.15, 0.15)], dim=1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    corner = images[:, :1, 0, 0].reshape(count, 1, 1, 1)
    out = functional.grid_sample(images - corner, grid, align_corners=False) + corner

    def per_image(values: Tensor) -> Tensor:
        return values.reshape(count, 1, 1, 1)

    # MedNIST's CT pictures have a grey background; scanners show it black. Some pictures lose their background.
    low = uniform(-0.1, 0.15) + torch.where(uniform(0, 1) < 0.2, uniform(0.0, 0.3), torch.zeros(count))
    high = low + uniform(0.5, 1.0)
    out = ((out - per_image(low)) / per_image(high - low)).clamp(0, 1)
    out = out ** per_image(uniform(-0.45, 0.45).exp())
    soft = functional.avg_pool2d(out, 3, stride=1, padding=1, count_include_pad=False)
    out = out + per_image(uniform(-0.6, 0.9)) * (soft - out)
    out = out + per_image(uniform(0, 0.05)) * torch.randn(out.shape, generator=generator)
    out = torch.where(per_image(uniform(0, 1) < 0.12), 1.0 - out, out).clamp(0, 1)
    smallest = out.amin(dim=(1, 2, 3), keepdim=True)
    return (out - smallest) / (out.amax(dim=(1, 2, 3), keepdim=True) - smallest).clamp(min=1e-3)
