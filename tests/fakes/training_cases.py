"""Small data sets and recipes for the tests of training data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.recipes.cases import Case
from core.recipes.schema import Recipe

LABELS = [{"value": 1, "name": "ball"}, {"value": 3, "name": "slab"}]


def volume_recipe(**sections: Any) -> Recipe:
    """Return a segmentation of volumes with the labels 1 and 3."""
    document: dict[str, Any] = {
        "name": "tiny-volumes",
        "seed": 5,
        "task": "segmentation",
        "spatial_dims": 3,
        "data": {"source": {"name": "image_mask_files"}},
        "preprocessing": {
            "spacing_ijk_mm": [2.0, 2.0, 2.0],
            "intensity": [{"op": "scale", "from_low": -1000.0, "from_high": 600.0, "to_low": -1.0}],
        },
        "network": {"name": "unet3d"},
        "bundle": {"id": "tiny-volumes", "title": "Tiny", "labels": LABELS},
    }
    return _recipe(document, sections)


def picture_recipe(**sections: Any) -> Recipe:
    """Return a classification of pictures into three classes."""
    document: dict[str, Any] = {
        "name": "tiny-pictures",
        "seed": 5,
        "task": "classification",
        "spatial_dims": 2,
        "data": {"source": {"name": "class_folders", "classes": ["a", "b", "c"]}},
        "preprocessing": {"resize_hw": [24, 24], "intensity": [{"op": "percentile"}]},
        "network": {"name": "cnn2d"},
        "bundle": {
            "id": "tiny-pictures",
            "title": "Tiny",
            "labels": [{"value": n, "name": name} for n, name in enumerate("abc")],
        },
    }
    return _recipe(document, sections)


def _recipe(document: dict[str, Any], sections: dict[str, Any]) -> Recipe:
    for name, value in sections.items():
        old = document.get(name)
        document[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    return Recipe.model_validate_json(json.dumps(document))


def write_volume(
    folder: Path,
    name: str,
    shape_kji: tuple[int, int, int] = (20, 24, 28),
    seed: int = 0,
    channel: str = "image",
) -> Case:
    """Write a CT-like NIfTI pair with a ball (1) and a slab (3) and return its case."""
    hu, labels = ball_and_slab(shape_kji, seed)
    affine = np.diag([-1.5, -1.5, 3.0, 1.0])
    affine[:3, 3] = (20.0, -10.0, 5.0)
    image, mask = folder / f"{name}.nii.gz", folder / f"{name}-mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(hu.T, affine), image)
    nibabel.save(nibabel.Nifti1Image(labels.T, affine), mask)
    return Case(name, name, images={channel: (image,)}, mask=mask)


def ball_and_slab(shape_kji: tuple[int, int, int], seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return HU and labels ``(K, J, I)``."""
    rng = np.random.default_rng(seed)
    k, j, i = np.indices(shape_kji)
    center = [n * rng.uniform(0.35, 0.65) for n in shape_kji]
    labels = np.zeros(shape_kji, dtype=np.uint8)
    labels[:, : shape_kji[1] // 5] = 3
    distance = sum((a - c) ** 2 for a, c in zip((k, j, i), center, strict=True))
    labels[distance < (min(shape_kji) * 0.25) ** 2] = 1
    table = np.array([-900, 60, 0, 400])
    hu = table[labels] + rng.normal(0, 30, shape_kji)
    return np.rint(hu).astype(np.int16), labels


def write_pictures(folder: Path, counts: tuple[int, ...] = (6, 3, 2), size: int = 32) -> list[Case]:
    """Write PNG pictures of classes 0, 1, 2 … and return their cases."""
    cases = []
    for label, count in enumerate(counts):
        for number in range(count):
            rng = np.random.default_rng((label, number))
            pixels = rng.integers(0, 256, (size, size), dtype=np.uint8)
            pixels[4 * label : 4 * label + 8, 4:12] = 255
            path = folder / f"{label}-{number}.png"
            Image.fromarray(pixels).save(path)
            cases.append(Case(path.stem, path.stem, images={"image": (path,)}, label=label))
    return cases
