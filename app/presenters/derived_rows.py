"""From an object of an archive to what the section lists, what lies over the pictures and what a pane shows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from app.presenters.shown_objects import ShownObject
from app.presenters.wording import count_in_words, volume_in_words
from core.domain.derived import (
    DerivedHeader,
    DerivedObject,
    DerivedSegmentation,
    Document,
    FractionalSegment,
    KeyObjects,
    ParametricMap,
    PresentationState,
    ReportItem,
    ReportMeasurement,
    ReportPlace,
    SourceImage,
    StructureContours,
    StructuredReport,
)
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation
from core.domain.study import ObjectKind
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.objects import ValueMap, marks_of_annotations, planar_contours, value_map, volumes_ml
from core.render.palette import Rgb, safe_colors

KIND_WORDS = {
    ObjectKind.SEGMENTATION: "Segments",
    ObjectKind.STRUCTURE_SET: "Contours",
    ObjectKind.REPORT: "Report",
    ObjectKind.PRESENTATION: "Presentation",
    ObjectKind.KEY_OBJECTS: "Key images",
    ObjectKind.PARAMETRIC_MAP: "Parametric map",
    ObjectKind.DOCUMENT: "Document",
    ObjectKind.UNKNOWN: "Object",
}
WITH_PANE = {ObjectKind.REPORT, ObjectKind.KEY_OBJECTS, ObjectKind.DOCUMENT}
_LITTLE = 0.5
_IDENTIFIER = "UIDREF"
Lps = tuple[float, float, float]
Rasterise = Callable[[StructureContours, VolumeGeometry], DerivedSegmentation]


@dataclass(frozen=True)
class PartRow:
    """A segment or region of an object; ``place`` is a voxel of it in the patient, None when it has none."""

    value: int
    name: str
    color: Rgb
    detail: str = ""
    visible: bool = True
    place: Lps | None = None


@dataclass(frozen=True)
class ObjectRow:
    """An object as a line: what it is, who made it and when. ``state`` is ``""``, ``"loading"`` or ``"failed"``."""

    uid: str
    kind: ObjectKind
    title: str
    detail: str
    shown: bool = False
    state: str = ""
    words: str = ""
    parts: tuple[PartRow, ...] = ()
    date: str = ""


@dataclass(frozen=True)
class PaneLine:
    """A line of a report or of a list of key images; ``target`` is what a click goes to, or -1."""

    depth: int
    name: str
    value: str = ""
    target: int = -1


@dataclass(frozen=True)
class MeasureLine:
    """A measurement of a report."""

    name: str
    value: str
    where: str = ""
    target: int = -1


@dataclass(frozen=True)
class Target:
    """Where a click in a pane leads: places with the words that stand beside them, or images."""

    words: str = ""
    places: tuple[ReportPlace, ...] = ()
    images: tuple[SourceImage, ...] = ()


@dataclass(frozen=True)
class Pane:
    """A readable object beside the pictures. ``pages`` is 0 where there are none; ``page`` counts from 0."""

    uid: str
    kind: ObjectKind
    title: str
    detail: str
    cautions: tuple[str, ...] = ()
    lines: tuple[PaneLine, ...] = ()
    measurements: tuple[MeasureLine, ...] = ()
    pages: int = 0
    page: int = 0
    zoom: float = 1.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """An object, read and made ready for one series."""

    content: DerivedObject
    shown: ShownObject | None = None
    parts: tuple[PartRow, ...] = ()
    fractional: tuple[FractionalSegment, ...] = ()
    words: str = ""
    pane: Pane | None = None
    targets: tuple[Target, ...] = ()
    window: Window | None = None
    inverted: bool | None = None


def row_of(header: DerivedHeader) -> ObjectRow:
    """Return an object's line before it is read."""
    kind = KIND_WORDS.get(header.kind, "Object")
    label = _title(header)
    title = f"{kind} · {label}" if label and label.casefold() != kind.casefold() else kind
    detail = " · ".join(part for part in (header.maker or "maker not stated", header.created) if part)
    words, date = _issue_words(header), header.created[:10]
    return ObjectRow(header.sop_instance_uid, header.kind, title, detail, words=words, date=date)


def _issue_words(header: DerivedHeader) -> str:
    return " ".join(issue.message for issue in header.issues)


def prepare(content: DerivedObject, volume: Volume | None, rasterise: Rasterise) -> Prepared:
    """Make an object ready for the open series; not for the GUI thread.

    Without a volume only what has a pane can be prepared.
    """
    if isinstance(content, StructuredReport):
        return _report(content)
    if isinstance(content, KeyObjects):
        return _key_images(content)
    if isinstance(content, Document):
        return _document(content)
    if volume is None:
        return Prepared(content, words="The series that it was made from isn't open.")
    if isinstance(content, DerivedSegmentation):
        return _segments(content, volume)
    if isinstance(content, StructureContours):
        return _contours(content, volume, rasterise)
    if isinstance(content, ParametricMap):
        return _map(content, volume)
    return _presentation(content, volume)


