"""The division of MedNIST that the shipped classifier was trained on, so that a test asks it about others only.

The bundle is older than ``core.recipes.splits``; its own division is kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
SEED, TEST_SHARE, CALIBRATION_SHARE, DUPLICATES = 11, 0.25, 0.15, 0.995
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


def read_pictures(folder: Path) -> Pictures:
    """Read ``folder/<class>/*``, grey, 64 × 64."""
    pixels, labels, names = [], [], []
    for index, name in enumerate(CLASSES):
        for path in sorted(p for p in (folder / name).glob("*") if p.suffix.lower() in _SUFFIXES):
            with Image.open(path) as picture:
                grey = picture.convert("L").resize((64, 64), Image.Resampling.BILINEAR)
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


def split_pictures(pictures: Pictures) -> Split:
    """Divide each class by seed into test, calibration and training parts."""
    groups = near_duplicates(pictures.pixels, DUPLICATES)
    rng = np.random.default_rng(SEED)
    parts: dict[str, list[int]] = {"train": [], "calibration": [], "test": []}
    for label in range(len(CLASSES)):
        members = np.flatnonzero(pictures.labels == label)
        # A group that spans classes belongs to the part of its first class.
        own = rng.permutation(np.unique(groups[members][pictures.labels[groups[members]] == label]))
        goals = {
            "test": TEST_SHARE * len(members),
            "calibration": CALIBRATION_SHARE * len(members),
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
