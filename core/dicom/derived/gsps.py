"""Reads softcopy presentation states: how somebody looked at images and what they drew.

Source: DICOM PS3.3 A.33, C.10.4 (displayed area), C.10.5 (annotations), C.10.6 (rotation), C.11.8 (VOI).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.dicom.derived.dataset import Item, open_derived_file
from core.dicom.derived.identity import HEADER_TAGS, header_of, image_of, source_images, with_issues
from core.dicom.faults import translated
from core.domain.derived import Annotation, PresentationState, SourceImage
from core.domain.volume import SeriesIssue
from core.domain.window import Window

_ANNOTATIONS, _AREAS, _LAYERS, _VOI = 0x00700001, 0x0070005A, 0x00700060, 0x00283110
_IMAGES = 0x00081140
_NOT_DONE = {
    0x00181600: "display shutter",
    0x00181623: "bitmap display shutter",
    0x00283000: "modality look-up table",
    0x20500010: "presentation look-up table",
    0x00286100: "subtraction mask",
    0x00281201: "colour palette",
    0x00700402: "blending",
    0x0070120B: "blending",
    0x00700234: "graphic groups",
}
_OVERLAYS = frozenset(0x60003000 | plane << 17 for plane in range(16))
WANTED = (
    HEADER_TAGS
    | frozenset((_ANNOTATIONS, _AREAS, _LAYERS, _VOI, 0x00700041, 0x00700042, 0x20500020))
    | frozenset(_NOT_DONE)
    | _OVERLAYS
)
_SHAPES = frozenset(("POINT", "POLYLINE", "INTERPOLATED", "CIRCLE", "ELLIPSE"))
_CORNER = 0.5
"""Pixels from the corner of a pixel, where the standard counts from, to its centre. Source: PS3.3 C.10.5.1.2."""
MAX_ANNOTATIONS = 50_000
MAX_POINTS = 2_000_000

_Area = tuple[tuple[float, float], tuple[float, float]]


def read_presentation(path: Path) -> PresentationState:
    """Read a presentation state.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    with translated("Reading the presentation state"):
        file = open_derived_file(path, WANTED)
        data = file.data
        rotation = (data.integer(0x00700042) or 0) % 360
        images = source_images(data)
        areas = _areas(data)
        drawing = _Drawing(images, areas, rotation)
        drawing.read(data)
        windows, more = _windows(data)
        unsupported = [name for tag, name in _NOT_DONE.items() if tag in data]
        unsupported += ["overlay"] if any(tag in data for tag in _OVERLAYS) else []
        unsupported += more
        unsupported += sorted(drawing.unsupported)
        if rotation % 90:
            unsupported.append(f"rotation by {rotation} degrees")
            rotation = 0
        header = header_of(file)
        if unsupported:
            header = with_issues(header, _incomplete(unsupported))
        return PresentationState(
            header=header,
            images=images,
            annotations=tuple(drawing.annotations),
            windows=windows,
            inverted=data.text(0x20500020).upper() == "INVERSE",
            rotation_deg=rotation,
            flipped=data.text(0x00700041).upper() == "Y",
            unsupported=tuple(dict.fromkeys(unsupported)),
            displayed_areas={uid: _sorted_area(area) for uid, area in areas.items()},
        )


def _incomplete(unsupported: Sequence[str]) -> SeriesIssue:
    names = ", ".join(dict.fromkeys(unsupported))
    return SeriesIssue("gsps.incomplete", f"Not shown as its author saw it; left out: {names}.")


def _areas(data: Item) -> dict[str, _Area]:
    """Return the displayed area (top left, bottom right pixel, from 1) by image, ``""`` for all images."""
    areas: dict[str, _Area] = {}
    for item in data.items(_AREAS):
        low, high = item.numbers(0x00700052), item.numbers(0x00700053)
        if len(low) != 2 or len(high) != 2:
            continue
        area = ((low[0], low[1]), (high[0], high[1]))
        for uid in _uids(item):
            areas[uid] = area
    return areas


def _sorted_area(area: _Area) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) as pixel indices from 0."""
    (a, b), (c, d) = area
    return min(a, c) - 1, min(b, d) - 1, max(a, c) - 1, max(b, d) - 1


def _uids(item: Item) -> list[str]:
    """List the images an item is for; ``[""]`` when it is for all."""
    return [uid for reference in item.items(_IMAGES) if (uid := reference.text(0x00081155))] or [""]


def _windows(data: Item) -> tuple[Mapping[str, Window], list[str]]:
    """Return the windows by image, and what of the look-up tables isn't done."""
    windows: dict[str, Window] = {}
    not_done = []
    for item in data.items(_VOI):
        centers, widths = item.numbers(0x00281050), item.numbers(0x00281051)
        if 0x00283010 in item:
            not_done.append("VOI look-up table")
        function = item.text(0x00281056).upper()
        if function not in ("", "LINEAR"):
            not_done.append(f"VOI function {function[:16]}")
        if not centers or not widths or not widths[0] > 0:
            continue
        name = item.words(0x00281055)[:64]
        for uid in _uids(item):
            windows[uid] = Window(centers[0], widths[0], name)
    return windows, not_done


