"""How the files of one displayable group become one array: kind, order of frames, grid, issues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.dicom.frame_order import FrameOrder, order_frames
from core.dicom.functional_groups import FramePlane
from core.dicom.header import Header
from core.dicom.mosaic import Mosaic, is_mosaic, read_mosaic
from core.dicom.series_rules import series_rules
from core.dicom.stack import build_stack
from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.domain.study import SeriesKind
from core.domain.volume import SeriesIssue

_NO_POSITION = SeriesIssue(
    "geometry.no_position",
    "The images state no position in the patient; the third dimension is an order, not a distance.",
    blocks_volumetry=True,
)


_STACKS = SeriesIssue(
    "series.stacks",
    "The file holds several stacks of images, which differ in direction or place; they are shown one by one.",
)
_UNPLACED_FRAMES = SeriesIssue(
    "geometry.frames_unordered",
    "The frames have places in the patient but form no stacks of equal size; they are shown in their order.",
    blocks_volumetry=True,
)


@dataclass(frozen=True, eq=False)
class Layout:
    """How one time point becomes an array.

    ``frames`` lists, in array order, (index of the file, frame number from 1). ``positions_mm`` is ``(K, 3)``: where
    each slice lies, None without positions. With a ``mosaic`` frame numbers are those of its tiles.
    """

    kind: SeriesKind
    geometry: VolumeGeometry
    frames: tuple[tuple[int, int], ...]
    regular: bool
    issues: tuple[SeriesIssue, ...]
    positioned: bool = True
    tilt_deg: float = 0.0
    positions_mm: NDArray[np.float64] | None = None
    time_points: int = 1
    dimension: str = ""
    mosaic: Mosaic | None = None
    slice_times_ms: tuple[float, ...] = ()


def lay_out_times(headers: Sequence[Header], time_points: int) -> list[Layout]:
    """Lay out each time point of a group whose files follow each other in time; the first one speaks for all.

    A multi-frame file states its time points itself: then only the first layout is returned.
    """
    per_time = len(headers) // max(1, time_points)
    layouts = [lay_out(headers[t * per_time : (t + 1) * per_time]) for t in range(time_points)]
    corners = np.array([layout.geometry.origin_lps_mm for layout in layouts])
    moved = float(np.linalg.norm(corners - corners[0], axis=1).max())
    if moved > series_rules().tolerances.drift_mm:
        issue = SeriesIssue(
            "geometry.moving_positions",
            f"The place of the images changes over time by up to {moved:.1f} mm; each time point is at its own.",
        )
        layouts[0] = replace(layouts[0], issues=(*layouts[0].issues, issue))
    return layouts


def lay_out(headers: Sequence[Header], time_point: int = 0) -> Layout:
    """Lay out the files of one time point.

    Parameters
    ----------
    headers : sequence of Header
        One or more files with equal rows, columns and samples; several frames only in a group of one.
    time_point : int
        Which time point of a multi-frame file, from 0.

    Raises
    ------
    SafetyError
        If the grid would be singular.
    """
    first = headers[0]
    if first.frames > 1:
        return _multi_frame(first, time_point)
    if is_mosaic(first):
        return _mosaic(headers)
    if all(h.position is not None and h.orientation for h in headers):
        return _slices(headers)
    planes = [h.planes[0] for h in headers if h.planes]
    if len(planes) == len(headers) and all(_placed(plane) for plane in planes):
        return _enhanced_singles(headers, planes)
    return _pages(headers, [(n, 1) for n in range(len(headers))])


def representative(headers: Sequence[Header]) -> Header:
    """Return the file that speaks for the group: the first by instance number and UID, in whatever order."""
    return min(
        headers,
        key=lambda h: (h.instance_number is None, h.instance_number or 0, h.sop_instance_uid, str(h.file)),
    )


def spacing_of(header: Header) -> tuple[tuple[float, float], tuple[SeriesIssue, ...]]:
    """Return (row, column) spacing in mm and what is wrong with it; 1.0 when there is none."""
    of_plane = header.planes[0].pixel_spacing if header.planes else ()
    spacing = header.pixel_spacing or (of_plane if len(of_plane) == 2 and min(of_plane) > 1e-6 else ())
    if spacing:
        return (spacing[0], spacing[1]), ()
    if header.detector_spacing:
        issue = SeriesIssue(
            "geometry.uncalibrated",
            "Pixel Spacing (0028,0030) is missing or zero; sizes are those at the detector (0018,1164), larger "
            "than in the patient.",
            blocks_volumetry=True,
        )
        return (header.detector_spacing[0], header.detector_spacing[1]), (issue,)
    issue = SeriesIssue(
        "geometry.no_spacing",
        "Pixel Spacing (0028,0030) is missing or zero; sizes are in pixels, not in millimetres.",
        blocks_volumetry=True,
    )
    return (1.0, 1.0), (issue,)


def _slices(headers: Sequence[Header]) -> Layout:
    first = representative(headers)
    spacing, issues = spacing_of(first)
    positions = np.array([h.position for h in headers], dtype=np.float64)
    stack = build_stack(
        positions,
        first.orientation,
        spacing,
        (first.rows, first.columns),
        _thickness(first),
        first.frame_of_reference_uid or None,
    )
    return Layout(
        SeriesKind.IMAGE if len(headers) == 1 else SeriesKind.VOLUME,
        stack.geometry,
        tuple((n, 1) for n in stack.order),
        stack.regular and not issues,
        issues + stack.issues,
        tilt_deg=stack.tilt_deg,
        positions_mm=stack.positions_mm,
    )


def _placed(plane: FramePlane) -> bool:
    return len(plane.position) == 3 and len(plane.orientation) == 6


def _enhanced_singles(headers: Sequence[Header], planes: Sequence[FramePlane]) -> Layout:
    """Lay out enhanced objects of one frame each, which keep their position in the functional groups."""
    order = order_frames(planes)
    frames = [(n, 1) for n in range(len(headers))]
    if order is None or len(order.stacks) > 1:
        return _pages(headers, frames)
    return _planes(headers[0], planes, frames, order, 0)


def _multi_frame(header: Header, time_point: int) -> Layout:
    """Lay out one multi-frame file: a volume when its frames form stacks of equal size, otherwise a cine."""
    frames = [(0, n + 1) for n in range(header.frames)]
    if len(header.planes) != header.frames or not all(_placed(plane) for plane in header.planes):
        return _pages([header], frames)
    order = order_frames(header.planes)
    if order is None:
        layout = _pages([header], frames)
        return replace(layout, issues=(*layout.issues, _UNPLACED_FRAMES))
    if len(order.stacks[0]) == 1 and len(order.stacks) > 1 and order.dimension != "stack":
        return _pages([header], frames)  # one place that is looked at again and again
    return _planes(header, header.planes, frames, order, time_point)


def _planes(
    header: Header,
    planes: Sequence[FramePlane],
    frames: list[tuple[int, int]],
    order: FrameOrder,
    time_point: int,
) -> Layout:
    """Return the stack of one time point."""
    if not 0 <= time_point < len(order.stacks):
        raise InputError(
            "series.time_point",
            f"The series has {len(order.stacks)} time points, not {time_point + 1}.",
            "Choose another time point.",
        )
    members = order.stacks[time_point]
    spacing, issues = spacing_of(header)
    stack = build_stack(
        np.array([planes[n].position for n in members], dtype=np.float64),
        planes[members[0]].orientation,
        spacing,
        (header.rows, header.columns),
        _thickness(header),
        header.frame_of_reference_uid or None,
    )
    if order.dimension == "stack":
        issues = (*issues, _STACKS)
    return Layout(
        SeriesKind.VOLUME if len(members) > 1 else SeriesKind.IMAGE,
        stack.geometry,
        tuple(frames[members[n]] for n in stack.order),
        stack.regular and not spacing_of(header)[1],
        issues + stack.issues,
        tilt_deg=stack.tilt_deg,
        positions_mm=stack.positions_mm,
        time_points=len(order.stacks),
        dimension=order.dimension,
    )


def _thickness(header: Header) -> float | None:
    thickness = header.elements.number(0x00180050) or header.elements.number(0x00180088)
    return thickness if thickness and 0 < thickness < 1e4 else None


def _mosaic(headers: Sequence[Header]) -> Layout:
    mosaic = read_mosaic(headers[0]) if len(headers) == 1 else None
    if mosaic is None:
        issue = SeriesIssue(
            "dicom.mosaic",
            "Each image is a Siemens mosaic that doesn't say how many slices it has; it is shown as tiled, without "
            "positions.",
            blocks_volumetry=True,
        )
        layout = _pages(headers, [(n, 1) for n in range(len(headers))])
        return replace(
            layout, kind=SeriesKind.CINE, regular=False, issues=(issue, *layout.issues), positioned=False
        )
    return _split_mosaic(headers[0], mosaic)


def _split_mosaic(header: Header, mosaic: Mosaic) -> Layout:
    """Lay out the tiles of one mosaic as slices, ascending along row × column."""
    spacing, issues = spacing_of(header)
    step = header.elements.number(0x00180088) or _thickness(header)
    if not step or not 0 < step < 1e4:
        step = 1.0
        unknown = SeriesIssue(
            "geometry.no_slice_step",
            "Neither Spacing Between Slices (0018,0088) nor Slice Thickness (0018,0050) is stated; slices are placed "
            "1 mm apart.",
            blocks_volumetry=True,
        )
        issues = (*issues, unknown)
    if mosaic.reversed_numbering:
        turned = SeriesIssue(
            "dicom.mosaic_reversed",
            "The scanner numbered the slices of its mosaics backwards; check top and bottom before relying on "
            "them. Slice times are left out.",
            blocks_volumetry=True,
        )
        issues = (*issues, turned)
    places = np.asarray(mosaic.origin_mm) + np.arange(mosaic.tiles)[:, None] * step * np.asarray(
        mosaic.normal
    )
    stack = build_stack(
        places,
        header.orientation,
        spacing,
        (mosaic.rows, mosaic.columns),
        step,
        header.frame_of_reference_uid or None,
    )
    times = mosaic.slice_times_ms
    return Layout(
        SeriesKind.VOLUME if mosaic.tiles > 1 else SeriesKind.IMAGE,
        stack.geometry,
        tuple((0, n + 1) for n in stack.order),
        stack.regular and not any(issue.blocks_volumetry for issue in issues),
        issues + stack.issues,
        positions_mm=stack.positions_mm,
        mosaic=mosaic,
        slice_times_ms=tuple(times[n] for n in stack.order) if times else (),
    )


def _pages(headers: Sequence[Header], frames: list[tuple[int, int]]) -> Layout:
    """Lay out images without a place in the patient one behind the other, 1 mm apart by convention."""
    first = headers[0]
    (row_mm, column_mm), issues = spacing_of(first)
    matrix = np.diag([column_mm, row_mm, 1.0, 1.0])
    geometry = VolumeGeometry(
        (len(frames), first.rows, first.columns), matrix, first.frame_of_reference_uid or None
    )
    if len(frames) == 1:
        return Layout(SeriesKind.IMAGE, geometry, tuple(frames), not issues, issues, positioned=False)
    moving = first.frames > 1
    kind = SeriesKind.CINE if moving else SeriesKind.IMAGE
    return Layout(kind, geometry, tuple(frames), False, (*issues, _NO_POSITION), positioned=False)
