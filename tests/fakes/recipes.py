"""Small recipes and data folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.domain.geometry import VolumeGeometry
from core.formats.nifti import write_nifti


def tiny_recipe(**changes: Any) -> dict[str, Any]:
    """Return the smallest document that is a recipe, with sections replaced."""
    document: dict[str, Any] = {
        "name": "tiny-demo",
        "task": "classification",
        "spatial_dims": 2,
        "data": {"source": {"name": "class_folders", "classes": ["a", "b"]}},
        "network": {"name": "simple_cnn"},
        "bundle": {
            "id": "tiny-demo",
            "title": "Tiny",
            "labels": [{"value": 0, "name": "a"}, {"value": 1, "name": "b"}],
        },
    }
    return {**document, **changes}


def noise(seed: int, size: int = 24) -> NDArray[np.uint8]:
    """Return a picture that is like no other."""
    return np.random.default_rng(seed).integers(0, 255, (size, size), dtype=np.uint8)


def save_picture(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write a picture, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def class_folders(folder: Path, counts: dict[str, int]) -> Path:
    """Write a folder of different pictures per class."""
    for number, (name, count) in enumerate(counts.items()):
        for n in range(count):
            save_picture(folder / name / f"{name}-{n:03d}.png", noise(1000 * number + n))
    return folder


def cube(size: int = 6, *, shift_mm: float = 0.0, spacing_mm: float = 2.0) -> VolumeGeometry:
    """Return a small grid, moved along x."""
    return VolumeGeometry.from_axes((size, size, size), (spacing_mm,) * 3, np.eye(3), (shift_mm, 0.0, 0.0))


def save_volume(path: Path, voxels: NDArray[Any], geometry: VolumeGeometry) -> Path:
    """Write a NIfTI file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, geometry, voxels)
    return path
