"""Reads Parametric Maps: real-world values in patient space. Source: DICOM PS3.3 A.75, C.7.6.16.2.11."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.content import unit_text
from core.dicom.derived.dataset import Item, open_derived_file
from core.dicom.derived.frames import StoredFrames
from core.dicom.derived.grid import TargetGrid, check_frame_of_reference, require_memory
from core.dicom.derived.identity import (
    HEADER_TAGS,
    header_of,
    source_images,
    source_series,
    with_issues,
)
from core.dicom.derived.placement import Nearest, Placed, place_frames
from core.dicom.derived.planes import PER_FRAME, SHARED, FrameGroups
from core.dicom.derived.resample import NearestPixel
from core.dicom.derived.seg import check_size
from core.dicom.faults import malformed, translated
from core.dicom.header import IMAGE_TAGS, Header
from core.domain.derived import ParametricMap
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.volume import SeriesIssue

WANTED = HEADER_TAGS | IMAGE_TAGS | frozenset((SHARED, PER_FRAME, 0x00280006))
_MAPPING, _TRANSFORMATION = 0x00409096, 0x00289145
_QUANTITIES = ("SCT:246205007", "SRT:G-C1C6")
_MOST_OF_TABLE = 1 << 16
_REPORT_EVERY = 64


@dataclass(frozen=True, eq=False)
class _Mapping:
    """How stored values become real-world values."""

    slope: float = 1.0
    intercept: float = 0.0
    table: NDArray[np.float64] | None = None
    first: int = 0
    quantity: str = ""
    unit: str = ""
    label: str = ""

    def apply(self, stored: NDArray) -> NDArray[np.float32]:
        """Return real-world values; NaN where a table has none."""
        if self.table is None:
            if (self.slope, self.intercept) == (1.0, 0.0):
                return stored.astype(np.float32)
            return (stored * self.slope + self.intercept).astype(np.float32)
        index = stored.astype(np.int64) - self.first
        inside = (index >= 0) & (index < len(self.table))
        values = self.table[np.where(inside, index, 0)]
        return np.where(inside, values, np.nan).astype(np.float32)


def read_parametric_map(
    path: Path,
    target: TargetGrid | None = None,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> ParametricMap:
    """Read a map.

    Parameters
    ----------
    target : TargetGrid or None
        The grid it is brought onto (nearest value, NaN where the map has none); None keeps the map's own.

    Raises
    ------
    InputError
        When the object is damaged, states no usable place, or can't be decoded.
    SafetyError
        When it lies in another frame of reference than the target.
    EnvironmentFault
        When the memory doesn't suffice.
    """
    with translated("Reading the parametric map"):
        file = open_derived_file(path, WANTED)
        data = file.data
        header = file.header()
        check_size(header)
        groups = FrameGroups(data, header.frames)
        frame_of_reference = data.text(0x00200052)
        issues: list[SeriesIssue] = []
        if target is not None:
            issues += check_frame_of_reference(
                frame_of_reference, target, source_series(data), source_images(data)
            )
        placed = place_frames(groups, (header.rows, header.columns), target, frame_of_reference)
        mappings = _mappings(groups)
        values, left_out = _values(header, placed, mappings, progress, cancel)
        issues += placed.issues
        if left_out:
            issues.append(
                SeriesIssue(
                    "pm.several_maps",
                    f"The object holds several values for the same place; {left_out} frames are not shown.",
                )
            )
        first = mappings[0]
        return ParametricMap(
            with_issues(header_of(file), *issues),
            first.quantity or first.label,
            first.unit,
            placed.geometry,
            values,
        )


def _values(
    header: Header,
    placed: Placed,
    mappings: list[_Mapping],
    progress: Progress,
    cancel: CancelToken | None,
) -> tuple[NDArray[np.float32], int]:
    """Return the map on its grid, and how many frames had no room on it."""
    placement = placed.placement
    arrays = (placement.work_shape, placed.geometry.shape_kji)
    needed = sum(
        4 * int(np.prod(shape, dtype=np.int64)) for shape in arrays[: 1 + isinstance(placement, Nearest)]
    )
    require_memory(needed, "Showing the map")
    work = np.full(placement.work_shape, np.nan, dtype=np.float32)
    oriented = placement.oriented(work)
    filled: set[int] = set()
    left_out = 0
    with StoredFrames(header) as frames:
        for frame in range(frames.count):
            if cancel is not None:
                cancel.raise_if_cancelled()
            if frame % _REPORT_EVERY == 0:
                progress("Reading the map", frame / frames.count)
            if _differs(mappings[frame], mappings[0]):
                left_out += 1
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                real = mappings[frame].apply(frames.read(frame))
            window = placement.window(frame, real)
            if window.plane in filled:
                left_out += 1
            elif window.plane >= 0:
                filled.add(window.plane)
                oriented[window.plane, window.rows, window.columns] = window.values
    progress("Reading the map", 1.0)
    if isinstance(placement, Nearest):
        out = np.full(placed.geometry.shape_kji, np.nan, dtype=np.float32)
        NearestPixel(placement.stack, placement.target).bring(work, out)
        work = out
    work.flags.writeable = False
    return work, left_out


def _mappings(groups: FrameGroups) -> list[_Mapping]:
    """Return the mapping of each frame; what frames share is read once."""
    known: dict[int, _Mapping] = {}
    mappings = []
    for frame in range(len(groups)):
        item = groups.of(frame, _MAPPING) or groups.of(frame, _TRANSFORMATION)
        key = id(item.elements) if item is not None else 0
        if key not in known:
            known[key] = _mapping(groups, frame)
        mappings.append(known[key])
    return mappings


def _differs(mapping: _Mapping, first: _Mapping) -> bool:
    """Whether a frame holds another quantity than the first one."""
    return (mapping.quantity, mapping.unit, mapping.label) != (first.quantity, first.unit, first.label)


def _mapping(groups: FrameGroups, frame: int) -> _Mapping:
    """Return how a frame's values are mapped: to the real world, else by its rescale."""
    item = groups.of(frame, _MAPPING)
    if item is None:
        rescale = groups.of(frame, _TRANSFORMATION)
        if rescale is None:
            return _Mapping()
        slope, intercept = rescale.number(0x00281053), rescale.number(0x00281052)
        unit = rescale.words(0x00281054)
        return _Mapping(_sound(slope, 1.0), _sound(intercept, 0.0), unit="" if unit == "US" else unit)
    quantity, label = _quantity(item), item.words(0x00283003) or item.words(0x00409210)
    unit = unit_text(item.code(0x004008EA))
    table = item.numbers(0x00409212)
    if table:
        first = item.number(0x00409216)
        if len(table) > _MOST_OF_TABLE or first is None or abs(first) > 1e9:
            raise malformed("The real-world table (0040,9212) is impossible.", "pm.invalid_mapping")
        return _Mapping(1.0, 0.0, np.array(table), int(first), quantity, unit, label)
    slope, intercept = item.number(0x00409225), item.number(0x00409224)
    if slope is None or intercept is None or slope == 0:
        raise malformed(
            "The real-world mapping has no slope (0040,9225) or intercept (0040,9224).", "pm.invalid_mapping"
        )
    return _Mapping(slope, intercept, None, 0, quantity, unit, label)


def _quantity(mapping: Item) -> str:
    for item in mapping.items(0x00409220):
        name = item.code(0x0040A043)
        if name is not None and name.is_any_of(*_QUANTITIES):
            code = item.code(0x0040A168)
            return (code.meaning or code.value) if code is not None else ""
    return ""


def _sound(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
