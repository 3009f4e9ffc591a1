"""Time points and derived objects, as one part of the engine's gateway."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from core.services.engine import Engine


class DerivedGateway(ABC):
    """Each method is one service call, on a worker thread."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The opened engine."""

    def load_time_point(self, series_key: str, time_point: int, cancel: CancelToken) -> Volume:
        """Read the voxels of one time point."""
        from core.services import load_volume

        return load_volume.load_volume(self.engine, series_key, time_point=time_point, cancel=cancel)

    def note_opened(self, study_uid: str) -> None:
        """Make an unread study one that is in progress."""
        from core.services import browse

        browse.note_opened(self.engine, study_uid)

    def source_of(self, series_key: str) -> SeriesSummary | None:
        """Return the series that a derived object lies over."""
        from core.services import derived_sources

        return derived_sources.source_of(self.engine, series_key)

    def find_image(self, image: SourceImage) -> tuple[SeriesSummary, int] | None:
        """Return the series that holds an image and its time point."""
        from core.services import derived_sources

        return derived_sources.find_image(self.engine, image)

    def derived_of(self, series_key: str) -> list[DerivedHeader]:
        """Return the objects made from a series."""
        from core.services import derived_objects

        return derived_objects.derived_of(self.engine, series_key)

    def open_derived(self, sop_instance_uid: str, over: Volume | None) -> DerivedObject:
        """Read an object for the displayed volume."""
        from core.services import derived_sources

        return derived_sources.open_over(self.engine, sop_instance_uid, over)

    def contours_as_segmentation(
        self, contours: StructureContours, geometry: VolumeGeometry
    ) -> DerivedSegmentation:
        """Return which voxels lie inside the contours."""
        from core.services import derived_objects

        return derived_objects.contours_as_segmentation(contours, geometry)

    def render_page(self, sop_instance_uid: str, page: int, width_px: int) -> NDArray[np.uint8]:
        """Draw a page of a document."""
        from core.services import derived_objects

        return derived_objects.render_page(self.engine, sop_instance_uid, page, width_px)
