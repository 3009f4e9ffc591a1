"""What the pictures need from the engine beyond a series' voxels: time points, and objects made from series."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.domain.derived import (
    DerivedHeader,
    DerivedObject,
    DerivedSegmentation,
    SourceImage,
    StructureContours,
)
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken
from core.domain.study import SeriesSummary
from core.domain.volume import Volume


class DerivedEngine(Protocol):
    """Services of the reading area; every method blocks."""

    def load_time_point(self, series_key: str, time_point: int, cancel: CancelToken) -> Volume:
        """Read the voxels of one time point of a 4-D series, counted from 0."""

    def note_opened(self, study_uid: str) -> None:
        """Record that somebody reads the study: an unread one is then in progress."""

    def source_of(self, series_key: str) -> SeriesSummary | None:
        """Return the series that a derived object lies over, or None when the library doesn't have it."""

    def find_image(self, image: SourceImage) -> tuple[SeriesSummary, int] | None:
        """Return the series that holds an image and its time point, or None when the library doesn't have it."""

    def derived_of(self, series_key: str) -> list[DerivedHeader]:
        """Return the objects made from a series, or the objects that a derived series holds."""

    def open_derived(self, sop_instance_uid: str, over: Volume | None) -> DerivedObject:
        """Read an object; segments come on the grid of the displayed volume."""

    def contours_as_segmentation(
        self, contours: StructureContours, geometry: VolumeGeometry
    ) -> DerivedSegmentation:
        """Return which voxels of a grid lie inside the contours."""

    def render_page(self, sop_instance_uid: str, page: int, width_px: int) -> NDArray[np.uint8]:
        """Draw a page of a document, counted from 0, as ``(H, W, 3)`` RGB."""
