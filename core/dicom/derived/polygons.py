"""Which voxels lie inside closed contours of one plane."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_CROSSINGS_AT_ONCE = 1 << 20


class PlaneFill:
    """Collects closed contours of one plane; a pixel is inside when an odd number of them surrounds its centre.

    The rule makes holes of contours within contours, and lets a keyhole (a contour that runs in and out along one
    line) have its hole too. A centre exactly on an edge belongs to one side only, so that neighbours don't overlap.

    Source: DICOM PS3.3 C.8.8.6.3 (representing inner and outer contours); even-odd rule by scan lines.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._rows, self._columns = rows, columns
        self._low, self._high = rows, 0
        self._changes: NDArray[np.uint32] | None = None
        self.crossings = 0

    def add(self, points: NDArray[np.float64]) -> None:
        """Add a contour: ``(N, 2)`` (column, row) in pixels from the centre of the first one."""
        end = np.roll(points, -1, axis=0)
        upward = (points[:, 1] <= end[:, 1])[:, None]
        low, high = np.where(upward, points, end), np.where(upward, end, points)
        first = np.clip(np.ceil(low[:, 1]), 0, self._rows).astype(np.intp)
        last = np.clip(np.ceil(high[:, 1]), 0, self._rows).astype(np.intp)
        met = np.flatnonzero(last > first)
        if not len(met):
            return
        self._low = min(self._low, int(first[met].min()))
        self._high = max(self._high, int(last[met].max()))
        if self._changes is None:
            self._changes = np.zeros((self._rows, self._columns + 1), dtype=np.uint32)
        # In pieces: a hostile contour may cross every row with each of a million edges.
        ends = np.cumsum(last[met] - first[met])
        self.crossings += int(ends[-1])
        pieces = np.searchsorted(ends, np.arange(_CROSSINGS_AT_ONCE, ends[-1], _CROSSINGS_AT_ONCE))
        for piece in np.split(met, np.unique(pieces)):
            if len(piece):
                self._cross(low[piece], high[piece], first[piece], last[piece])

    def _cross(self, low: NDArray, high: NDArray, first: NDArray[np.intp], last: NDArray[np.intp]) -> None:
        """Note where edges cross the rows' centre lines."""
        assert self._changes is not None
        counts = last - first
        edge = np.repeat(np.arange(len(counts)), counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        part = (row - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
        crossing = low[edge, 0] + part * (high[edge, 0] - low[edge, 0])
        column = np.clip(np.ceil(crossing), 0, self._columns).astype(np.intp)
        np.add.at(self._changes, (row, column), 1)

    def mask(self) -> tuple[slice, NDArray[np.bool_]] | None:
        """Return the rows that are met and their ``(rows, columns)`` mask, or None when nothing is inside."""
        if self._changes is None:
            return None
        changes = self._changes[self._low : self._high, :-1]
        inside = (np.cumsum(changes, axis=1, dtype=np.uint32) & 1).astype(bool)
        return (slice(self._low, self._high), inside) if inside.any() else None


def filled(
    rows: int, columns: int, contours: Iterable[NDArray[np.float64]]
) -> tuple[slice, NDArray[np.bool_]] | None:
    """Return what lies inside contours of one plane; see ``PlaneFill``."""
    fill = PlaneFill(rows, columns)
    for points in contours:
        fill.add(points)
    return fill.mask()
