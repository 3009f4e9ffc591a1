"""Signed distances (millimetres, negative inside) of simple shapes, and smooth random fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from core.phantom.canvas import Array, Canvas, Region

Vector = Sequence[float] | NDArray[np.floating]


class Profile:
    """Numbers that vary with height, tabulated every millimetre and looked up per voxel.

    Parameters
    ----------
    knots : mapping from z in millimetres to a row of values
        Interpolated with a monotone-ish smoothed line, constant beyond the ends.
    """

    def __init__(self, knots: Mapping[float, Sequence[float]], smooth_mm: float = 8.0) -> None:
        zs = np.array(sorted(knots), dtype=float)
        rows = np.array([knots[z] for z in zs], dtype=float)
        self._low = int(zs[0]) - 40
        grid = np.arange(self._low, int(zs[-1]) + 41)
        table = np.stack([np.interp(grid, zs, column) for column in rows.T])
        self._table = ndimage.gaussian_filter1d(table, smooth_mm, axis=1, mode="nearest").astype(np.float32)

    def index(self, z: Array) -> NDArray[np.intp]:
        """Return the table positions of heights."""
        position = np.rint(z).astype(np.intp)
        position -= self._low
        return np.clip(position, 0, self._table.shape[1] - 1, out=position)

    def __call__(self, index: NDArray[np.intp], column: int) -> Array:
        """Return one column at table positions."""
        values: Array = self._table[column][index]
        return values

    def at(self, z: float) -> NDArray[np.float32]:
        """Return the row of values at one height."""
        row: NDArray[np.float32] = self._table[
            :, int(np.clip(round(z) - self._low, 0, self._table.shape[1] - 1))
        ]
        return row


def superellipse(x: Array, y: Array, a: Array | float, b: Array | float, n: float) -> Array:
    """Radial distance to the outline ``|x/a|^n + |y/b|^n = 1`` in each plane z = const."""
    u, v = np.abs(x / a), np.abs(y / b)
    if n == 2.0:
        f = np.sqrt(u * u + v * v)
    else:
        big = np.maximum(np.maximum(u, v), 1e-6)
        ratio = np.minimum(u, v) / big
        f = big * np.power(1.0 + np.power(ratio, np.float32(n)), np.float32(1.0 / n))
    f = np.maximum(f, 1e-3)
    return np.sqrt(x * x + y * y) * (1.0 - 1.0 / f) + np.where(f < 0.02, -np.minimum(a, b), 0.0).astype(
        np.float32
    )


def ellipsoid(
    region: Region, center: Vector, radii: Vector, axes: NDArray[np.floating] | None = None
) -> Array:
    """Approximate distance to an ellipsoid; ``axes`` rows are its unit axes (default x, y, z)."""
    dx, dy, dz = region.x - center[0], region.y - center[1], region.z - center[2]
    if axes is not None:
        dx, dy, dz = (
            np.float32(r[0]) * dx + np.float32(r[1]) * dy + np.float32(r[2]) * dz for r in np.asarray(axes)
        )
    ux, uy, uz = dx / radii[0], dy / radii[1], dz / radii[2]
    f = np.sqrt(ux * ux + uy * uy + uz * uz)
    g = np.sqrt((ux / radii[0]) ** 2 + (uy / radii[1]) ** 2 + (uz / radii[2]) ** 2)
    result: Array = (f * (f - 1.0) / np.maximum(g, 1e-6)).astype(np.float32)
    return np.where(f < 0.05, np.float32(-min(radii)), result)


def smooth_union(a: Array, b: Array, k: float) -> Array:
    """Union of two distances with a fillet of about ``k`` millimetres. Source: I. Quilez, smooth minimum."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0.0, 1.0)
    out: Array = b + (a - b) * h - np.float32(k) * h * (1.0 - h)
    return out


def around(points: NDArray[np.floating], margin: float) -> tuple[NDArray, NDArray]:
    """Return the box around points grown by a margin."""
    p = np.atleast_2d(points)
    return p.min(axis=0) - margin, p.max(axis=0) + margin


