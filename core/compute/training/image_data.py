"""Folders of pictures for the classification recipes: reading, near-duplicates, split, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from core.compute.training.recipe import FolderData
from core.domain.errors import InputError

_SUFFIXES = {".jpeg", ".jpg", ".png"}


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures with their classes.

    Attributes
    ----------
    pixels : numpy.ndarray
        ``(N, size, size)`` uint8.
    labels : numpy.ndarray
        ``(N,)`` int64 index into the recipe's classes.
    names : tuple of str
        ``"class/file"``.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]


def read_pictures(folder: Path, settings: FolderData) -> Pictures:
    """Read ``folder/<class>/*``, grey, resized.

    Raises
    ------
    InputError
        ``training.data`` when a class has no pictures.
    """
    pixels, labels, names = [], [], []
    for index, name in enumerate(settings.classes):
        files = sorted(p for p in (folder / name).glob("*") if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(
                "training.data",
                f"The folder has no pictures of the class “{name}”.",
                "Give one folder per class.",
            )
        for path in files:
            with Image.open(path) as picture:
                grey = picture.convert("L").resize(
                    (settings.size_px, settings.size_px), Image.Resampling.BILINEAR
                )
                pixels.append(np.asarray(grey, dtype=np.uint8))
            labels.append(index)
            names.append(f"{name}/{path.name}")
    return Pictures(np.stack(pixels), np.array(labels, dtype=np.int64), tuple(names))


def near_duplicates(pixels: NDArray[np.uint8], correlation: float) -> NDArray[np.int64]:
    """Return a group number per picture; pictures that correlate above the limit share one.

    Pictures are compared at 16 × 16, mean removed. Groups are connected components.
    """
    count = len(pixels)
    small = functional.adaptive_avg_pool2d(torch.from_numpy(pixels.astype(np.float32))[:, None], 16)
    flat = small.reshape(count, -1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6)
    close = (flat @ flat.T).numpy() > correlation
    group = np.full(count, -1, dtype=np.int64)
    for start in range(count):
        if group[start] >= 0:
            continue
        waiting = [start]
        group[start] = start
        while waiting:
            for other in np.flatnonzero(close[waiting.pop()] & (group < 0)):
                group[other] = start
                waiting.append(int(other))
    return group


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the pictures that train, calibrate and test; no group of near-duplicates is divided."""

    train: NDArray[np.int64]
    calibration: NDArray[np.int64]
    test: NDArray[np.int64]


def split_pictures(pictures: Pictures, settings: FolderData, seed: int) -> Split:
    """Divide each class by seed into test, calibration and training parts."""
    groups = near_duplicates(pictures.pixels, settings.duplicate_correlation)
    rng = np.random.default_rng(seed)
    parts: dict[str, list[int]] = {"train": [], "calibration": [], "test": []}
    for label in range(len(settings.classes)):
        members = np.flatnonzero(pictures.labels == label)
        # A group that spans classes belongs to the part of its first class.
        own = rng.permutation(np.unique(groups[members][pictures.labels[groups[members]] == label]))
        goals = {
            "test": settings.test_share * len(members),
            "calibration": settings.calibration_share * len(members),
        }
        filled = dict.fromkeys(goals, 0)
        for group in own:
            inside = np.flatnonzero(groups == group)
            part = next((p for p in goals if filled[p] + len(inside) <= goals[p]), "train")
            if part != "train":
                filled[part] += len(inside)
            parts[part].extend(int(n) for n in inside)
    return Split(
        *(np.array(sorted(parts[name]), dtype=np.int64) for name in ("train", "calibration", "test"))
    )


def scaled(pixels: NDArray[np.uint8]) -> Tensor:
    """Return ``(N, 1, H, W)`` float32: each picture's own minimum … maximum becomes 0 … 1."""
    images = torch.from_numpy(pixels.astype(np.float32))[:, None]
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1.0)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move, scale, turn, re-window, blur, invert and disturb pictures in 0 … 1; the outcome is in 0 … 1 again.

    Pictures are mirrored now and then too: the classes don't depend on the side.
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
    corner = images[:, :, 0, 0].reshape(count, 1, 1, 1)
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
