"""Segments over a picture: outline, fill and hatching at the resolution of the screen.

The label map is sampled at each screen pixel (nearest voxel: what is drawn is what the model said), so the
outline has the same width at every zoom. Overlays are ``uint32`` premultiplied ``0xAARRGGBB``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.render.palette import Rgb
from core.render.placement import Placement

HATCH_PERIOD_PX = 12
HATCH_WIDTH_PX = 4
DASH_PERIOD_PX = 9
DASH_LENGTH_PX = 6


@dataclass(frozen=True)
class OverlayStyle:
    """How segments are drawn.

    ``fill`` adds a translucent area of ``opacity`` (0…1) to the outline; ``hatched`` marks a result that
    is still arriving or failed a check; ``dashed`` outlines belong to objects that others made.
    """

    fill: bool = False
    opacity: float = 0.35
    outline_px: int = 2
    hatched: bool = False
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class ScreenPatch:
    """Premultiplied screen pixels whose upper left corner lies at (x, y) of the viewport."""

    x: int
    y: int
    pixels: NDArray[np.uint32]


def visible_span(start: float, step: float, count: int, limit: int) -> tuple[int, NDArray[np.intp]]:
    """Screen pixels along one axis that the picture covers.

    Returns
    -------
    first : int
        First covered pixel.
    index : numpy.ndarray
        For each covered pixel from there on, the picture index whose area holds the pixel's centre.
    """
    first = max(0, int(np.ceil(start - 0.5)))
    last = min(limit, int(np.ceil(start + count * step - 0.5)))
    centres = np.arange(first, max(first, last)) + 0.5
    index = np.clip(np.floor((centres - start) / step).astype(np.intp), 0, max(count - 1, 0))
    return first, index


def screen_labels(
    labels: NDArray[np.integer], placement: Placement, size: tuple[int, int]
) -> tuple[int, int, NDArray[np.integer]]:
    """Sample a ``(rows, columns)`` label picture at the screen pixels of a viewport of (width, height)."""
    x, columns = visible_span(placement.left, placement.dx, placement.columns, size[0])
    y, rows = visible_span(placement.top, placement.dy, placement.rows, size[1])
    return x, y, np.take(np.take(np.ascontiguousarray(labels), rows, axis=0), columns, axis=1)


def color_table(
    colors: Mapping[int, Rgb], alpha: float, hidden: frozenset[int], size: int
) -> NDArray[np.uint32]:
    """``(size,)`` premultiplied colours per label value; background and hidden segments are clear."""
    table = np.zeros(size, dtype=np.uint32)
    for value, rgb in colors.items():
        if 0 < value < size and value not in hidden:
            table[value] = premultiplied(rgb, alpha)
    return table


def premultiplied(rgb: Rgb, alpha: float) -> np.uint32:
    """One premultiplied screen pixel of opacity ``alpha`` (0…1)."""
    red, green, blue = (round(c * alpha) for c in rgb)
    return np.uint32(round(255 * alpha) << 24 | red << 16 | green << 8 | blue)


def draw_labels(
    labels: NDArray[np.integer],
    placement: Placement,
    size: tuple[int, int],
    colors: Mapping[int, Rgb],
    style: OverlayStyle,
    hidden: frozenset[int] = frozenset(),
) -> ScreenPatch | None:
    """Draw the segments of one picture.

    Parameters
    ----------
    labels : numpy.ndarray
        ``(rows, columns)`` label values of the displayed picture.
    size : tuple of int
        Width and height of the viewport in pixels.

    Returns
    -------
    ScreenPatch or None
        None when no visible segment lies in the picture.
    """
    if not labels.any():
        return None
    x, y, sampled = screen_labels(labels, placement, size)
    if sampled.size == 0:
        return None
    entries = max(256, int(sampled.max()) + 1)
    outline = np.take(color_table(colors, 1.0, hidden, entries), sampled)
    edge = _inner_edge(sampled, max(1, style.outline_px))
    if style.dashed:
        edge &= _dashes(sampled.shape, x, y)
    if style.fill or style.hatched:
        area = np.take(color_table(colors, style.opacity, hidden, entries), sampled)
        if style.hatched:
            area = np.where(_hatch(sampled.shape, x, y), area, np.uint32(0))
        pixels = np.where(edge, outline, area)
    else:
        pixels = np.where(edge, outline, np.uint32(0))
    return ScreenPatch(x, y, pixels)


def _inner_edge(labels: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Pixels that have another label within ``width`` pixels up, down, left or right."""
    edge = np.zeros(labels.shape, dtype=np.bool_)
    for step in range(1, width + 1):
        vertical = labels[step:] != labels[:-step]
        edge[step:] |= vertical
        edge[:-step] |= vertical
        horizontal = labels[:, step:] != labels[:, :-step]
        edge[:, step:] |= horizontal
        edge[:, :-step] |= horizontal
    return edge


def _dashes(shape: tuple[int, ...], x: int, y: int) -> NDArray[np.bool_]:
    """Diagonal gaps: every direction of an outline is cut, the diagonal one along the gaps the least."""
    rows = np.arange(y, y + shape[0])[:, None]
    columns = np.arange(x, x + shape[1])[None, :]
    return (2 * rows + columns) % (2 * DASH_PERIOD_PX) < 2 * DASH_LENGTH_PX


def _hatch(shape: tuple[int, ...], x: int, y: int) -> NDArray[np.bool_]:
    rows = np.arange(y, y + shape[0])[:, None]
    columns = np.arange(x, x + shape[1])[None, :]
    return (rows + columns) % HATCH_PERIOD_PX < HATCH_WIDTH_PX
