"""Contours in patient space as a label map of a grid."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.identity import with_issues
from core.dicom.derived.layers import LabelLayers, tight_box
from core.dicom.derived.polygons import PlaneFill
from core.dicom.faults import malformed
from core.domain.coding import CodedConcept
from core.domain.derived import DerivedSegmentation, RegionOfInterest, StructureContours
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.volume import SeriesIssue

MAX_CROSSINGS = 100_000_000
"""Edges times rows; contours of a long series have a thousandth of it."""
_FLAT = 0.5
"""Slices by which the points of one contour may lie apart and still be drawn on one slice."""
_IN_PLANE = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
"""For a plane across axis i, j or k: the axes that are its columns and rows."""


def contours_as_segmentation(contours: StructureContours, geometry: VolumeGeometry) -> DerivedSegmentation:
    """Return which voxels of a grid lie inside the closed contours of a structure set.

    A voxel belongs to a structure when its centre lies inside an odd number of the contours that are drawn on its
    slice. Nothing is invented on slices without contours. Contours may be drawn across any axis of the grid, but not
    obliquely to it: such contours are left out and counted by an issue.

    Parameters
    ----------
    contours : StructureContours
        The structures; the label of each is its place in ``regions``, from 1.
    geometry : VolumeGeometry
        The grid, usually that of the images.

    Raises
    ------
    InputError
        When the contours are too long to be filled (``derived.too_large``).
    EnvironmentFault
        When the memory doesn't suffice.
    """
    layers = LabelLayers(geometry.shape_kji, len(contours.regions))
    filling = _Filling(geometry, layers)
    for value, region in enumerate(contours.regions, start=1):
        filling.add(value, region)
    definitions = [_definition(value, region) for value, region in enumerate(contours.regions, start=1)]
    segmentations = []
    for n, array in enumerate(layers.arrays):
        values = set(layers.values_of(n))
        if n == 0:
            values |= {d.value for d in definitions} - filling.filled
        segmentations.append(
            Segmentation(geometry, array, tuple(d for d in definitions if d.value in values))
        )
    header = with_issues(contours.header, *filling.issues())
    return DerivedSegmentation(header, tuple(segmentations))


def _definition(value: int, region: RegionOfInterest) -> SegmentDefinition:
    kind = CodedConcept(region.interpreted_type, "", region.interpreted_type.lower())
    return SegmentDefinition(value, region.name, kind, CodedConcept("", "", ""), region.color_rgb)


class _Filling:
    """The layers being filled."""

    def __init__(self, geometry: VolumeGeometry, layers: LabelLayers) -> None:
        self._geometry = geometry
        self._layers = layers
        self.filled: set[int] = set()
        self._crossings = 0
        self._oblique = 0
        self._beyond = 0
        self._gaps: list[str] = []

    def add(self, value: int, region: RegionOfInterest) -> None:
        """Fill one structure."""
        planes: defaultdict[tuple[int, int], list[NDArray[np.float64]]] = defaultdict(list)
        for contour in region.contours:
            if not contour.closed:
                continue
            ijk = self._geometry.ijk_of(contour.points_lps_mm)
            axis = self._axis_across(ijk)
            if axis is None:
                self._oblique += 1
                continue
            plane = int(np.rint(np.median(ijk[:, axis])))
            if not 0 <= plane < self._geometry.shape_ijk[axis]:
                self._beyond += 1
                continue
            planes[axis, plane].append(ijk)
        for (axis, plane), polygons in planes.items():
            self._fill(value, axis, plane, polygons)
        self._note_gaps(region, planes.keys())

    def _axis_across(self, ijk: NDArray[np.float64]) -> int | None:
        """Return the axis across which a contour is flat; the slices' own axis if several are."""
        extent = np.ptp(ijk, axis=0)
        if extent[2] <= _FLAT:
            return 2
        axis = int(extent.argmin())
        return axis if extent[axis] <= _FLAT else None

    def _fill(self, value: int, axis: int, plane: int, polygons: list[NDArray[np.float64]]) -> None:
        column_axis, row_axis = _IN_PLANE[axis]
        sizes = self._geometry.shape_ijk
        fill = PlaneFill(sizes[row_axis], sizes[column_axis])
        for ijk in polygons:
            fill.add(ijk[:, (column_axis, row_axis)])
            self._crossings += fill.crossings
            if self._crossings > MAX_CROSSINGS:
                raise malformed("The contours run to and fro without end.", "derived.too_large")
            fill.crossings = 0
        found = fill.mask()
        if found is None:
            return
        rows, mask = found
        if axis == 2:
            self._put(value, plane, rows, mask)
            return
        # Across another axis: the plane is a line of pixels in each slice (rows of the plane are slices).
        for k in range(rows.start, rows.stop):
            line = mask[k - rows.start]
            if axis == 1:
                self._put(value, k, slice(plane, plane + 1), line[None, :])
            else:
                self._put(value, k, slice(0, len(line)), line[:, None], slice(plane, plane + 1))

    def _put(
        self, value: int, k: int, rows: slice, mask: NDArray[np.bool_], columns: slice | None = None
    ) -> None:
        box = tight_box(mask)
        if box is None:
            return
        first_column = columns.start if columns is not None else 0
        inner_rows, inner_columns = box
        self.filled.add(value)
        self._layers.add(
            value,
            k,
            slice(rows.start + inner_rows.start, rows.start + inner_rows.stop),
            slice(first_column + inner_columns.start, first_column + inner_columns.stop),
            mask[box],
        )

    def _note_gaps(self, region: RegionOfInterest, planes: object) -> None:
        slices = sorted(plane for axis, plane in planes if axis == 2)  # type: ignore[attr-defined]
        if len(slices) > 2 and float(np.median(np.diff(slices))) > 1:
            self._gaps.append(region.name)

    def issues(self) -> list[SeriesIssue]:
        """Return what could not be filled."""
        issues = []
        if self._oblique:
            issues.append(
                SeriesIssue(
                    "rtstruct.oblique_contours",
                    f"{self._oblique} contours are drawn obliquely to the slices and are left out of the label map.",
                )
            )
        if self._beyond:
            issues.append(
                SeriesIssue("derived.outside_grid", f"{self._beyond} contours lie beyond these images.")
            )
        if self._gaps:
            issues.append(
                SeriesIssue(
                    "rtstruct.slices_between",
                    f"{len(self._gaps)} structures are drawn on every second slice or fewer; the slices between them "
                    f"stay empty.",
                    blocks_volumetry=True,
                )
            )
        return issues
