"""Colours that readers with a colour-vision deficiency tell apart.

Source: Okabe and Ito 2008, "Color Universal Design"; Tol 2021, "Colour Schemes" (muted, then light).
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.segmentation import SegmentDefinition

Rgb = tuple[int, int, int]

OKABE_ITO: tuple[Rgb, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)

TOL: tuple[Rgb, ...] = (
    (204, 102, 119),
    (136, 204, 238),
    (221, 204, 119),
    (68, 170, 153),
    (153, 153, 51),
    (170, 68, 153),
    (119, 170, 221),
    (238, 136, 102),
    (170, 170, 0),
    (255, 170, 187),
    (153, 221, 255),
    (187, 204, 51),
    (17, 119, 51),
    (136, 34, 85),
    (51, 34, 136),
)

SAFE = OKABE_ITO + TOL


def safe_colors(segments: Iterable[SegmentDefinition]) -> dict[int, Rgb]:
    """Give each segment the nearest colour of the safe palette that no earlier segment has.

    A segment whose recommended colour is in the palette keeps it. Beyond 22 segments colours repeat: the
    label in the list then tells them apart.

    Returns
    -------
    dict
        Label value → RGB (0…255).
    """
    ordered = tuple(segments)
    colors = {s.value: s.color_rgb for s in ordered if s.color_rgb in SAFE}
    keepers = set(colors)
    seen: set[Rgb] = set()
    for segment in ordered:
        if segment.value in keepers and colors[segment.value] in seen:
            del colors[segment.value]
        elif segment.value in keepers:
            seen.add(colors[segment.value])
    for segment in ordered:
        if segment.value in colors:
            continue
        free = [c for c in SAFE if c not in seen] or list(SAFE)
        nearest = min(free, key=lambda c: _distance(c, segment.color_rgb))
        colors[segment.value] = nearest
        seen.add(nearest)
    return colors


def _distance(a: Rgb, b: Rgb) -> float:
    """Redmean distance, a cheap approximation of perceived difference."""
    red = (a[0] + b[0]) / 2.0
    dr, dg, db = (x - y for x, y in zip(a, b, strict=True))
    return (2 + red / 256) * dr * dr + 4 * dg * dg + (2 + (255 - red) / 256) * db * db