# -- over the pictures ---------------------------------------------------------------------------------


def _segments(content: DerivedSegmentation, volume: Volume) -> Prepared:
    header = content.header
    definitions = [segment for layer in content.layers for segment in layer.segments]
    colors = safe_colors(definitions)
    parts = [part for layer in content.layers for part in _parts(layer, colors, volume)]
    words = [_issue_words(header)]
    if content.outside_voxels:
        words.append(f"{content.outside_voxels} voxels lie outside of this series and aren't shown.")
    shown = ShownObject(header.sop_instance_uid, _title(header), segmentations=content.layers, colors=colors)
    shown = replace(shown, values=fraction_map(content.fractional, frozenset()))
    return Prepared(content, shown, tuple(parts), content.fractional, " ".join(w for w in words if w))


def _contours(content: StructureContours, volume: Volume, rasterise: Rasterise) -> Prepared:
    raster = rasterise(content, volume.geometry)
    lines = planar_contours(content, volume.geometry)
    definitions = [segment for layer in raster.layers for segment in layer.segments]
    numbers = {region.number: place for place, region in enumerate(content.regions, 1)}
    colors = safe_colors(definitions)
    parts = tuple(part for layer in raster.layers for part in _parts(layer, colors, volume))
    # Lines count regions in their order; the label maps may count by ROI Number.
    by_name = {definition.label: definition.value for definition in definitions}
    value_of = {
        place: by_name.get(region.name, numbers.get(region.number, place))
        for place, region in enumerate(content.regions, 1)
    }
    exact = {
        k: tuple(replace(contour, value=value_of[contour.value]) for contour in here)
        for k, here in lines.items()
    }
    drawn = sum(len(here) for here in exact.values())
    total = sum(len(region.contours) for region in content.regions)
    words = [_issue_words(content.header)]
    if drawn < total:
        left = total - drawn
        words.append(f"{left} of {total} contours lie on no slice of this series.")
    shown = ShownObject(
        content.header.sop_instance_uid,
        _title(content.header),
        segmentations=raster.layers,
        outlines_native=False,
        contours=exact,
        colors=colors,
    )
    return Prepared(content, shown, parts, words=" ".join(w for w in words if w))


def _map(content: ParametricMap, volume: Volume) -> Prepared:
    title = content.quantity or content.header.label or "Parametric map"
    values = value_map(content.values, content.geometry, volume.geometry, title, content.unit)
    shown = ShownObject(content.header.sop_instance_uid, _title(content.header), values=values)
    words = [_issue_words(content.header)]
    covered = float(np.isfinite(values.values).mean())
    if covered < _LITTLE:
        words.append(f"The map covers {covered * 100:.1f} % of the pictures.")
    return Prepared(content, shown, words=" ".join(w for w in words if w))


def _presentation(content: PresentationState, volume: Volume) -> Prepared:
    words = [_issue_words(content.header)]
    if any(volume.sop_instance_uids) and any(
        issue.code in ("geometry.shear_corrected", "geometry.resampled") for issue in volume.issues
    ):
        marks = {}
        words.append(
            "Its graphics are not shown: they belong to the pictures as acquired, which were resampled."
        )
    else:
        marks = marks_of_annotations(volume, content.annotations)
    present = set(volume.sop_instance_uids)
    missed = sum(annotation.image.sop_instance_uid not in present for annotation in content.annotations)
    if missed:
        words.append(
            f"{count_in_words(missed, 'graphic lies', 'graphics lie')} on images that aren't displayed."
        )
    if content.rotation_deg or content.flipped:
        words.append("Its author had turned or mirrored the pictures; they are shown unturned here.")
    if content.unsupported:
        words.append(f"Not shown: {', '.join(content.unsupported)}.")
    window = content.windows.get("") or next(
        (content.windows[uid] for uid in volume.sop_instance_uids if uid in content.windows), None
    )
    if window is not None and not window.name:
        window = replace(window, name="As presented")
    shown = ShownObject(content.header.sop_instance_uid, _title(content.header), marks=marks)
    return Prepared(
        content, shown, words=" ".join(w for w in words if w), window=window, inverted=content.inverted
    )


def fraction_map(fractional: Iterable[FractionalSegment], hidden: frozenset[int]) -> ValueMap | None:
    """Return the largest fraction of the visible segments as a map from 0 to 1."""
    visible = [segment for segment in fractional if segment.definition.value not in hidden]
    if not visible:
        return None
    values = visible[0].fraction
    for segment in visible[1:]:
        values = np.maximum(values, segment.fraction)
    return ValueMap(values, 0.0, 1.0, visible[0].meaning.lower() or "fraction")


