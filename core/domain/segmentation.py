"""Label maps and the meaning of their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.domain.coding import CodedConcept
from core.domain.geometry import VolumeGeometry


@dataclass(frozen=True)
class SegmentDefinition:
    """What one value of a label map stands for.

    ``value`` is the voxel value (≥ 1), ``code`` the property type (SNOMED CT), ``category`` the property
    category, ``color_rgb`` the recommended display colour (0…255, sRGB).
    """

    value: int
    label: str
    code: CodedConcept
    category: CodedConcept
    color_rgb: tuple[int, int, int]
    anatomic_region: CodedConcept | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label map on the grid of its source series.

    Attributes
    ----------
    geometry : VolumeGeometry
        Grid of the label map.
    labels : numpy.ndarray
        ``(K, J, I)`` uint8 or uint16; 0 is background. Read-only.
    segments : tuple of SegmentDefinition
        One per value that may occur.
    """

    geometry: VolumeGeometry
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    segments: tuple[SegmentDefinition, ...]

    def __post_init__(self) -> None:
        if self.labels.shape != self.geometry.shape_kji:
            raise ValueError(f"labels {self.labels.shape} do not match the grid {self.geometry.shape_kji}")
        self.labels.flags.writeable = False

    def definition(self, value: int) -> SegmentDefinition:
        """Return the definition of a label value; raises KeyError when there is none."""
        for segment in self.segments:
            if segment.value == value:
                return segment
        raise KeyError(value)
