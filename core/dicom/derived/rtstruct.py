"""Reads an RT Structure Set: named contours in patient space. Source: DICOM PS3.3 A.19, C.8.8.5, C.8.8.6, C.8.8.8."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.colors import palette_color
from core.dicom.derived.dataset import Item, open_derived_file
from core.dicom.derived.grid import TargetGrid, check_frame_of_reference
from core.dicom.derived.identity import (
    HEADER_TAGS,
    header_of,
    source_images,
    source_series,
    with_issues,
)
from core.dicom.faults import malformed, translated
from core.domain.derived import Contour, RegionOfInterest, StructureContours
from core.domain.volume import SeriesIssue

WANTED = HEADER_TAGS | frozenset((0x30060020, 0x30060039, 0x30060080))
MAX_POINTS = 20_000_000
MAX_CONTOURS = 500_000
_CLOSED = frozenset(("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"))
_FARTHEST_MM = 1e5


def read_structures(path: Path, target: TargetGrid | None = None) -> StructureContours:
    """Read a structure set.

    Parameters
    ----------
    target : TargetGrid or None
        The images that it is to be shown over; its frame of reference and images are compared.

    Raises
    ------
    InputError
        When the object is damaged.
    SafetyError
        When it lies in another frame of reference than the target.
    """
    with translated("Reading the structure set"):
        file = open_derived_file(path, WANTED)
        data = file.data
        reading = _Reading(data)
        regions = reading.regions()
        header = header_of(file)
        issues = reading.issues()
        if target is not None:
            images = source_images(data)
            issues += check_frame_of_reference(
                header.frame_of_reference_uid, target, source_series(data), images
            )
            issues += _dangling(regions, {i.sop_instance_uid for i in images}, target)
        return StructureContours(with_issues(header, *issues), regions)


@dataclass
class _Reading:
    """One structure set being read."""

    data: Item
    points: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def regions(self) -> tuple[RegionOfInterest, ...]:
        """Return all structures, those without contours too."""
        types: dict[int, str] = {}
        for item in self.data.items(0x30060080):
            number = item.integer(0x30060084)
            if number is not None:
                types.setdefault(number, item.text(0x300600A4))
        contours: dict[int, Item] = {}
        for item in self.data.items(0x30060039):
            number = item.integer(0x30060084)
            if number is None or number in contours:
                self.faults["rtstruct.contours_without_structure"] += 1
            else:
                contours[number] = item
        referenced = self.data.first(0x30060010)
        frame = referenced.text(0x00200052) if referenced is not None else ""
        found: dict[int, RegionOfInterest] = {}
        for item in self.data.items(0x30060020):
            number = item.integer(0x30060022)
            if number is None or number in found:
                raise malformed(
                    "An ROI Number (3006,0022) is missing or twice there.", "rtstruct.invalid_structures"
                )
            drawn = contours.pop(number, None)
            own_frame = item.text(0x30060024)
            if frame and own_frame and own_frame != frame and drawn is not None:
                self.faults["rtstruct.several_frames"] += 1
                drawn = None
            found[number] = self._region(item, number, drawn, types.get(number, ""))
        self.faults["rtstruct.contours_without_structure"] += len(contours)
        return tuple(found.values())

    def _region(self, item: Item, number: int, drawn: Item | None, kind: str) -> RegionOfInterest:
        rgb = drawn.numbers(0x3006002A) if drawn is not None else ()
        red, green, blue = (
            (int(v) for v in rgb)
            if len(rgb) == 3 and all(0 <= v <= 255 for v in rgb)
            else palette_color(number - 1)
        )
        return RegionOfInterest(
            number,
            item.words(0x30060026)[:200] or f"structure {number}",
            (red, green, blue),
            kind,
            self._contours(drawn) if drawn is not None else (),
        )

    def _contours(self, drawn: Item) -> tuple[Contour, ...]:
        items = drawn.items(0x30060040)
        if len(items) > MAX_CONTOURS:
            raise malformed(f"A structure has {len(items)} contours.", "derived.too_large")
        read = (self._contour(item) for item in items)
        return tuple(contour for contour in read if contour is not None)

    def _contour(self, item: Item) -> Contour | None:
        points = _numbers(item.value(0x30060050))
        if points is None or len(points) % 3 or not len(points):
            self.faults["rtstruct.invalid_contours"] += 1
            return None
        if np.abs(points).max() > _FARTHEST_MM:
            self.faults["rtstruct.invalid_contours"] += 1
            return None
        self.points += len(points) // 3
        if self.points > MAX_POINTS:
            raise malformed(f"The structures have more than {MAX_POINTS} points.", "derived.too_large")
        stated = item.integer(0x30060046)
        if stated is not None and stated != len(points) // 3:
            self.faults["rtstruct.point_count"] += 1
        image = item.first(0x30060016)
        array = points.reshape(-1, 3)
        array.flags.writeable = False
        kind = item.text(0x30060042).upper()
        closed = kind in _CLOSED and len(array) >= 3
        return Contour(array, closed, image.text(0x00081155) if image is not None else "")

    def issues(self) -> list[SeriesIssue]:
        """Return what was wrong, with counts."""
        texts = {
            "rtstruct.several_frames": "{} structures lie in another frame of reference than the first one and are "
            "not shown.",
            "rtstruct.contours_without_structure": "{} contour lists belong to no structure and are not shown.",
            "rtstruct.invalid_contours": "{} contours have no valid points (3006,0050) and are not shown.",
            "rtstruct.point_count": "{} contours have another number of points than they state (3006,0046).",
        }
        return [
            SeriesIssue(code, text.format(self.faults[code]))
            for code, text in texts.items()
            if self.faults[code]
        ]


def _numbers(value: bytes) -> NDArray[np.float64] | None:
    """Return the numbers of a decimal string, None when one of them is none."""
    text = value.strip(b" \0\r\n\t")
    if not text:
        return None
    try:
        numbers = np.array(text.split(b"\\"), dtype="S").astype(np.float64)
    except ValueError:
        return None
    return numbers if bool(np.isfinite(numbers).all()) else None


def _dangling(
    regions: tuple[RegionOfInterest, ...], referenced: set[str], target: TargetGrid
) -> tuple[SeriesIssue, ...]:
    """Say how many images are named that the series doesn't have."""
    if not target.sop_instance_uids:
        return ()
    named = {c.sop_instance_uid for region in regions for c in region.contours if c.sop_instance_uid}
    missing = (named | referenced) - set(target.sop_instance_uids)
    if not missing:
        return ()
    return (
        SeriesIssue(
            "derived.missing_images",
            f"The object names {len(missing)} {'image' if len(missing) == 1 else 'images'} that this series doesn't "
            f"have; what is drawn is placed by its coordinates.",
        ),
    )
