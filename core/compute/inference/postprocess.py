"""Clean-up of a label map by the manifest's rules, on the series' grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.bundles.manifest import LabelRule, Postprocessing

Labels = NDArray[np.uint8]


def clean_labels(labels: Labels, rules: Postprocessing, voxel_volume_ml: float) -> Labels:
    """Apply the rules in place and return ``labels`` ``(K, J, I)``.

    Components are joined by faces (6 neighbours). A filled hole takes the label around it only where
    background was.
    """
    if rules.largest_foreground:
        _keep_largest_foreground(labels)
    for rule in rules.rules:
        _apply(labels, rule, voxel_volume_ml)
    return labels


def _apply(labels: Labels, rule: LabelRule, voxel_volume_ml: float) -> None:
    box = bounding_box(labels == rule.value)
    if box is None:
        return
    part = labels[box]
    mask = part == rule.value
    if rule.fill_holes:
        filled = ndimage.binary_fill_holes(mask)
        part[filled & (part == 0)] = rule.value
        mask = part == rule.value
    if rule.largest_component or rule.min_component_ml > 0:
        part[mask & ~_kept_components(mask, rule, voxel_volume_ml)] = 0


def _kept_components(mask: NDArray[np.bool_], rule: LabelRule, voxel_volume_ml: float) -> NDArray[np.bool_]:
    components, count = ndimage.label(mask)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes * voxel_volume_ml >= rule.min_component_ml
    if rule.largest_component:
        keep &= np.arange(count + 1) == int(sizes.argmax())
    keep[0] = False
    return np.asarray(keep[components], dtype=bool)


def _keep_largest_foreground(labels: Labels) -> None:
    components, count = ndimage.label(labels != 0)
    if count > 1:
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        labels[components != sizes.argmax()] = 0


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the smallest box of slices (k, j, i) that holds all True voxels; None when there is none."""
    slices = []
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(present) == 0:
            return None
        slices.append(slice(int(present[0]), int(present[-1]) + 1))
    return slices[0], slices[1], slices[2]
