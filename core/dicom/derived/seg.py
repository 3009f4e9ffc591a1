"""Reads a DICOM Segmentation: binary, fractional, label map. Source: DICOM PS3.3 A.51, C.8.20.

Frames are read one at a time; memory is one label map of the grid, further ones only for segments that overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.dataset import DerivedFile, open_derived_file
from core.dicom.derived.frames import StoredFrames
from core.dicom.derived.grid import TargetGrid, check_frame_of_reference, fits, require_memory
from core.dicom.derived.identity import (
    HEADER_TAGS,
    LABEL_MAP,
    header_of,
    source_images,
    source_series,
    with_issues,
)
from core.dicom.derived.layers import LabelLayers, tight_box
from core.dicom.derived.placement import Nearest, Placed, place_frames
from core.dicom.derived.planes import PER_FRAME, SHARED, FrameGroups
from core.dicom.derived.segments import MAX_VALUE, SegmentTable, read_segments, undescribed
from core.dicom.faults import malformed, translated
from core.dicom.header import IMAGE_TAGS, Header
from core.domain.derived import DerivedSegmentation, FractionalSegment, SourceImage
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.volume import SeriesIssue

WANTED = (
    HEADER_TAGS
    | IMAGE_TAGS
    | frozenset((SHARED, PER_FRAME, 0x00620001, 0x00620002, 0x0062000E, 0x00620010, 0x00209311, 0x00280006))
)
MAX_FRAME_PIXELS = 1 << 26
MAX_PIXELS = 1 << 34
MAX_COMPRESSED_PIXELS = 1 << 32
_MAX_UNDESCRIBED = 1000
_SEGMENT_IDENTIFICATION = 0x0062000A
_REPORT_EVERY = 64


def read_segmentation(
    path: Path,
    target: TargetGrid | None = None,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> DerivedSegmentation:
    """Read a SEG onto a grid.

    Parameters
    ----------
    target : TargetGrid or None
        The series that it is shown over; None keeps the grid of its own planes.

    Raises
    ------
    InputError
        When the object is damaged, states no usable place, or can't be decoded.
    SafetyError
        When it lies in another frame of reference than the target.
    EnvironmentFault
        When the memory doesn't suffice.
    """
    with translated("Reading the segmentation"):
        file = open_derived_file(path, WANTED)
        header = file.header()
        check_size(header)
        groups = FrameGroups(file.data, header.frames)
        table = read_segments(file.data)
        issues = list(table.issues)
        if target is not None:
            issues += check_frame_of_reference(
                file.data.text(0x00200052), target, source_series(file.data), _images(file, groups)
            )
        placed = place_frames(groups, (header.rows, header.columns), target, file.data.text(0x00200052))
        issues += placed.issues
        filling = _Filling(file, header, groups, table, placed)
        filling.run(progress, cancel)
        return filling.result(issues)


def check_size(header: Header) -> None:
    """Refuse an object whose pixels would take too long or too much memory.

    Raises
    ------
    InputError
        ``derived.too_large``.
    """
    pixels = header.rows * header.columns
    compressed = header.parsed.syntax.encapsulated or header.parsed.deflated_from is not None
    limit = MAX_COMPRESSED_PIXELS if compressed else MAX_PIXELS
    if pixels > MAX_FRAME_PIXELS or pixels * header.frames > limit:
        raise malformed(
            f"The object announces {header.frames} frames of {header.rows} x {header.columns}; that is too many.",
            "derived.too_large",
        )


def _images(file: DerivedFile, groups: FrameGroups) -> Sequence[SourceImage]:
    named = source_images(file.data)
    if named:
        return named
    derivation = groups.of(0, 0x00089124) if len(groups) else None
    images = derivation.items(0x00082112) if derivation is not None else ()
    return [SourceImage(item.text(0x00081155)) for item in images]


@dataclass
class _Filling:
    """One object being brought onto its grid."""

    file: DerivedFile
    header: Header
    groups: FrameGroups
    table: SegmentTable
    placed: Placed
    outside: int = 0
    unknown: set[int] = field(default_factory=set)
    voxels: Counter[int] = field(default_factory=Counter)
    fractions: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    dropped_fractions: bool = False

    def __post_init__(self) -> None:
        self.kind = self.file.data.text(0x00620001).upper()
        if self.file.sop_class_uid == LABEL_MAP:
            self.kind = "LABELMAP"
        if self.kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise malformed(f"Segmentation Type (0062,0001) is {self.kind[:16]!r}.", "seg.unknown_type")
        if self.kind != "BINARY" and self.header.bits_allocated not in (8, 16):
            raise malformed(
                f"A {self.kind} segmentation with {self.header.bits_allocated} bits is not possible.",
                "dicom.invalid_image",
            )
        self.numbers = self._segment_of_frame()
        self.zero_label = self._label_of_zero()
        highest = max(self.table.highest, self.zero_label, *self.unknown)
        if self.kind == "LABELMAP" and self.header.bits_allocated == 16:
            highest = MAX_VALUE
        placement = self.placed.placement
        self.layers = LabelLayers(placement.work_shape, highest, placement.oriented)

    def _segment_of_frame(self) -> list[int]:
        """Return the segment of each frame; empty for a label map."""
        if self.kind == "LABELMAP":
            return []
        only = next(iter(self.table.definitions)) if len(self.table.definitions) == 1 else None
        numbers = []
        for frame in range(len(self.groups)):
            item = self.groups.of(frame, _SEGMENT_IDENTIFICATION)
            number = item.integer(0x0062000B) if item is not None else only
            if number is None or not 0 < number <= MAX_VALUE:
                raise malformed(
                    f"Frame {frame + 1} belongs to no segment (0062,000B).", "seg.invalid_segments"
                )
            if number not in self.table.definitions and number not in self.table.background:
                self.unknown.add(number)
            numbers.append(number)
        if len(self.unknown) > _MAX_UNDESCRIBED:
            raise malformed("Most frames belong to segments that are not described.", "seg.invalid_segments")
        return numbers

    def _label_of_zero(self) -> int:
        """Return the label that stands for a segment whose number is 0; 0 when there is none."""
        if 0 not in self.table.definitions:
            return 0
        # beyond what 8 bits can store; among 16 bits, one that nobody uses
        candidates = (256,) if self.header.bits_allocated < 16 else range(MAX_VALUE, 0, -1)
        free = next((n for n in candidates if n not in self.table.definitions), None)
        if free is None:
            raise malformed("The object describes more segments than can be shown.", "seg.invalid_segments")
        self.table.definitions[free] = replace(self.table.definitions.pop(0), value=free)
        return free if self.kind == "LABELMAP" else 0

    def run(self, progress: Progress, cancel: CancelToken | None) -> None:
        """Read all frames."""
        add = {"BINARY": self._binary, "FRACTIONAL": self._fractional, "LABELMAP": self._label_map}[self.kind]
        with StoredFrames(self.header) as frames:
            if self.kind == "LABELMAP":
                self._label_table()
            for frame in range(frames.count):
                if cancel is not None:
                    cancel.raise_if_cancelled()
                if frame % _REPORT_EVERY == 0:
                    progress("Reading segments", frame / frames.count)
                add(frame, frames.read(frame))
        progress("Reading segments", 1.0)

    def _binary(self, frame: int, stored: NDArray) -> None:
        number = self.numbers[frame]
        if number not in self.table.background:
            self._add(frame, number, stored != 0)

    def _fractional(self, frame: int, stored: NDArray) -> None:
        number = self.numbers[frame]
        if number in self.table.background:
            return
        highest = self.file.data.integer(0x0062000E) or int(np.iinfo(stored.dtype).max)
        self._add(frame, number, stored >= (highest + 1) // 2)
        array = self._fraction_of(number)
        if array is None:
            return
        window = self.placed.placement.window(frame, stored)
        if window.plane >= 0:
            part = self.placed.placement.oriented(array)[window.plane, window.rows, window.columns]
            np.maximum(
                part, np.clip(window.values / np.float32(highest), 0, 1), out=part, casting="same_kind"
            )

    def _fraction_of(self, number: int) -> NDArray[np.float32] | None:
        """Return the array of a segment's fractions; None when all of them wouldn't fit into memory."""
        if number not in self.fractions:
            shape = self.placed.placement.work_shape
            arrays = len(self.fractions) + 1 + isinstance(self.placed.placement, Nearest)
            if self.dropped_fractions or not fits(arrays * int(np.prod(shape, dtype=np.int64)) * 4):
                self.dropped_fractions = True
                return None
            self.fractions[number] = np.zeros(shape, dtype=np.float32)
        return self.fractions[number]

    def _label_table(self) -> None:
        """Prepare the label of each stored value; -1 where no segment describes it."""
        table = np.full(1 << self.header.bits_allocated, -1, dtype=np.int32)
        for number in self.table.definitions:
            if number < len(table):
                table[number] = number
        table[0] = self.zero_label
        padding = self.file.data.integer(0x00280120)
        for number in (*self.table.background, *([padding] if padding is not None else ())):
            if 0 <= number < len(table):
                table[number] = 0
        self.label_of = table

    def _label_map(self, frame: int, stored: NDArray) -> None:
        present = np.flatnonzero(np.bincount(stored.ravel(), minlength=len(self.label_of)))
        for number in present[self.label_of[present] < 0]:
            self.unknown.add(int(number))
            self.label_of[number] = number
        if len(self.unknown) > _MAX_UNDESCRIBED or (self.zero_label and self.zero_label in self.unknown):
            raise malformed("Most values of the label map are not described.", "seg.invalid_segments")
        labels = self.label_of[stored]
        values = [int(v) for v in np.unique(self.label_of[present]) if v > 0]
        if not values:
            return
        window = self.placed.placement.window(frame, labels)
        if window.cut or not self.layers.add_map(
            window.plane, window.rows, window.columns, window.values, values
        ):
            for value in values:
                self._add(frame, value, labels == value)
            return
        counts = np.bincount(labels.ravel())
        self.voxels.update({value: int(counts[value]) for value in values})

    def _add(self, frame: int, value: int, mask: NDArray[np.bool_]) -> None:
        """Add the voxels of one segment in one frame."""
        box = tight_box(mask)
        if box is None:
            return
        window = self.placed.placement.window(frame, mask)
        total = int(np.count_nonzero(mask))
        self.voxels[value] += total
        inside = window.values if window.plane >= 0 else mask[:0]
        box = tight_box(inside) if inside.size else None
        if window.cut:
            self.outside += total - int(np.count_nonzero(inside))
        if box is None:
            return
        rows, columns = (
            slice(outer.start + inner.start, outer.start + inner.stop)
            for outer, inner in zip((window.rows, window.columns), box, strict=True)
        )
        self.layers.add(value, window.plane, rows, columns, inside[box])

    def result(self, issues: list[SeriesIssue]) -> DerivedSegmentation:
        """Return what was read, on its grid."""
        placement, geometry = self.placed.placement, self.placed.geometry
        definitions = self.table.definitions | {number: undescribed(number) for number in self.unknown}
        layers = []
        for n, array in enumerate(self.layers.arrays):
            values = self.layers.values_of(n)
            if n == 0:  # segments without a voxel belong to the list as well
                values = sorted({*values, *(v for v in definitions if not self.voxels[v])})
            if isinstance(placement, Nearest):
                require_memory(geometry_bytes(geometry.shape_kji, array.itemsize), "Showing the segments")
                self.outside += placement.count_outside(array)
            labels = placement.finished(array)
            layers.append(Segmentation(geometry, labels, tuple(definitions[v] for v in values)))
        fractional = self._finished_fractions(definitions)
        header = header_of(self.file, issues)
        return DerivedSegmentation(
            with_issues(header, *self._own_issues()), tuple(layers), fractional, self.outside
        )

    def _finished_fractions(self, definitions: dict[int, SegmentDefinition]) -> tuple[FractionalSegment, ...]:
        if self.dropped_fractions:
            return ()
        meaning = self.file.data.text(0x00620010).lower()
        finished = []
        for number, array in sorted(self.fractions.items()):
            values = self.placed.placement.finished(array)
            values.flags.writeable = False
            finished.append(FractionalSegment(definitions[number], values, meaning))
        return tuple(finished)

    def _own_issues(self) -> list[SeriesIssue]:
        issues = []
        if self.unknown:
            issues.append(
                SeriesIssue(
                    "seg.undescribed",
                    f"{len(self.unknown)} segments have voxels but no description (0062,0002).",
                )
            )
        if self.outside:
            issues.append(
                SeriesIssue(
                    "derived.outside_grid",
                    f"{self.outside} voxels of the object lie beyond these images and are not shown.",
                )
            )
        if self.dropped_fractions:
            issues.append(
                SeriesIssue(
                    "seg.fractions_not_kept",
                    "There is not enough memory for the fractions; segments are shown where they reach one half.",
                )
            )
        return issues


def geometry_bytes(shape_kji: tuple[int, int, int], itemsize: int) -> int:
    """Return the bytes of an array."""
    return int(np.prod(shape_kji, dtype=np.int64)) * itemsize
