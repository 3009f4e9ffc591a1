"""The pool of phantoms that the segmentation recipes train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.compute.training.augment3d import sample_patch, vary_appearance
from core.compute.training.recipe import PhantomData
from core.config.atomic import atomic_path
from core.domain.progress import Progress, no_progress
from core.phantom.population import random_spec
from core.phantom.thorax import make_thorax


class PhantomPool:
    """Volumes on disk, held in memory as int16 and uint8.

    Parameters
    ----------
    folder : pathlib.Path
        Cache; phantoms that are missing are rendered into it.
    settings : PhantomData
        What to render and how to cut and normalise patches.
    """

    def __init__(self, folder: Path, settings: PhantomData, progress: Progress = no_progress) -> None:
        self.settings = settings
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        seeds = range(settings.first_seed, settings.first_seed + settings.count)
        self._volumes: list[tuple[NDArray[np.int16], NDArray[np.uint8]]] = []
        for index, seed in enumerate(seeds):
            self._volumes.append(load_phantom(folder, seed, settings.spacing_mm))
            progress("Rendering phantoms", (index + 1) / settings.count)

    def __len__(self) -> int:
        """Return the number of volumes."""
        return len(self._volumes)

    def holdout_seeds(self) -> range:
        """Return the seeds that are never trained on."""
        start = self.settings.first_seed + self.settings.count
        return range(start, start + self.settings.holdout)

    def batch(self, seed: int, step: int, items: range) -> tuple[Tensor, Tensor]:
        """Return some patches of a training step; the same seed, step and item give the same patch.

        Returns
        -------
        images : torch.Tensor
            ``(len(items), 1, *patch)`` float32 in −1 … 1.
        labels : torch.Tensor
            ``(len(items), *patch)`` int64.
        """
        images, labels = [], []
        for item in items:
            rng = np.random.default_rng((seed, step, item))
            hu, truth = self._volumes[int(rng.integers(len(self._volumes)))]
            patch, target = vary_appearance(*sample_patch(hu, truth, self.settings.patch_kji, rng), rng)
            images.append(normalised(patch, self.settings.low_hu, self.settings.high_hu))
            labels.append(target)
        return (
            torch.from_numpy(np.stack(images))[:, None],
            torch.from_numpy(np.stack(labels).astype(np.int64)),
        )


def normalised(hu: NDArray, low_hu: float, high_hu: float) -> NDArray[np.float32]:
    """Clip to the window and map it to −1 … 1."""
    clipped = np.clip(hu, low_hu, high_hu).astype(np.float32)
    return (clipped - np.float32(low_hu)) * np.float32(2.0 / (high_hu - low_hu)) - np.float32(1.0)


def load_phantom(folder: Path, seed: int, spacing_mm: float) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return HU and labels of a phantom, rendered on first use."""
    path = folder / f"{seed:05d}.npz"
    if not path.exists():
        phantom = make_thorax(random_spec(seed, spacing_mm))
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, hu=phantom.hu, labels=phantom.labels)
    with np.load(path, allow_pickle=False) as stored:
        return stored["hu"], stored["labels"]