@dataclass
class _Drawing:
    """Annotations being collected."""

    images: Sequence[SourceImage]
    areas: Mapping[str, _Area]
    rotation: int
    annotations: list[Annotation] = field(default_factory=list)
    unsupported: set[str] = field(default_factory=set)
    points: int = 0

    def read(self, data: Item) -> None:
        """Read all annotations, the lowest layer first."""
        order = {item.text(0x00700002): item.integer(0x00700062) or 0 for item in data.items(_LAYERS)}
        items = sorted(data.items(_ANNOTATIONS), key=lambda item: order.get(item.text(0x00700002), 0))
        for item in items:
            named = tuple(image for r in item.items(_IMAGES) if (image := image_of(r)) is not None)
            if 0x00700209 in item:
                self.unsupported.add("compound graphics")
            for graphic in item.items(0x00700009):
                self._graphic(graphic, named or self.images, item.text(0x00700002))
            for text in item.items(0x00700008):
                self._text(text, named or self.images, item.text(0x00700002))

    def _graphic(self, item: Item, images: Sequence[SourceImage], layer: str) -> None:
        values = item.numbers(0x00700022)
        shape, units = item.text(0x00700023).upper(), item.text(0x00700005).upper()
        if shape not in _SHAPES or len(values) < 2 or len(values) % 2:
            self.unsupported.add(f"graphic {shape[:16].lower() or 'without a type'}")
            return
        points = [(values[n], values[n + 1]) for n in range(0, len(values), 2)]
        filled = item.text(0x00700024).upper() == "Y"
        self._add(images, units, points, shape.lower(), "", filled, layer)

    def _text(self, item: Item, images: Sequence[SourceImage], layer: str) -> None:
        text = item.words(0x00700006)
        low, high = item.numbers(0x00700010), item.numbers(0x00700011)
        anchor = item.numbers(0x00700014)
        if len(low) == 2 and len(high) == 2:
            points, units = [(low[0], low[1]), (high[0], high[1])], item.text(0x00700003)
        elif len(anchor) == 2:
            points, units = [(anchor[0], anchor[1])], item.text(0x00700004)
        else:
            self.unsupported.add("text without a place")
            return
        self._add(images, units.upper(), points, "text", text, False, layer)

    def _add(
        self,
        images: Sequence[SourceImage],
        units: str,
        points: Sequence[tuple[float, float]],
        shape: str,
        text: str,
        filled: bool,
        layer: str,
    ) -> None:
        for image in images:
            self.points += len(points)
            if len(self.annotations) >= MAX_ANNOTATIONS or self.points > MAX_POINTS:
                self.unsupported.add(f"annotations beyond {len(self.annotations)}")
                return
            placed = self._placed(units, points, image)
            if placed is None:
                self.unsupported.add("annotations relative to a displayed area that isn't stated")
                return
            self.annotations.append(Annotation(image, shape, placed, text, filled, layer))

    def _placed(
        self, units: str, points: Sequence[tuple[float, float]], image: SourceImage
    ) -> tuple[tuple[float, float], ...] | None:
        """Return points in pixels from the centre of the first pixel."""
        if units != "DISPLAY":
            return tuple((x - _CORNER, y - _CORNER) for x, y in points)
        area = self.areas.get(image.sop_instance_uid, self.areas.get(""))
        if area is None:
            return None
        return tuple(self._from_display(area, u, v) for u, v in points)

    def _from_display(self, area: _Area, u: float, v: float) -> tuple[float, float]:
        """Return the pixel at a fraction of the displayed area, which states its corners as they are displayed."""
        if self.rotation in (90, 270):
            u, v = v, u
        column, row = (
            _between(first, last, fraction)
            for first, last, fraction in zip(area[0], area[1], (u, v), strict=True)
        )
        return column, row


def _between(first: float, last: float, fraction: float) -> float:
    """Return the place at a fraction of the way from the outer edge of pixel ``first`` to that of ``last``."""
    # pixels count from 1: the centre of the first one is 0 for us
    start, end = (first - 1.5, last - 0.5) if first <= last else (first - 0.5, last - 1.5)
    return start + fraction * (end - start)
