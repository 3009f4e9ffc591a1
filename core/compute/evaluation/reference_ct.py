"""Comparison of the thorax network with TotalSegmentator's label maps on a real CT.

Source of the class names: J. Wasserthal et al., Radiology: Artificial Intelligence 2023 (task "total", v2).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.compute.evaluation.bootstrap import Estimate
from core.compute.evaluation.segmentation import dice_of_case
from core.compute.inference.run import run_bundle
from core.domain.errors import InputError
from core.formats.nifti import read_nifti
from core.phantom.labels import AIRWAY, BONES, HEART, LEFT_LUNG, LIVER, RIGHT_LUNG, THORAX_SEGMENTS

_BONES = (
    "vertebrae",
    "rib_",
    "sternum",
    "scapula",
    "clavicula",
    "humerus",
    "femur",
    "hip_",
    "sacrum",
    "skull",
)
_WHOLE = {"trachea": AIRWAY, "heart": HEART, "liver": LIVER}


def value_of(name: str) -> int:
    """Return our label for a TotalSegmentator class (``"rib_left_4"`` → bones), 0 for those we don't know."""
    if name.startswith("lung_"):
        return LEFT_LUNG if "left" in name else RIGHT_LUNG
    if name.startswith(_BONES):
        return BONES
    return _WHOLE.get(name, 0)


def grouped(labels: NDArray, class_map: Mapping[str, str]) -> NDArray[np.uint8]:
    """Merge a label map of the given classes (``{"5": "liver", …}``) into our values."""
    table = np.zeros(max(int(labels.max()), *(int(key) for key in class_map)) + 1, dtype=np.uint8)
    for key, name in class_map.items():
        table[int(key)] = value_of(name)
    merged: NDArray[np.uint8] = table[labels.astype(np.int64)]
    return merged


def compare(
    bundle: Bundle, ct: Path, reference: Path, class_map: Mapping[str, str], *, min_voxels: int = 200
) -> dict[str, Estimate]:
    """Run a bundle on a CT (NIfTI) and return the Dice per structure that the reference holds.

    Intervals come from drawing slices anew (``dice_of_case``).

    Raises
    ------
    InputError
        ``evaluation.grid`` when the reference lies on another grid than the CT.
    """
    volume, truth = read_nifti(ct), read_nifti(reference)
    if not volume.geometry.same_grid_as(truth.geometry, tolerance_mm=0.1):
        raise InputError(
            "evaluation.grid", "The reference lies on another grid than the CT.", "Give matching files."
        )
    merged = grouped(truth.voxels, class_map)
    answer = run_bundle(bundle, volume, backend="exact").labels
    if answer is None:
        raise InputError(
            "evaluation.task", f"{bundle.manifest.title} makes no label map.", "Choose a segmentation."
        )
    names = [s.label for s in THORAX_SEGMENTS]
    # "Body" has no counterpart in the reference: what the reference leaves out must not count as a miss.
    answer = np.where(answer == len(names), 0, answer).astype(np.uint8)
    found = dice_of_case(answer, merged, names)
    counts = np.bincount(merged.ravel(), minlength=len(names) + 1)
    return {name: found[name] for n, name in enumerate(names) if counts[n + 1] >= min_voxels}
