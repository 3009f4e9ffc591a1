"""Small trainings for tests: pictures of discs and squares, coarse phantoms; recipes for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.recipes.load import parse_recipe
from core.recipes.schema import Recipe

CLASSES = ("disc", "square")


def write_shapes(folder: Path, count: int = 20, size: int = 24, seed: int = 0) -> Path:
    """Write ``count`` pictures per class and return the folder."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    for kind, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            center, radius = rng.uniform(size * 0.35, size * 0.65, 2), rng.uniform(size * 0.2, size * 0.3)
            away = [abs(y - center[0]), abs(x - center[1])]
            inside = np.hypot(*away) < radius if kind == 0 else np.maximum(*away) < 0.75 * radius
            pixels = rng.normal(60, 10, (size, size)) + 110 * inside
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(folder / name / f"{number:03d}.png")
    return folder


def shape_recipe(**changes: Any) -> Recipe:
    """A classification that trains in a second; ``changes`` are dotted keys with __ for the dot."""
    document: dict[str, Any] = {
        "name": "tiny-shapes",
        "seed": 5,
        "task": "classification",
        "spatial_dims": 2,
        "data": {"source": {"name": "class_folders", "classes": list(CLASSES)}},
        "preprocessing": {
            "resize_hw": [24, 24],
            "intensity": [{"op": "percentile", "low": 0.0, "high": 100.0}],
        },
        "network": {"name": "cnn2d", "params": {"channels": [4, 8]}},
        "training": {
            "epochs": 3,
            "batch_size": 8,
            "precision": "fp32",
            "memory_format": "contiguous",
            "threads": 1,
        },
        "optimizer": {"name": "adamw", "learning_rate": 0.02},
        "evaluation": {"bootstrap": 100},
        "bundle": {
            "id": "tiny-shapes",
            "title": "Shapes",
            "labels": [{"value": 0, "name": "Disc"}, {"value": 1, "name": "Square"}],
        },
    }
    return parse_recipe(document, {key.replace("__", "."): value for key, value in changes.items()})


def chest_recipe(**changes: Any) -> Recipe:
    """A segmentation of coarse phantoms that trains in a second."""
    document: dict[str, Any] = {
        "name": "tiny-chest",
        "seed": 5,
        "task": "segmentation",
        "spatial_dims": 3,
        "data": {
            "source": {"name": "phantoms", "count": 4, "holdout": 1, "spacing_mm": 12.0},
            "split": {"method": "given"},
            "sampling": {"patch_kji": [16, 24, 24]},
        },
        "preprocessing": {
            "spacing_ijk_mm": [12.0, 12.0, 12.0],
            "intensity": [
                {"op": "scale", "from_low": -1000.0, "from_high": 600.0, "to_low": -1.0, "to_high": 1.0}
            ],
        },
        "network": {"name": "unet3d", "params": {"channels": [4, 8, 8]}},
        "loss": {"name": "dice_ce"},
        "training": {
            "epochs": 2,
            "steps_per_epoch": 3,
            "batch_size": 2,
            "precision": "fp32",
            "memory_format": "contiguous",
            "monitor": {"value": "dice"},
            "threads": 1,
        },
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "evaluation": {"bootstrap": 100},
        "bundle": {
            "id": "tiny-chest",
            "title": "Chest",
            "inference": {"patch_kji": [16, 24, 24], "pad_value": -1.0},
            "labels": [{"value": value, "name": f"Structure {value}"} for value in range(1, 8)],
        },
    }
    return parse_recipe(document, {key.replace("__", "."): value for key, value in changes.items()})


def write_lesions(folder: Path, count: int = 20, seed: int = 0) -> Path:
    """Write pictures of 50 × 70 with one bright disc each, and their masks (255)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:50, :70]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        center = rng.uniform(15, 35), rng.uniform(20, 50)
        inside = np.hypot(y - center[0], x - center[1]) < rng.uniform(7, 12)
        pixels = (rng.normal(60, 10, inside.shape) + 110 * inside).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray((255 * inside).astype(np.uint8)).save(folder / "masks" / f"{number:03d}.png")
    return folder


def lesion_recipe(**changes: Any) -> Recipe:
    """A segmentation of pictures, resized for the network."""
    document: dict[str, Any] = {
        "name": "tiny-lesion",
        "seed": 5,
        "task": "segmentation",
        "spatial_dims": 2,
        "data": {"source": {"name": "image_mask_files", "values": {255: 1}}},
        "preprocessing": {
            "resize_hw": [48, 64],
            "intensity": [{"op": "percentile", "low": 0.0, "high": 100.0}],
        },
        "network": {"name": "unet", "params": {"depth": 2, "features": 4}},
        "loss": {"name": "dice_ce"},
        "training": {
            "epochs": 5,
            "batch_size": 4,
            "precision": "fp32",
            "memory_format": "contiguous",
            "monitor": {"value": "dice"},
            "threads": 1,
        },
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "evaluation": {"bootstrap": 100},
        "bundle": {
            "id": "tiny-lesion",
            "title": "Lesion",
            "labels": [{"value": 1, "name": "Lesion"}],
        },
    }
    return parse_recipe(document, {key.replace("__", "."): value for key, value in changes.items()})
