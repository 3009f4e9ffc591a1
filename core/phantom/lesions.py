"""Lesions painted on pictures of heads: what they are and where is known, so that a network can learn to see them.

Two kinds, by the look of contrast-enhanced T1: intra-axial (ring of uneven thickness around a dark core, patchy, or
without enhancement) and extra-axial (even and bright, mostly at the inner table). They are caricatures, made to teach a
network what to look at, not to be mistaken for patients.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.float32]
INTRA_AXIAL, EXTRA_AXIAL = 1, 2
SIDE = 160
"""Pixels along the side of the pictures that are painted on; sizes below are in these pixels."""
_BANK = 12


def depth_of(head: Picture) -> Picture:
    """Return each pixel's distance to the outside of the head, in pixels; ``head`` is ``(SIDE, SIDE)`` in 0 … 1."""
    mask = ndimage.binary_closing(head > 0.10 * np.percentile(head, 99), iterations=2)
    filled = np.pad(ndimage.binary_fill_holes(mask), 1)
    return np.asarray(ndimage.distance_transform_edt(filled)[1:-1, 1:-1], dtype=np.float32)


def paint(
    head: Picture, depth: Picture, kind: int, rng: np.random.Generator
) -> tuple[Picture, Picture] | None:
    """Paint one lesion.

    Parameters
    ----------
    head, depth : numpy.ndarray
        ``(SIDE, SIDE)`` float32: picture in 0 … 1, and ``depth_of`` it.
    kind : int
        ``INTRA_AXIAL`` or ``EXTRA_AXIAL``.

    Returns
    -------
    tuple of numpy.ndarray or None
        The picture and the lesion's opacity, both float32 in 0 … 1; None where the head has no room for it.
    """
    radius = SIDE * float(np.exp(rng.uniform(np.log(0.045), np.log(0.15))))
    center = _place(depth, kind, radius, rng)
    if center is None:
        return None
    extra = kind == EXTRA_AXIAL
    inside = _inside(center, radius, 0.10 if extra else 0.22, rng)
    in_skull = np.clip((depth - 7) / 3, 0, 1)
    opacity = in_skull * _sigmoid(inside / 0.7)
    deep = head[depth > 14]
    level = float(np.median(deep)) if deep.size else 0.3
    bright = min(0.95, level * rng.uniform(1.4, 2.3))
    below = _with_oedema(head, depth, inside, radius, rng) if rng.random() < (0.4 if extra else 0.7) else head
    if extra:
        even = _field(rng, 1.5) * rng.uniform(0.02, 0.08) + _field(rng, radius * 0.4) * rng.uniform(0, 0.10)
        look = np.asarray(bright * (1 + even), dtype=np.float32)
    else:
        look, soft = _intra_axial(inside, radius, level, bright, rng)
        opacity = in_skull * _sigmoid(inside / 1.5) if soft else opacity
    painted = below * (1 - opacity) + np.clip(look, 0, 1) * opacity
    return painted.astype(np.float32), opacity.astype(np.float32)


def varied_healthy(head: Picture, depth: Picture, rng: np.random.Generator) -> Picture:
    """Return a healthy slice as another scanner and a contrast agent might show it: bright vessels, rim and mucosa."""
    grey = float(np.median(head[head > 0.15])) if (head > 0.15).any() else 0.3
    near = np.exp(-(((head - grey) / 0.25) ** 2)) * rng.uniform(0, 0.6)
    out = head * (1 - near) + near * grey
    if rng.random() < 0.6:
        out = 0.5 * out + 0.5 * ndimage.gaussian_filter(head, rng.uniform(0.3, 1.5))
    out = np.clip(out, 0, 1) ** rng.uniform(0.9, 1.8)
    rows, columns = _grid()
    ys, xs = np.nonzero(depth > 8)
    for _ in range(rng.integers(0, 5) if len(ys) else 0):
        at, width = rng.integers(len(ys)), rng.uniform(0.8, 2.0)
        away = (rows - ys[at]) ** 2 + (columns - xs[at]) ** 2
        out = out + np.exp(-away / (2 * width * width)) * rng.uniform(0.1, 0.4)
    if rng.random() < 0.5:
        line = (np.abs(_field(rng, 12)) < 0.06) & (_field(rng, 12) > 0.8) & (depth > 8)
        out = out + ndimage.gaussian_filter(line.astype(np.float32), 0.6) * rng.uniform(0.1, 0.4)
    if rng.random() < 0.5:
        low = np.clip((rows / SIDE - rng.uniform(0.55, 0.7)) * 12, 0, 1)
        out = out * (1 + low * np.clip(_field(rng, 4), -0.3, 1) * rng.uniform(0, 0.6))
    return np.clip(out, 0, 1).astype(np.float32)


