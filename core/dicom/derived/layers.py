"""Label maps that are filled frame by frame; segments that overlap go to layers of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.grid import require_memory

View = Callable[[NDArray], NDArray]
_Place = tuple[int, slice, slice]


class LabelLayers:
    """Layers of a grid, made when they are needed.

    A segment lies whole in one layer: when a frame of it would cover another segment, all of it moves on to the next
    layer. Memory is one layer unless segments overlap, whatever their number.

    Parameters
    ----------
    shape : tuple of int
        (K, J, I) of a layer.
    highest : int
        The largest value that is added.
    view : callable or None
        Returns a layer as (slice, row, column) of the frames.

    Raises
    ------
    EnvironmentFault
        When a layer wouldn't fit into memory.
    """

    def __init__(self, shape: tuple[int, int, int], highest: int, view: View | None = None) -> None:
        self._shape = shape
        self._dtype: np.dtype[np.generic] = np.dtype(np.uint8 if highest < 256 else np.uint16)
        self._view = view or (lambda array: array)
        self.arrays: list[NDArray] = []
        self._oriented: list[NDArray] = []
        self._layer_of: dict[int, int] = {}
        self._places: defaultdict[int, list[_Place]] = defaultdict(list)
        self._grow()

    def _grow(self) -> None:
        size = int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize
        require_memory(size * (len(self.arrays) + 1), "Showing the segments")
        self.arrays.append(np.zeros(self._shape, dtype=self._dtype))
        self._oriented.append(self._view(self.arrays[-1]))

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of a layer as (slice, row, column) of the frames."""
        return self._oriented[0].shape

    def values_of(self, layer: int) -> list[int]:
        """List the values that lie in a layer."""
        return sorted(value for value, number in self._layer_of.items() if number == layer)

    def add(self, value: int, plane: int, rows: slice, columns: slice, mask: NDArray[np.bool_]) -> None:
        """Set ``value`` where ``mask`` holds, on a plane of the frames."""
        layer = self._layer_of.setdefault(value, 0)
        while True:
            part = self._oriented[layer][plane, rows, columns]
            covered = part[mask]
            if not np.any((covered != 0) & (covered != value)):
                part[mask] = value
                self._places[value].append((plane, rows, columns))
                return
            layer = self._move(value, layer)

    def add_map(
        self, plane: int, rows: slice, columns: slice, labels: NDArray[np.integer], values: Sequence[int]
    ) -> bool:
        """Set a plane's labels at once; False, and nothing done, when that would cover another segment."""
        if plane < 0 or any(self._layer_of.get(value, 0) for value in values):
            return False
        part = self._oriented[0][plane, rows, columns]
        covered = part != 0
        if np.any(covered & (labels != 0) & (part != labels)):
            return False
        np.copyto(part, labels.astype(self._dtype), where=labels != 0)
        for value in values:
            self._layer_of[value] = 0
            self._places[value].append((plane, rows, columns))
        return True

    def _move(self, value: int, layer: int) -> int:
        """Move what is there of a segment to the next layer where it covers nothing; return that layer."""
        source = self._oriented[layer]
        places = self._places[value]
        target = layer + 1
        while True:
            if target == len(self._oriented):
                self._grow()
            other = self._oriented[target]
            if not any(np.any(other[place][source[place] == value]) for place in places):
                break
            target += 1
        for place in places:
            part = source[place]
            mask = part == value
            other[place][mask] = value
            part[mask] = 0
        self._layer_of[value] = target
        return target


def tight_box(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Return the rows and columns outside which ``mask`` is empty, or None when all of it is."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
