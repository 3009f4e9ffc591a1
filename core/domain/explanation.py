"""Heat maps in patient space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model looked, on a grid in patient space.

    Attributes
    ----------
    heat : numpy.ndarray
        ``(K, J, I)`` float32 in 0…1, read-only, on ``geometry`` (the source series' grid).
    resolution_mm : tuple of float
        Size along (i, j, k) of one cell of the layer that the map comes from: finer detail is interpolation.
    randomisation_correlation : float or None
        Spearman correlation between this map and the map of the same network with randomised weights; high
        values mean that the map does not depend on what was learnt. Source: Adebayo et al. 2018.
    sanity_passed : bool or None
        Whether that correlation is below the threshold.
    pointing_game : bool or None
        Whether the maximum lies inside the class's segment, where one exists.
    """

    geometry: VolumeGeometry
    heat: NDArray[np.float32]
    method: str
    class_label: str
    layer: str
    resolution_mm: tuple[float, float, float]
    randomisation_correlation: float | None = None
    sanity_passed: bool | None = None
    pointing_game: bool | None = None

    def __post_init__(self) -> None:
        if self.heat.shape != self.geometry.shape_kji:
            raise ValueError(f"heat {self.heat.shape} does not match the grid {self.geometry.shape_kji}")
        self.heat.flags.writeable = False
