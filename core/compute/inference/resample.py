"""Separable linear resampling with exact control of what happens at the edges.

Source: linear interpolation as ITK's ``LinearInterpolateImageFunction``; with ``antialias`` the triangle
filter is widened by the sampling step as in Pillow's and torch's antialiased bilinear resize.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.compute.inference.grids import ModelGrid
from core.domain.progress import CancelToken

_INSIDE = 1e-6
Float = NDArray[np.float32]


def axis_matrix(
    index: NDArray[np.float64], length: int, *, zero_outside: bool = False, antialias: bool = False
) -> Float:
    """Return ``(len(index), length)`` float32 weights that sample an axis of ``length`` at fractional
    ``index``.

    Rows outside 0…length - 1 repeat the edge, or are all zero with ``zero_outside``.
    """
    index = np.asarray(index, dtype=np.float64)
    step = abs(float(index[1] - index[0])) if len(index) > 1 else 1.0
    support = max(step, 1.0) if antialias else 1.0
    distance = np.abs(np.arange(length)[None, :] - _clamped(index, length, support)[:, None])
    weights = np.clip(1.0 - distance / support, 0.0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    if zero_outside:
        weights[(index < -_INSIDE) | (index > length - 1 + _INSIDE)] = 0.0
    return weights.astype(np.float32)


def _clamped(index: NDArray[np.float64], length: int, support: float) -> NDArray[np.float64]:
    """A widened kernel is cut off and renormalised at the edge; a narrow one is moved inside."""
    reach = 0.0 if support <= 1.0 else (support - 1.0) / 2.0
    return np.clip(index, -reach, length - 1 + reach)


def is_identity(index: NDArray[np.float64], length: int) -> bool:
    """Whether sampling at ``index`` returns the axis unchanged."""
    return len(index) == length and bool(np.abs(index - np.arange(length)).max(initial=0.0) < _INSIDE)


def resample_separable(
    array: NDArray,
    indices: Sequence[NDArray[np.float64]],
    *,
    fill: float | None = None,
    antialias: bool = False,
    cancel: CancelToken | None = None,
) -> Float:
    """Sample ``array`` ``(K, J, I)`` of any dtype at the fractional ``indices`` of its three axes.

    Works slice by slice, so that beside the result only a few slices are held as float32.

    Parameters
    ----------
    fill : float, optional
        Value outside the array; None repeats the edge.

    Returns
    -------
    numpy.ndarray
        ``(len(indices[0]), len(indices[1]), len(indices[2]))`` float32, C-contiguous, new.
    """
    if all(is_identity(index, n) for index, n in zip(indices, array.shape, strict=True)):
        return np.array(array, dtype=np.float32, order="C")
    base = np.float32(0.0 if fill is None else fill)
    options = {"zero_outside": fill is not None, "antialias": antialias}
    along_k, along_j, along_i = (
        axis_matrix(index, n, **options) for index, n in zip(indices, array.shape, strict=True)
    )
    columns = np.ascontiguousarray(along_i.T)
    out = np.empty((len(along_k), len(along_j), len(along_i)), dtype=np.float32)
    planes = _PlaneCache(array, base, along_j, columns)
    for k, row in enumerate(along_k):
        if cancel is not None:
            cancel.raise_if_cancelled()
        used = np.flatnonzero(row)
        target = out[k]
        target.fill(base)
        for source in used:
            target += row[source] * planes[int(source)]
        planes.forget_before(int(used[0]) if len(used) else 0)
    return out


class _PlaneCache:
    """Input slices after in-plane resampling, minus the fill value; each is made once."""

    def __init__(self, array: NDArray, base: np.float32, rows: Float, columns: Float) -> None:
        self._array, self._base, self._rows, self._columns = array, base, rows, columns
        self._planes: dict[int, Float] = {}

    def __getitem__(self, k: int) -> Float:
        if k not in self._planes:
            plane = self._array[k].astype(np.float32)
            if self._base != 0:
                plane -= self._base
            self._planes[k] = np.asarray(self._rows @ (plane @ self._columns), dtype=np.float32)
        return self._planes[k]

    def forget_before(self, k: int) -> None:
        """Drop slices that no later output needs."""
        for old in [key for key in self._planes if key < k]:
            del self._planes[old]


def to_model_grid(
    reoriented: NDArray,
    grid: ModelGrid,
    *,
    fill: float,
    antialias: bool,
    cancel: CancelToken | None = None,
) -> Float:
    """Resample a series, already reoriented, to the model grid: ``(K, J, I)`` float32."""
    return resample_separable(
        reoriented,
        [grid.series_index(axis) for axis in range(3)],
        fill=fill if grid.constant_outside else None,
        antialias=antialias,
        cancel=cancel,
    )


def resize_image(image: NDArray, rows: int, columns: int) -> Float:
    """Resize ``(J, I)`` to ``(rows, columns)`` float32, pixel edges aligned, antialiased when it shrinks."""
    centres = [
        (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
        for n_in, n_out in zip(image.shape, (rows, columns), strict=True)
    ]
    indices = [np.zeros(1), *centres]
    return resample_separable(np.asarray(image)[None], indices, antialias=True)[0]