def _parts(layer: Segmentation, colors: dict[int, Rgb], volume: Volume) -> list[PartRow]:
    sizes = volumes_ml(layer.labels, layer.geometry.voxel_volume_ml, [s.value for s in layer.segments])
    places = _places(layer)
    rows = []
    for segment in layer.segments:
        size = sizes[segment.value]
        detail = volume_in_words(size) if size and volume.allows_volumetry else "" if size else "empty"
        if size and not volume.allows_volumetry:
            detail = "volume unsafe"
        color = colors.get(segment.value, segment.color_rgb)
        rows.append(PartRow(segment.value, segment.label, color, detail, True, places.get(segment.value)))
    return rows


def _places(layer: Segmentation) -> dict[int, Lps]:
    """A voxel of each segment, in the slice that holds most of it."""
    top = max((s.value for s in layer.segments), default=0) + 1
    counts = np.stack([np.bincount(plane.reshape(-1), minlength=top)[:top] for plane in layer.labels])
    found: dict[int, Lps] = {}
    for segment in layer.segments:
        k = int(counts[:, segment.value].argmax())
        rows, columns = np.nonzero(layer.labels[k] == segment.value)
        if rows.size:
            middle = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
            at = int(middle.argmin())
            x, y, z = layer.geometry.lps_of([(float(columns[at]), float(rows[at]), float(k))])[0]
            found[segment.value] = (float(x), float(y), float(z))
    return found


def _title(header: DerivedHeader) -> str:
    """The description, which people write, rather than the label, which is often a code."""
    return header.description or header.label or KIND_WORDS.get(header.kind, "Object")


# -- beside the pictures -------------------------------------------------------------------------------


def _pane(header: DerivedHeader, title: str, cautions: tuple[str, ...] = ()) -> Pane:
    issues = tuple(issue.message for issue in header.issues)
    detail = " · ".join(part for part in (header.maker or "maker not stated", header.created) if part)
    return Pane(header.sop_instance_uid, header.kind, title, detail, (*cautions, *issues))


def _report(content: StructuredReport) -> Prepared:
    targets: list[Target] = []

    def target(item: ReportItem | ReportMeasurement, words: str) -> int:
        images = item.images if isinstance(item, ReportItem) else ()
        if not item.places and not images:
            return -1
        targets.append(Target(words, item.places, images))
        return len(targets) - 1

    lines = tuple(
        PaneLine(
            item.depth, item.name, _with_unit(item.value, item.unit), target(item, item.value or item.name)
        )
        for item in content.items
        if item.value_type != _IDENTIFIER
    )
    measurements = tuple(
        MeasureLine(
            m.name,
            _with_unit(f"{m.value:g}", m.unit),
            " · ".join(dict.fromkeys(part for part in (m.finding, m.site, m.tracking_id) if part)),
            target(m, f"{m.name} {_with_unit(f'{m.value:g}', m.unit)}"),
        )
        for m in content.measurements
    )
    cautions = tuple(
        words
        for words, wanted in (
            ("The report is partial: its author had not completed it.", not content.complete),
            ("Nobody has verified it.", not content.verified),
        )
        if wanted
    )
    pane = replace(
        _pane(content.header, content.title or "Report", cautions), lines=lines, measurements=measurements
    )
    return Prepared(content, words=_issue_words(content.header), pane=pane, targets=tuple(targets))


def _with_unit(value: str, unit: str) -> str:
    text = f"{value} {unit}" if unit and unit not in ("1", "{ratio}") else value
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _key_images(content: KeyObjects) -> Prepared:
    lines: list[PaneLine] = []
    targets: list[Target] = []
    if content.description:
        lines.append(PaneLine(0, content.description))
    for number, image in enumerate(content.images, 1):
        frames = f"frame {', '.join(str(n) for n in image.frames)}" if image.frames else ""
        lines.append(PaneLine(0, f"Key image {number} of {len(content.images)}", frames, len(targets)))
        targets.append(Target(f"key image {number}", images=(image,)))
    pane = replace(_pane(content.header, content.title or "Key images"), lines=tuple(lines))
    return Prepared(content, words=_issue_words(content.header), pane=pane, targets=tuple(targets))


def _document(content: Document) -> Prepared:
    title = content.title or content.header.label or "Document"
    pane = replace(_pane(content.header, title), pages=content.pages)
    return Prepared(content, words=_issue_words(content.header), pane=pane)


@dataclass(frozen=True)
class ObjectsState:
    """What the section lists; ``hidden`` says that everything is taken off the pictures for now.

    ``veiled``: who the patients are is hidden, so that reports and documents, which may name them, aren't shown.
    """

    rows: tuple[ObjectRow, ...] = ()
    hidden: bool = False
    pane: Pane | None = None
    message: str = ""
    chosen: int = -1
    veiled: bool = False

    @property
    def lines(self) -> tuple[ObjectRow, ...]:
        """The rows as they may be seen: without labels and makers, which may name people, while identity is hidden."""
        if not self.veiled:
            return self.rows
        return tuple(
            replace(row, title=KIND_WORDS.get(row.kind, "Object"), detail=row.date) for row in self.rows
        )
