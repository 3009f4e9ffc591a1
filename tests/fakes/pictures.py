"""Small volumes with marks on each side of the patient, stored in any orientation."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from core.domain.coding import CodedConcept
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry, apply_reorientation
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.volume import Volume

SHAPE_LPS = (10, 14, 18)
SPACING_LPS = (1.0, 1.5, 2.5)

#: The three-letter codes of the 24 rotations and their 24 mirror images (k descending).
ORIENTATIONS = ["".join(letters) for axes in permutations(("LR", "PA", "SI")) for letters in product(*axes)]


def marked_voxels() -> NDArray[np.int16]:
    """``(10, 14, 18)`` along S, P, L: a bar to the left, a dot to the front and a dot at the top, all different."""
    voxels = np.zeros(SHAPE_LPS, dtype=np.int16)
    voxels[5, 7, 12:16] = 100
    voxels[5, 2, 9] = 200
    voxels[8, 7, 9] = 300
    voxels[5, 7, 9] = 50
    return voxels


def stored_as(codes: str, rotation: NDArray[np.floating] | None = None) -> Volume:
    """The marked volume, stored so that i, j and k run towards ``codes``; optionally turned in space."""
    turn = np.eye(3) if rotation is None else np.asarray(rotation)
    upright = VolumeGeometry.from_axes(SHAPE_LPS, SPACING_LPS, turn, (-20.0, 30.0, -40.0), "1.2.3")
    plain = VolumeGeometry.from_axes(SHAPE_LPS, SPACING_LPS, np.eye(3), (0.0, 0.0, 0.0), "1.2.3")
    _, permutation, flips = plain.reoriented(codes)
    matrix = np.eye(4)
    first = np.zeros(3)
    for new, (old, flip) in enumerate(zip(permutation, flips, strict=True)):
        column = upright.lps_from_ijk[:3, old]
        matrix[:3, new] = -column if flip else column
        first[old] = upright.shape_ijk[old] - 1 if flip else 0
    matrix[:3, 3] = upright.lps_of([first])[0]
    voxels = np.ascontiguousarray(apply_reorientation(marked_voxels(), permutation, flips))
    geometry = VolumeGeometry(voxels.shape, matrix, "1.2.3")
    return Volume(geometry, voxels, "CT", "1.2.840.1", units="HU", body_part="CHEST", description="Thorax")


def segmentation_of(volume: Volume, fault_shift: float = 0.0) -> Segmentation:
    """Two segments where the marks are; ``fault_shift`` moves the grid by millimetres."""
    matrix = volume.geometry.lps_from_ijk.copy()
    matrix[:3, 3] += fault_shift
    geometry = VolumeGeometry(volume.geometry.shape_kji, matrix)
    labels = np.where(volume.voxels == 100, 1, np.where(volume.voxels == 200, 2, 0)).astype(np.uint8)
    code = CodedConcept("1", "99TEST", "mark")
    return Segmentation(
        geometry,
        labels,
        (
            SegmentDefinition(1, "Left bar", code, code, (86, 180, 233)),
            SegmentDefinition(2, "Front dot", code, code, (250, 150, 10)),
        ),
    )


def explanation_of(volume: Volume) -> Explanation:
    """Heat where the left bar is."""
    heat = (volume.voxels == 100).astype(np.float32)
    return Explanation(volume.geometry, heat, "gradcam", "bar", "layer", (10.0, 10.0, 12.0), 0.1, True)
