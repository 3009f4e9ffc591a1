"""How the files of one displayable group become one array: kind, order of frames, grid, issues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.dicom.functional_groups import FramePlane
from core.dicom.header import Header
from core.dicom.stack import SAME_POSITION_MM, build_stack, normal_of
from core.domain.geometry import VolumeGeometry
from core.domain.study import SeriesKind
from core.domain.volume import SeriesIssue

_NO_POSITION = SeriesIssue(
    "geometry.no_position",
    "The images state no position in the patient; the third dimension is an order, not a distance.",
    blocks_volumetry=True,
)


@dataclass(frozen=True)
class Layout:
    """``frames`` lists, in array order, (index of the file, frame number from 1)."""

    kind: SeriesKind
    geometry: VolumeGeometry
    frames: tuple[tuple[int, int], ...]
    regular: bool
    issues: tuple[SeriesIssue, ...]
    positioned: bool = True
    tilt_deg: float = 0.0


def is_mosaic(header: Header) -> bool:
    """Whether the image is a Siemens mosaic: many slices tiled in one."""
    return "MOSAIC" in header.image_type


def lay_out(headers: Sequence[Header]) -> Layout:
    """Lay out the files of one group.

    Parameters
    ----------
    headers : sequence of Header
        One or more files with equal rows, columns and samples; several frames only in a group of one.

    Raises
    ------
    SafetyError
        If the grid would be singular.
    """
    first = headers[0]
    if first.frames > 1:
        return _multi_frame(first)
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
    thickness = first.elements.number(0x00180050) or first.elements.number(0x00180088)
    stack = build_stack(
        positions,
        first.orientation,
        spacing,
        (first.rows, first.columns),
        thickness if thickness and 0 < thickness < 1e4 else None,
        first.frame_of_reference_uid or None,
    )
    return Layout(
        SeriesKind.IMAGE if len(headers) == 1 else SeriesKind.VOLUME,
        stack.geometry,
        tuple((n, 1) for n in stack.order),
        stack.regular and not issues,
        issues + stack.issues,
        tilt_deg=stack.tilt_deg,
    )


def _placed(plane: FramePlane) -> bool:
    return len(plane.position) == 3 and len(plane.orientation) == 6


def _enhanced_singles(headers: Sequence[Header], planes: Sequence[FramePlane]) -> Layout:
    """Lay out enhanced objects of one frame each, which keep their position in the functional groups."""
    return _planes(headers[0], planes, [(n, 1) for n in range(len(headers))]) or _pages(
        headers, [(n, 1) for n in range(len(headers))]
    )


def _multi_frame(header: Header) -> Layout:
    """Lay out one multi-frame file: a volume when its frames form one regular stack, otherwise a cine."""
    frames = [(0, n + 1) for n in range(header.frames)]
    if len(header.planes) == header.frames and all(_placed(plane) for plane in header.planes):
        layout = _planes(header, header.planes, frames)
        if layout is not None:
            return layout
    return _pages([header], frames)


def _planes(header: Header, planes: Sequence[FramePlane], frames: list[tuple[int, int]]) -> Layout | None:
    """Return the stack of ``planes``, or None when they are not parallel or share positions."""
    orientations = np.array([plane.orientation for plane in planes], dtype=np.float64)
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    if np.abs(orientations - orientations[0]).max() > 5e-3:
        return None
    projections = np.sort(positions @ normal_of(planes[0].orientation))
    if len(planes) > 1 and np.diff(projections).min() < SAME_POSITION_MM:
        return None
    spacing, issues = spacing_of(header)
    stack = build_stack(
        positions,
        planes[0].orientation,
        spacing,
        (header.rows, header.columns),
        None,
        header.frame_of_reference_uid or None,
    )
    kind = SeriesKind.VOLUME if len(planes) > 1 else SeriesKind.IMAGE
    order = tuple(frames[n] for n in stack.order)
    return Layout(kind, stack.geometry, order, stack.regular and not issues, issues + stack.issues)


def _mosaic(headers: Sequence[Header]) -> Layout:
    issue = SeriesIssue(
        "dicom.mosaic",
        "Each image is a Siemens mosaic of several slices; it is shown as tiled, without positions.",
        blocks_volumetry=True,
    )
    layout = _pages(headers, [(n, 1) for n in range(len(headers))])
    return Layout(SeriesKind.CINE, layout.geometry, layout.frames, False, (issue, *layout.issues), False)


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
    kind = SeriesKind.CINE if first.frames > 1 else SeriesKind.IMAGE
    return Layout(kind, geometry, tuple(frames), False, (*issues, _NO_POSITION), positioned=False)
