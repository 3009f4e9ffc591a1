"""Distances between the surfaces of two masks, by two definitions that are named.

``"area"`` (the default) takes the surface between voxel centres, every place weighing as much as the area there: the
value doesn't hang on the sampling. ``"voxel"`` takes the outermost voxels of the mask, every voxel weighing the same:
what MONAI computes. A mask that has no counterpart is infinitely far away; it is never left out.

Source: S. Nikolov et al., J. Med. Internet Res. 2021, 23:e26151 (area-weighted distances, surface Dice);
MONAI 1.6 ``monai.metrics.utils`` (voxel definition).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from core.compute.evaluation.surface_elements import corners, element_sizes

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Definition = Literal["area", "voxel"]
_ROUNDING_MM = 1e-9
_MAP_BELOW = 8


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances (mm, float64) from each surface to the other, sorted, with the weight of each place.

    Both are empty when a mask is; ``state`` tells ``"both"`` present, ``"neither"``, or ``"one"`` only.
    """

    to_truth: Values
    weight_to_truth: Values
    to_predicted: Values
    weight_to_predicted: Values
    state: Literal["both", "neither", "one"]
    definition: Definition

    def hausdorff(self, percentile: float = 100.0) -> float:
        """Return the larger of both directions' percentile distance in mm; inf when one mask is empty.

        ``"area"``: the smallest distance within which that share of the area lies; ``"voxel"``: the linearly
        interpolated percentile over voxels, as numpy and MONAI have it.
        """
        if self.state != "both":
            return 0.0 if self.state == "neither" else float("inf")
        return max(
            self._percentile(self.to_truth, self.weight_to_truth, percentile),
            self._percentile(self.to_predicted, self.weight_to_predicted, percentile),
        )

    def mean(self) -> float:
        """Return the mean distance in mm over both surfaces together; inf when one mask is empty."""
        if self.state != "both":
            return 0.0 if self.state == "neither" else float("inf")
        total = self.weight_to_truth.sum() + self.weight_to_predicted.sum()
        away = self.to_truth @ self.weight_to_truth + self.to_predicted @ self.weight_to_predicted
        return float(away / total)

    def surface_dice(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces within ``tolerance_mm`` of the other; 1 when both masks are empty."""
        if self.state != "both":
            return 1.0 if self.state == "neither" else 0.0
        limit = tolerance_mm + _ROUNDING_MM
        near = self.weight_to_truth[self.to_truth <= limit].sum()
        near += self.weight_to_predicted[self.to_predicted <= limit].sum()
        return float(near / (self.weight_to_truth.sum() + self.weight_to_predicted.sum()))

    def _percentile(self, distances: Values, weights: Values, percentile: float) -> float:
        if self.definition == "voxel":
            return float(np.percentile(distances, percentile))
        share = np.cumsum(weights) / weights.sum()
        place = int(np.searchsorted(share, percentile / 100.0))
        return float(distances[min(place, len(distances) - 1)])


def surface_distances(
    predicted: Mask, truth: Mask, spacing_mm: tuple[float, ...], definition: Definition = "area"
) -> SurfaceDistances:
    """Measure two masks of the same grid against each other.

    Parameters
    ----------
    predicted, truth : numpy.ndarray
        Boolean, two or three axes.
    spacing_mm : tuple of float
        Distance of voxel centres along each axis, in the order of the axes.

    Raises
    ------
    ValueError
        When shapes or numbers of axes disagree.
    """
    predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
    if predicted.shape != truth.shape or predicted.ndim != len(spacing_mm):
        raise ValueError(
            f"masks of {predicted.shape} and {truth.shape} with spacing {spacing_mm} don't fit together"
        )
    any_p, any_t = bool(predicted.any()), bool(truth.any())
    if not (any_p and any_t):
        none = np.zeros(0)
        return SurfaceDistances(none, none, none, none, "one" if any_p or any_t else "neither", definition)
    box = ndimage.find_objects((predicted | truth).astype(np.uint8))[0]
    p, t = np.pad(predicted[box], 1), np.pad(truth[box], 1)
    if definition == "voxel":
        border_p, border_t = p & ~ndimage.binary_erosion(p), t & ~ndimage.binary_erosion(t)
        weight_p, weight_t = np.ones(int(border_p.sum())), np.ones(int(border_t.sum()))
    else:
        sizes = _sizes(tuple(float(s) for s in spacing_mm))
        code_p, code_t = _patterns(p), _patterns(t)
        full = len(sizes) - 1
        border_p, border_t = (code_p > 0) & (code_p < full), (code_t > 0) & (code_t < full)
        weight_p, weight_t = sizes[code_p[border_p]], sizes[code_t[border_t]]
    to_truth = _distances(border_p, border_t, spacing_mm)
    to_predicted = _distances(border_t, border_p, spacing_mm)
    a, b = np.argsort(to_truth, kind="stable"), np.argsort(to_predicted, kind="stable")
    return SurfaceDistances(to_truth[a], weight_p[a], to_predicted[b], weight_t[b], "both", definition)


def _distances(start: Mask, end: Mask, spacing_mm: tuple[float, ...]) -> Values:
    """Return the distance of each place of ``start`` to the nearest of ``end``, in the order of the array.

    A search tree over the places is faster than a distance map once the box is large; both are exact.
    """
    ends = np.argwhere(end)
    if start.size < _MAP_BELOW * (len(ends) + int(start.sum())):
        found: Values = ndimage.distance_transform_edt(~end, sampling=spacing_mm)[start]
        return found
    starts, scale = np.argwhere(start), np.asarray(spacing_mm)
    _, nearest = cKDTree(ends * scale).query(starts * scale)
    # From whole numbers of steps, as the map does it, so that both give the same digits.
    away: Values = np.linalg.norm((starts - ends[nearest]) * scale, axis=1)
    return away


@lru_cache(maxsize=16)
def _sizes(spacing_mm: tuple[float, ...]) -> Values:
    return element_sizes(spacing_mm)


def _patterns(mask: Mask) -> NDArray[np.uint8]:
    """Return the pattern of each cell between voxel centres; one less than the mask along each axis."""
    shape = tuple(n - 1 for n in mask.shape)
    found = np.zeros(shape, dtype=np.uint8)
    for bit, corner in enumerate(corners(mask.ndim)):
        part = mask[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))]
        found |= part.astype(np.uint8) << bit
    return found


def diagonal_mm(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> float:
    """Return the diagonal of an image in mm, what a missed structure's distance is replaced by in a mean."""
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_mm)))
