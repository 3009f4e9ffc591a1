"""Area of the surface inside a 2 × 2 (× 2) neighbourhood of voxel centres, for every pattern of inside and outside.

The surface of a mask is taken to cut each edge between an inside and an outside voxel centre in its middle. A
pattern's surface is found without a table: the side with fewer corners is split into its edge-connected parts; the
convex hull of a part's corners and of the cut points around it is bounded by faces of the cell and by the surface,
so the facets that don't lie in a face of the cell are the surface. Where both sides have four corners, the mean of
both is taken. Hulls keep under scaling, so the facets are found once and measured for any spacing; for a flat pattern
hull and marching cubes agree (W. E. Lorensen, H. E. Cline, SIGGRAPH 1987), and a pattern and its complement have the
same area.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Values = NDArray[np.float64]


def corners(dimensions: int) -> NDArray[np.int64]:
    """Return the ``(2ᵈ, d)`` corners of a cell; bit n of a pattern is corner n."""
    return np.array(list(itertools.product((0, 1), repeat=dimensions)))


def element_sizes(spacing_mm: tuple[float, ...]) -> Values:
    """Return the surface in mm² (2-D: the contour in mm) of each pattern: ``(256,)`` or ``(16,)``.

    Parameters
    ----------
    spacing_mm : tuple of float
        Two or three, in the order of the array's axes.
    """
    dimensions = len(spacing_mm)
    code, weight, facet = _facets(dimensions)
    points = facet * np.asarray(spacing_mm, dtype=np.float64)
    edges = points[:, 1:] - points[:, :1]
    if dimensions == 2:
        size = np.linalg.norm(edges[:, 0], axis=1)
    else:
        size = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    return np.bincount(code, size * weight, minlength=2 ** (2**dimensions)).astype(np.float64)


@lru_cache(maxsize=2)
def _facets(dimensions: int) -> tuple[NDArray[np.int64], Values, Values]:
    """Return pattern ``(F,)``, weight ``(F,)`` and vertices ``(F, d, d)`` in cells of every facet."""
    if dimensions not in (2, 3):
        raise ValueError("surfaces have two or three dimensions")
    place = corners(dimensions)
    count = len(place)
    codes: list[int] = []
    weights: list[float] = []
    facets: list[Values] = []
    for code in range(1, 2**count - 1):
        inside = [n for n in range(count) if code >> n & 1]
        outside = [n for n in range(count) if not code >> n & 1]
        sides = [min(inside, outside, key=len)] if len(inside) != len(outside) else [inside, outside]
        for side in sides:
            for facet in _surface_of(side, place):
                codes.append(code)
                weights.append(1.0 / len(sides))
                facets.append(facet)
    return np.array(codes), np.array(weights), np.array(facets)


def _surface_of(side: list[int], place: NDArray[np.int64]) -> list[Values]:
    """Return the facets that separate ``side`` from the rest of the cell."""
    found = []
    for part in _connected(side, place):
        points = [place[n].astype(np.float64) for n in part]
        for n in part:
            neighbours = np.flatnonzero(np.abs(place - place[n]).sum(axis=1) == 1)
            points += [(place[n] + place[m]) / 2 for m in neighbours if m not in side]
        cloud = np.array(points)
        for simplex in ConvexHull(cloud).simplices:
            facet = cloud[simplex]
            on_face = ((facet == 0).all(axis=0) | (facet == 1).all(axis=0)).any()
            if not on_face:
                found.append(facet)
    return found


def _connected(side: list[int], place: NDArray[np.int64]) -> list[list[int]]:
    """Split corners into parts that hang together along edges of the cell."""
    left, parts = set(side), []
    while left:
        part, grown = [left.pop()], True
        while grown:
            near = {n for n in left if any(np.abs(place[n] - place[m]).sum() == 1 for m in part)}
            left -= near
            part += sorted(near)
            grown = bool(near)
        parts.append(part)
    return parts