def segment_distance(
    region: Region, a: Vector, b: Vector, stretch: Vector = (1.0, 1.0, 1.0)
) -> tuple[Array, Array]:
    """Distance to the line a–b and the position along it (0 … 1).

    ``stretch`` divides the axes first: (1, 1, 1.6) makes a tube 1.6 times as high as it is thick.
    """
    s = np.asarray(stretch, dtype=np.float64)
    pa, pb = np.asarray(a, float) / s, np.asarray(b, float) / s
    d = pb - pa
    length2 = max(float(d @ d), 1e-6)
    x, y, z = (
        c / np.float32(q) - np.float32(o)
        for c, q, o in zip((region.x, region.y, region.z), s, pa, strict=True)
    )
    t = np.clip(
        (x * np.float32(d[0]) + y * np.float32(d[1]) + z * np.float32(d[2])) / np.float32(length2), 0.0, 1.0
    )
    x, y, z = x - t * np.float32(d[0]), y - t * np.float32(d[1]), z - t * np.float32(d[2])
    return np.sqrt(x * x + y * y + z * z), t


def tube(
    canvas: Canvas,
    points: NDArray[np.floating],
    radii: Vector | float,
    stretch: Vector = (1.0, 1.0, 1.0),
    margin: float = 0.0,
) -> tuple[Region, Array] | None:
    """Distance to a tube along a polyline; ``radii`` per point. None when outside the grid."""
    pts = np.asarray(points, dtype=float)
    rad = np.broadcast_to(np.asarray(radii, dtype=float), (len(pts),))
    pad = float(rad.max()) * max(stretch) + margin
    region = canvas.region(*around(pts, pad))
    if region is None:
        return None
    sdf = np.full(region.x.shape, 1e3, dtype=np.float32)
    origin = [s.start for s in region.box]
    for p, q, rp, rq in zip(pts[:-1], pts[1:], rad[:-1], rad[1:], strict=True):
        part = canvas.region(*around(np.stack([p, q]), max(rp, rq) * max(stretch) + margin))
        if part is None:
            continue
        distance, t = segment_distance(part, p, q, stretch)
        local = tuple(slice(s.start - o, s.stop - o) for s, o in zip(part.box, origin, strict=True))
        view = sdf[local]
        np.minimum(view, distance - (np.float32(rp) + t * np.float32(rq - rp)), out=view)
    return region, sdf


def curve(points: NDArray[np.floating] | Sequence[Vector], count: int) -> NDArray[np.float64]:
    """Resample a polyline smoothly to ``count`` points (cubic through the given ones)."""
    pts = np.asarray(points, dtype=float)
    t = np.linspace(0.0, 1.0, len(pts))
    fine = np.linspace(0.0, 1.0, count)
    order = min(3, len(pts) - 1)
    out: NDArray[np.float64] = np.asarray(make_interp_spline(t, pts, k=order)(fine))
    return out


def random_field(
    shape: tuple[int, int, int], rng: np.random.Generator, scale_vox: float | tuple[float, float, float]
) -> Array:
    """Return a smooth random field of zero mean and about unit deviation.

    Coarse noise is interpolated (cubic) to the grid: cheap at every size. ``scale_vox`` is the distance
    between independent values in voxels.
    """
    scales = np.broadcast_to(np.asarray(scale_vox, dtype=float), (3,))
    coarse = [max(4, int(np.ceil(n / s)) + 3) for n, s in zip(shape, scales, strict=True)]
    out: Array = rng.standard_normal(coarse).astype(np.float32)
    for axis, (n, s) in enumerate(zip(shape, scales, strict=True)):
        position = np.arange(n) / s + 1.0
        out = _interpolate_axis(out, np.minimum(position, coarse[axis] - 2.001), axis)
    return out * np.float32(1.6)


def _interpolate_axis(values: Array, position: NDArray[np.floating], axis: int) -> Array:
    """Cubic B-spline weights along one axis as a small matrix product."""
    base = np.floor(position).astype(int)
    t = position - base
    weights = np.stack(
        [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6],
        axis=1,
    )
    matrix = np.zeros((len(position), values.shape[axis]), dtype=np.float32)
    rows = np.arange(len(position))
    for offset in range(4):
        column = np.clip(base - 1 + offset, 0, values.shape[axis] - 1)
        np.add.at(matrix, (rows, column), weights[:, offset].astype(np.float32))
    moved = np.tensordot(matrix, values, axes=(1, axis))
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis))
