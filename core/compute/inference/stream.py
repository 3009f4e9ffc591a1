"""From logits on the model grid to labels on the series' grid, slice by slice.

The full-resolution logits of all classes are never held: two slices of them are, whatever the length of the
series. The labels equal those of trilinear interpolation of all logits followed by argmax.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from core.compute.inference.grids import ModelGrid
from core.compute.inference.resample import axis_matrix, is_identity

_INSIDE = 1e-6


class LabelStream:
    """Takes model slices front to back, writes label slices of the reoriented series as soon as they are
    known.
    """

    def __init__(self, grid: ModelGrid) -> None:
        self._index = grid.model_index(0)
        count = grid.model.shape_kji[0]
        outside = grid.constant_outside
        self._clamped = np.clip(self._index, 0, count - 1)
        self._valid = self._within(self._index, count) if outside else np.ones(len(self._index), bool)
        self._planes = _PlaneUpsampler(grid)
        self._recent: dict[int, torch.Tensor] = {}
        self._received = 0
        self._next = 0
        self._count = count
        self.labels: NDArray[np.uint8] = np.zeros(grid.series.shape_kji, dtype=np.uint8)

    @staticmethod
    def _within(index: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
        return (index > -0.5 - _INSIDE) & (index < count - 0.5 + _INSIDE)

    def push(self, logits: torch.Tensor) -> None:
        """Take the next model slices, ``(C, n, J, I)`` float32."""
        with _one_thread():
            for k in range(logits.shape[1]):
                self._recent[self._received] = self._planes(logits[:, k])
                self._received += 1
                self._emit()

    def finished(self) -> NDArray[np.uint8]:
        """Return the labels ``(K, J, I)`` of the reoriented series once all model slices were pushed."""
        assert self._received == self._count and self._next == len(self._index), "logits are missing"
        return self.labels

    def _emit(self) -> None:
        while self._next < len(self._index):
            position = float(self._clamped[self._next])
            low = min(int(position), self._count - 1)
            weight = position - low
            high = low + 1 if weight > _INSIDE else low
            if high >= self._received:
                break
            if self._valid[self._next]:
                self._write(self._next, low, high, weight)
            self._next += 1
            for old in [k for k in self._recent if k < low]:
                del self._recent[old]

    def _write(self, k: int, low: int, high: int, weight: float) -> None:
        first = self._recent[low]
        plane = first if high == low else torch.lerp(first, self._recent[high], weight)
        self._planes.write_labels(plane, self.labels[k])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Work on slices with one thread: they are too small to share, and waiting for each other costs more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _PlaneUpsampler:
    """Bilinear interpolation of ``(C, J, I)`` to the rows and columns of the series, then argmax."""

    def __init__(self, grid: ModelGrid) -> None:
        rows, columns = grid.model_index(1), grid.model_index(2)
        height, width = grid.model.shape_kji[1:]
        self._same = is_identity(rows, height) and is_identity(columns, width)
        clamped = np.clip(rows, 0, height - 1)
        low = np.minimum(clamped.astype(np.int64), height - 1)
        self._low = torch.from_numpy(low)
        self._high = torch.from_numpy(np.minimum(low + 1, height - 1))
        self._weight = torch.from_numpy((clamped - low).astype(np.float32))[None, :, None]
        self._columns = torch.from_numpy(np.ascontiguousarray(axis_matrix(columns, width).T))
        self._outside = _outside_mask(grid, rows, columns, (height, width))

    def __call__(self, plane: torch.Tensor) -> torch.Tensor:
        plane = plane.cpu()
        if self._same:
            return plane.clone()
        wide = torch.matmul(plane, self._columns)
        return torch.lerp(wide[:, self._low], wide[:, self._high], self._weight)

    def write_labels(self, plane: torch.Tensor, target: NDArray[np.uint8]) -> None:
        """Write the argmax of ``(C, J, I)`` to ``target`` ``(J, I)``; background outside the model grid."""
        target[...] = argmax_labels(plane).numpy()
        if self._outside is not None:
            target[self._outside] = 0


def argmax_labels(logits: torch.Tensor) -> torch.Tensor:
    """Return the index of the largest channel as uint8; the first wins a tie, as in ``torch.argmax``."""
    best = logits[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    for channel in range(1, logits.shape[0]):
        better = logits[channel] > best
        labels.masked_fill_(better, channel)
        torch.maximum(best, logits[channel], out=best)
    return labels


def _outside_mask(
    grid: ModelGrid, rows: NDArray[np.float64], columns: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.bool_] | None:
    if not grid.constant_outside:
        return None
    inside = LabelStream._within(rows, shape[0])[:, None] & LabelStream._within(columns, shape[1])[None, :]
    return None if inside.all() else ~inside
