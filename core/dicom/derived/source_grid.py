"""The grid that a series is displayed on, found from its headers without decoding a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.dicom.assemble import of_time_point
from core.dicom.derived.grid import TargetGrid
from core.dicom.faults import malformed, translated
from core.dicom.layout import Layout, lay_out
from core.dicom.part10 import NotDicom
from core.dicom.reading import IsDicomdir, recall_header
from core.dicom.shear import needs_straightening, straightened
from core.domain.geometry import VolumeGeometry
from core.domain.study import InstanceRef, SeriesSummary
from core.domain.volume import Volume


def grid_of_files(
    instances: Sequence[InstanceRef], summary: SeriesSummary, *, time_point: int = 0, correct: bool = True
) -> TargetGrid:
    """Return the grid of a series as ``load_volume`` gives it with the same ``time_point`` and ``correct``.

    Raises
    ------
    AppError
        When a file is gone, damaged or no longer the one that was imported.
    """
    with translated("Reading the headers of the images"):
        try:
            headers = [recall_header(i.file) for i in of_time_point(instances, summary, time_point)]
        except (NotDicom, IsDicomdir):
            raise malformed("A file of the series is no longer a DICOM file.", "dicom.not_dicom") from None
        if not headers:
            raise malformed("The series has no images.", "series.empty")
        layout = lay_out(headers, time_point)
        one_number = layout.mosaic is not None
        volume = Volume(
            geometry=_narrow(layout.geometry),
            voxels=np.zeros((layout.geometry.shape_kji[0], 1, 1), dtype=np.uint8),
            modality=summary.modality,
            series_uid=summary.series_uid,
            sop_instance_uids=tuple(headers[n].sop_instance_uid for n, _ in layout.frames),
            frame_numbers=tuple(1 if one_number else f for _, f in layout.frames),
        )
        geometry = layout.geometry
        if correct and needs_straightening(geometry, layout.positions_mm) and headers[0].samples == 1:
            volume, geometry = _straight(volume, layout)
        return TargetGrid(
            geometry, summary.series_uid, volume.sop_instance_uids, volume.frame_numbers, layout.positioned
        )


def _straight(volume: Volume, layout: Layout) -> tuple[Volume, VolumeGeometry]:
    """Straighten one voxel of each slice: the grid begins at the same place and grows by as much as the whole does."""
    assert layout.positions_mm is not None
    upright = straightened(volume, layout.positions_mm)
    slices, rows, columns = upright.geometry.shape_kji
    _, own_rows, own_columns = layout.geometry.shape_kji
    shape = (slices, rows - 1 + own_rows, columns - 1 + own_columns)
    frame = layout.geometry.frame_of_reference_uid
    return upright, VolumeGeometry(shape, upright.geometry.lps_from_ijk, frame)


def _narrow(geometry: VolumeGeometry) -> VolumeGeometry:
    """Return the grid of the first voxel of each slice."""
    return VolumeGeometry(
        (geometry.shape_kji[0], 1, 1), geometry.lps_from_ijk, geometry.frame_of_reference_uid
    )