def _place(depth: Picture, kind: int, radius: float, rng: np.random.Generator) -> tuple[int, int] | None:
    if kind == EXTRA_AXIAL and rng.random() < 0.7:
        low, high = max(9.0, 0.55 * radius + 8), radius + 14  # touches the inner table
    else:
        low, high = (14.0 if kind == EXTRA_AXIAL else 0.7 * radius + 14), np.inf
    rows, _ = _grid()
    ys, xs = np.nonzero((depth > low) & (depth < high) & (rows < 0.62 * SIDE))
    if len(ys) == 0:
        return None
    at = int(rng.integers(len(ys)))
    return int(ys[at]), int(xs[at])


def _inside(center: tuple[int, int], radius: float, uneven: float, rng: np.random.Generator) -> Picture:
    """Return how far inside an uneven ellipse each pixel lies (px, negative outside)."""
    rows, columns = _grid()
    dy, dx = rows - center[0], columns - center[1]
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.25, 0.25))
    along = (dx * np.cos(angle) + dy * np.sin(angle)) * stretch
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / stretch
    return np.asarray(radius - np.hypot(along, across) - _field(rng, radius * 0.45) * radius * uneven)


def _with_oedema(
    head: Picture, depth: Picture, inside: Picture, radius: float, rng: np.random.Generator
) -> Picture:
    width = radius * rng.uniform(0.2, 0.9)
    share = np.clip((depth - 12) / 4, 0, 1) * _sigmoid((inside + width + _field(rng, 5) * width * 0.4) / 2)
    return np.asarray(head * (1 - share * rng.uniform(0.1, 0.35)))


def _intra_axial(
    inside: Picture, radius: float, level: float, bright: float, rng: np.random.Generator
) -> tuple[Picture, bool]:
    """Return the look of an intra-axial lesion and whether its border is soft."""
    fine, kind = _field(rng, 1.8), rng.random()
    if kind < 0.55:
        thick = radius * rng.uniform(0.12, 0.35) * (1 + 0.5 * _field(rng, radius * 0.5)).clip(0.2, 2)
        ring = np.exp(-np.maximum(inside - thick, 0) / 1.2)
        core = level * rng.uniform(0.4, 0.9) * (1 + 0.08 * fine)
        look = core * (1 - ring) + bright * (1 + 0.1 * fine) * ring
        if rng.random() < 0.3:
            look = np.where(_field(rng, radius * 0.4) > 0.8, bright, look)
        return np.asarray(look, dtype=np.float32), False
    if kind < 0.75:
        patches = _sigmoid((_field(rng, radius * 0.25) - rng.uniform(-0.2, 0.8)) * 4)
        dark = level * rng.uniform(0.6, 0.95)
        return dark * (1 - patches) + bright * patches * (1 + 0.1 * fine), False
    return level * rng.uniform(0.45, 0.8) * (1 + 0.08 * fine), True


def _field(rng: np.random.Generator, sigma: float) -> Picture:
    """Return a smooth random field, mean 0, deviation 1, from a bank of twelve a scale (rolled, transposed)."""
    scale = float(np.round(2 ** (np.round(np.log2(max(sigma, 1)) * 2) / 2), 3))
    number = int(rng.integers(_BANK))
    shift = (int(rng.integers(SIDE)), int(rng.integers(SIDE)))
    rolled = np.roll(_bank(scale)[number], shift, (0, 1))
    return rolled.T if rng.random() < 0.5 else rolled


@lru_cache(maxsize=64)
def _bank(scale: float) -> tuple[Picture, ...]:
    rng = np.random.default_rng(int(scale * 100))
    made = []
    for _ in range(_BANK):
        smooth = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), scale, mode="wrap")
        made.append(((smooth - smooth.mean()) / (smooth.std() + 1e-6)).astype(np.float32))
    return tuple(made)


@lru_cache(maxsize=1)
def _grid() -> tuple[Picture, Picture]:
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return rows, columns


def _sigmoid(value: NDArray) -> Picture:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -30, 30))), dtype=np.float32)
