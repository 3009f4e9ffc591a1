"""Which frames of a multi-frame object form a stack, and which repeat it over time or over something else.

Source: DICOM PS3.3 C.7.6.16.2.2 (frame content), C.7.6.17 (dimensions).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.dicom.functional_groups import FramePlane
from core.dicom.series_rules import series_rules
from core.dicom.stack import normal_of

_STACK = "stack"
_DIMENSIONS: tuple[tuple[str, Callable[[FramePlane], float | str | None]], ...] = (
    ("time point", lambda p: p.temporal_position),
    ("cardiac phase", lambda p: p.trigger_ms),
    ("b-value", lambda p: p.b_value),
    ("echo", lambda p: p.echo_ms),
    ("image type", lambda p: p.frame_type or None),
)


@dataclass(frozen=True)
class FrameOrder:
    """``stacks`` lists frame indices (from 0), one time point each, all of one size; ``dimension`` names them."""

    stacks: tuple[tuple[int, ...], ...]
    dimension: str = ""


def order_frames(planes: Sequence[FramePlane]) -> FrameOrder | None:
    """Return the stacks of frames that all have a place; None when they form none of equal size."""
    by_stack: dict[tuple[object, ...], list[int]] = defaultdict(list)
    clusters: list[tuple[float, ...]] = []
    for n, plane in enumerate(planes):
        by_stack[(_cluster(plane.orientation, clusters), plane.stack[0])].append(n)
    if len(clusters) == 1:
        merged = _repeated(planes, list(range(len(planes))))
        if merged is not None and (len(by_stack) == 1 or _evenly_spaced(planes, merged.stacks[0])):
            return merged
    found = [_repeated(planes, members) for members in by_stack.values()]
    stacks = [stack for order in found if order is not None for stack in order.stacks]
    if len(by_stack) < 2 or None in found or len({len(stack) for stack in stacks}) != 1:
        return None
    return FrameOrder(tuple(stacks), _STACK)


def _cluster(orientation: tuple[float, ...], clusters: list[tuple[float, ...]]) -> int:
    tolerance = series_rules().tolerances.orientation
    for number, known in enumerate(clusters):
        if max(abs(a - b) for a, b in zip(orientation, known, strict=True)) <= tolerance:
            return number
    clusters.append(orientation)
    return len(clusters) - 1


def _repeated(planes: Sequence[FramePlane], members: list[int]) -> FrameOrder | None:
    """Make the nth frame at each position the nth time point; None when positions repeat unequally."""
    at_slot = _slots(planes, members)
    count = len(at_slot[0])
    if any(len(found) != count for found in at_slot):
        return None
    name = ""
    if count > 1:
        name, value_of = _dimension(planes, at_slot)
        for found in at_slot:
            found.sort(key=lambda n: (value_of(planes[n]), planes[n].index, n))
    return FrameOrder(tuple(tuple(found[t] for found in at_slot) for t in range(count)), name)


def _slots(planes: Sequence[FramePlane], members: list[int]) -> list[list[int]]:
    """Group frames by position along the normal, ascending."""
    normal = normal_of(planes[members[0]].orientation)
    along = np.array([planes[n].position for n in members], dtype=np.float64) @ normal
    order = np.argsort(along, kind="stable")
    limit = series_rules().tolerances.same_position_mm
    slots: list[list[int]] = []
    last = -np.inf
    for rank in order:
        if along[rank] - last > limit:
            slots.append([])
        last = along[rank]
        slots[-1].append(members[int(rank)])
    return slots


def _dimension(
    planes: Sequence[FramePlane], at_slot: list[list[int]]
) -> tuple[str, Callable[[FramePlane], float | str]]:
    """Return what tells the frames of each position apart."""
    for name, value_of in _DIMENSIONS:
        values = [[value_of(planes[n]) for n in found] for found in at_slot]
        if all(None not in row and len(set(row)) == len(row) for row in values):
            return name, lambda plane, read=value_of: read(plane) or 0
    return series_rules().unstated.name, lambda _: 0


def _evenly_spaced(planes: Sequence[FramePlane], members: Sequence[int]) -> bool:
    normal = normal_of(planes[members[0]].orientation)
    along = np.array([planes[n].position for n in members], dtype=np.float64) @ normal
    steps = np.diff(np.sort(along))
    tolerances = series_rules().tolerances
    return len(steps) < 2 or bool(
        np.ptp(steps) <= max(tolerances.place_mm, tolerances.place_of_step * float(steps.mean()))
    )
