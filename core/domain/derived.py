"""Objects derived from images, as a reader sees them over their source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.study import ObjectKind
from core.domain.volume import SeriesIssue
from core.domain.window import Window

Point = tuple[float, float, float]


@dataclass(frozen=True)
class SourceImage:
    """An image that an object refers to; ``frames`` (from 1) empty means all of them."""

    sop_instance_uid: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class DerivedHeader:
    """What every derived object says of itself.

    ``label`` is its short name, ``maker`` the person, device or algorithm, ``created`` ``YYYY-MM-DD HH:MM`` or
    shorter. ``source_series`` are Series Instance UIDs. ``issues`` must be known before the object is relied on.
    """

    kind: ObjectKind
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    label: str = ""
    description: str = ""
    maker: str = ""
    created: str = ""
    source_series: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    issues: tuple[SeriesIssue, ...] = ()


@dataclass(frozen=True, eq=False)
class FractionalSegment:
    """A segment given as probability or occupancy: ``fraction`` is ``(K, J, I)`` float32 in 0…1, read-only."""

    definition: SegmentDefinition
    fraction: NDArray[np.float32]
    meaning: str


@dataclass(frozen=True, eq=False)
class DerivedSegmentation:
    """A DICOM SEG on the grid of the series it is shown over.

    ``layers`` are label maps that don't overlap within themselves; one is enough unless segments overlap.
    Fractional segments are in the layers too, where they reach one half. ``outside_voxels`` counts segment voxels
    that lie beyond the grid.
    """

    header: DerivedHeader
    layers: tuple[Segmentation, ...]
    fractional: tuple[FractionalSegment, ...] = ()
    outside_voxels: int = 0


@dataclass(frozen=True, eq=False)
class Contour:
    """``points_lps_mm`` is ``(N, 3)`` float64 in LPS millimetres, read-only; an open contour isn't filled."""

    points_lps_mm: NDArray[np.float64]
    closed: bool = True
    sop_instance_uid: str = ""


@dataclass(frozen=True)
class RegionOfInterest:
    """One structure of an RTSTRUCT. Contours of one plane that lie within each other are holes (XOR)."""

    number: int
    name: str
    color_rgb: tuple[int, int, int]
    interpreted_type: str = ""
    contours: tuple[Contour, ...] = ()


@dataclass(frozen=True)
class StructureContours:
    """An RTSTRUCT."""

    header: DerivedHeader
    regions: tuple[RegionOfInterest, ...]


@dataclass(frozen=True)
class ReportPlace:
    """Where an item of a report lies: in the patient (``points_lps_mm``) or on an image (``points_ij``).

    ``shape`` is the graphic type of PS3.3 C.18.6 or C.18.9 in lower case; ``points_ij`` are (column, row) with the
    centre of the first pixel at (0, 0).
    """

    shape: str
    points_lps_mm: tuple[Point, ...] = ()
    image: SourceImage | None = None
    points_ij: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class ReportItem:
    """One content item of a structured report as a line; ``depth`` 0 is directly below the title."""

    depth: int
    name: str
    value: str = ""
    unit: str = ""
    value_type: str = ""
    places: tuple[ReportPlace, ...] = ()
    images: tuple[SourceImage, ...] = ()


@dataclass(frozen=True)
class ReportMeasurement:
    """A measurement of a report: what, how much, where."""

    name: str
    value: float
    unit: str
    site: str = ""
    tracking_id: str = ""
    finding: str = ""
    places: tuple[ReportPlace, ...] = ()


@dataclass(frozen=True)
class StructuredReport:
    """An SR document; ``verified`` is its verification flag."""

    header: DerivedHeader
    title: str
    items: tuple[ReportItem, ...]
    measurements: tuple[ReportMeasurement, ...] = ()
    template: str = ""
    complete: bool = False
    verified: bool = False


@dataclass(frozen=True)
class Annotation:
    """A graphic or text of a presentation state, on one image.

    ``points_ij`` are (column, row) in pixels from the centre of the first pixel. ``shape`` is ``"point"``,
    ``"polyline"``, ``"interpolated"``, ``"circle"``, ``"ellipse"`` or ``"text"``. A circle is its centre and a point on
    it, an ellipse the ends of its long and then of its short axis; a text has the corners of its box, or one point.
    """

    image: SourceImage
    shape: str
    points_ij: tuple[tuple[float, float], ...]
    text: str = ""
    filled: bool = False
    layer: str = ""


@dataclass(frozen=True)
class PresentationState:
    """A GSPS: how its author looked at images.

    ``windows`` and ``displayed_areas`` are by SOP Instance UID, ``""`` stands for all images. An area is (left, top,
    right, bottom) in pixels, from 0 and inclusive. The picture is rotated clockwise first, then flipped horizontally.
    """

    header: DerivedHeader
    images: tuple[SourceImage, ...]
    annotations: tuple[Annotation, ...] = ()
    windows: Mapping[str, Window] = field(default_factory=dict)
    inverted: bool = False
    rotation_deg: int = 0
    flipped: bool = False
    unsupported: tuple[str, ...] = ()
    displayed_areas: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyObjects:
    """A key object selection: images that somebody marked, and why."""

    header: DerivedHeader
    title: str
    description: str
    images: tuple[SourceImage, ...]


@dataclass(frozen=True, eq=False)
class ParametricMap:
    """Real-world values in patient space: ``values`` is ``(K, J, I)`` float32, read-only, on ``geometry``."""

    header: DerivedHeader
    quantity: str
    unit: str
    geometry: VolumeGeometry
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Document:
    """An encapsulated document; its pages are drawn one at a time."""

    header: DerivedHeader
    title: str
    media_type: str
    pages: int


DerivedObject = (
    DerivedSegmentation
    | StructureContours
    | StructuredReport
    | PresentationState
    | KeyObjects
    | ParametricMap
    | Document
)
