"""A small training of several tasks: balls and cubes in noisy volumes, with masks, classes, volumes and reports."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from core.recipes.load import parse_recipe
from core.recipes.schema import Recipe
from tests.fakes.recipes import cube, save_volume

KINDS = ("ball", "cube")
TINY_NETWORK = {
    "embed_dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "widths": [4, 8, 12],
    "depths": [1, 1, 1, 1, 1, 1],
    "bottleneck": 16,
    "bottleneck_blocks": 1,
}


def write_lesions(
    folder: Path, count: int = 12, size: int = 16, *, known: bool = False, tested: bool = True
) -> Path:
    """Write ``count`` volumes and their table; the last four are validated and tested, two each.

    Unless ``tested`` the last two train too. Unless ``known`` the first three lack mask, class or volume, one each.
    """
    rng = np.random.default_rng(0)
    axes = np.mgrid[:size, :size, :size]
    geometry = cube(size)
    rows = []
    for n in range(count):
        kind, center, radius = n % 2, rng.uniform(0.4, 0.6, 3) * size, rng.uniform(0.18, 0.32) * size
        away = [abs(axis - middle) for axis, middle in zip(axes, center, strict=True)]
        distance = np.sqrt(sum(a**2 for a in away)) if kind == 0 else np.maximum.reduce(away) / 0.8
        inside = distance < radius
        voxels = rng.normal(50, 8, (size,) * 3) + (80 + 40 * kind) * inside
        save_volume(folder / f"image-{n}.nii.gz", voxels.astype(np.float32), geometry)
        save_volume(folder / f"mask-{n}.nii.gz", inside.astype(np.uint8), geometry)
        rows.append(
            {
                "file": f"image-{n}.nii.gz",
                "mask": "" if n == 0 and not known else f"mask-{n}.nii.gz",
                "label": "" if n == 1 and not known else KINDS[kind],
                "volume": "" if n == 2 and not known else f"{inside.sum() * 8 / 1000:.4f}",
                "report": f"A {('round', 'square')[kind]} lesion.",
                "part": "train"
                if n < count - 4
                else "validation"
                if n < count - 2
                else "test"
                if tested
                else "train",
            }
        )
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


def lesion_recipe(**changes: Any) -> Recipe:
    """A training of three tasks that takes seconds; ``changes`` are dotted keys with __ for the dot."""
    document: dict[str, Any] = {
        "name": "tiny-lesions",
        "seed": 3,
        "task": "multitask",
        "spatial_dims": 3,
        "data": {
            "source": {"name": "csv_manifest", "classes": list(KINDS), "measurements": ["volume"]},
            "split": {"method": "given"},
        },
        "preprocessing": {"intensity": [{"op": "percentile", "low": 0.0, "high": 100.0}]},
        "network": {"name": "mri_multitask", "params": dict(TINY_NETWORK)},
        "tasks": {
            "segmentation": {
                "name": "combined",
                "parts": [{"name": "dice"}, {"name": "focal"}, {"name": "boundary", "weight": 0.1}],
            },
            "classification": {"name": "cross_entropy"},
            "regression": {"name": "smooth_l1"},
        },
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "training": {
            "epochs": 2,
            "batch_size": 4,
            "precision": "fp32",
            "memory_format": "contiguous",
            "threads": 1,
            "monitor": {"value": "score"},
        },
        "evaluation": {"bootstrap": 100},
        "bundle": {
            "id": "tiny-lesions",
            "title": "Lesions",
            "labels": [{"value": 1, "name": "Lesion"}],
            "classes": [{"value": 0, "name": "ball"}, {"value": 1, "name": "cube"}],
            "measurements": [{"name": "volume", "unit": "mL", "mean": 2.0, "std": 1.5}],
            "weights": {"onnx": False},
        },
    }
    return parse_recipe(document, {key.replace("__", "."): value for key, value in changes.items()})
