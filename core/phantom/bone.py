"""Bone tissue: a dense shell around textured marrow."""

from __future__ import annotations

import numpy as np

from core.phantom.canvas import Array, Canvas, Region
from core.phantom.labels import BONES
from core.phantom.person import Person


def paint_bone(
    canvas: Canvas,
    person: Person,
    found: tuple[Region, Array] | None,
    texture: Array,
    shell_mm: float = 1.6,
    marrow_shift: float = 0.0,
) -> None:
    """Paint a bone: a dense cortex of the given thickness around textured marrow."""
    if found is None:
        return
    region, sdf = found
    t = person.tissues
    marrow = t.marrow + marrow_shift + 32.0 * texture[region.box]
    core = np.clip(0.5 - (sdf + np.float32(shell_mm)) / np.float32(max(canvas.voxel_mm, 1.0)), 0.0, 1.0)
    hu = (np.float32(t.cortex) * (1.0 - core) + marrow * core).astype(np.float32)
    canvas.fill(region, sdf, hu, BONES)
