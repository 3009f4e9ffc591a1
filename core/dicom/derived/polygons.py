"""Which voxels lie inside closed contours of one plane."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class PlaneFill:
    """Collects closed contours of one plane; a pixel is inside when an odd number of them surrounds its centre.

    The rule makes holes of contours within contours, and lets a keyhole (a contour that runs in and out along one
    line) have its hole too. A centre exactly on an edge belongs to one side only, so that neighbours don't overlap.

    Source: DICOM PS3.3 C.8.8.6.3 (representing inner and outer contours); even-odd rule by scan lines.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._rows, self._columns = rows, columns
        self._low, self._high = rows, 0
        self._toggles: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []

    def add(self, points: NDArray[np.float64]) -> None:
        """Add a contour: ``(N, 2)`` (column, row) in pixels from the centre of the first one."""
        start = points
        end = np.roll(points, -1, axis=0)
        upward = start[:, 1] <= end[:, 1]
        low = np.where(upward[:, None], start, end)
        high = np.where(upward[:, None], end, start)
        first = np.clip(np.ceil(low[:, 1]), 0, self._rows).astype(np.intp)
        last = np.clip(np.ceil(high[:, 1]), 0, self._rows).astype(np.intp)
        counts = last - first
        if not counts.sum():
            return
        edge = np.repeat(np.arange(len(points)), counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        height = high[edge, 1] - low[edge, 1]
        part = (row - low[edge, 1]) / height
        crossing = low[edge, 0] + part * (high[edge, 0] - low[edge, 0])
        column = np.clip(np.ceil(crossing), 0, self._columns).astype(np.intp)
        self._toggles.append((row, column))
        self._low = min(self._low, int(row.min()))
        self._high = max(self._high, int(row.max()) + 1)

    def mask(self) -> tuple[slice, NDArray[np.bool_]] | None:
        """Return the rows that are met and their ``(rows, columns)`` mask, or None when nothing is inside."""
        if self._low >= self._high:
            return None
        changes = np.zeros((self._high - self._low, self._columns + 1), dtype=np.uint32)
        for row, column in self._toggles:
            np.add.at(changes, (row - self._low, column), 1)
        inside = (np.cumsum(changes[:, :-1], axis=1) & 1).astype(bool)
        return (slice(self._low, self._high), inside) if inside.any() else None


def filled(
    rows: int, columns: int, contours: Iterable[NDArray[np.float64]]
) -> tuple[slice, NDArray[np.bool_]] | None:
    """Return what lies inside contours of one plane; see ``PlaneFill``."""
    fill = PlaneFill(rows, columns)
    for points in contours:
        fill.add(points)
    return fill.mask()
