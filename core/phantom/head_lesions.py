"""Lesions painted into a map of tissues: one mass with oedema, or several small ones of the white matter."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from core.phantom.canvas import Array
from core.phantom.head import Head, Labels, Tissue
from core.phantom.shapes import random_field

Box = tuple[slice, slice, slice]

_SOLID = np.array(
    [Tissue.WHITE, Tissue.CORTEX, Tissue.CEREBELLUM_WHITE, Tissue.CEREBELLUM_CORTEX, Tissue.THALAMUS,
     Tissue.CAUDATE, Tissue.PUTAMEN, Tissue.PALLIDUM, Tissue.STEM, Tissue.HIPPOCAMPUS, Tissue.AMYGDALA,
     Tissue.ACCUMBENS, Tissue.VENTRAL, Tissue.MENINGES]
)  # fmt: skip


class LesionKind(IntEnum):
    """The class of a case."""

    NONE = 0
    MASS = 1
    WHITE_MATTER = 2


def with_lesions(head: Head, kind: LesionKind, rng: np.random.Generator) -> Labels:
    """Return a copy of the head's tissues with lesions of that kind.

    A mass has a radius of 7 … 22 mm, at times a fluid core, and oedema that spreads in the white matter. Of the small
    lesions there are 3 … 14 with radii of 2.5 … 6 mm, most of them beside the ventricles.
    """
    tissue = head.tissue.copy()
    if kind is LesionKind.MASS:
        _mass(tissue, head.spacing_mm, rng)
    elif kind is LesionKind.WHITE_MATTER:
        _white_matter(tissue, head, rng)
    return tissue


def _mass(tissue: Labels, spacing_mm: float, rng: np.random.Generator) -> None:
    seeds = np.flatnonzero((tissue == Tissue.WHITE) | (tissue == Tissue.CORTEX))
    center = _place(seeds, tissue.shape, rng)
    radius = float(rng.uniform(7.0, 22.0))
    spread = float(rng.uniform(1.15, 1.9))
    box, distance = _blob(tissue.shape, center, radius, spread, spacing_mm, rng)
    view = tissue[box]
    white = (view == Tissue.WHITE) | (view == Tissue.CEREBELLUM_WHITE)
    solid = np.isin(view, _SOLID)
    ragged = distance + np.float32(0.12) * random_field(view.shape, rng, 5.0 / spacing_mm)
    view[(ragged < spread) & white] = Tissue.OEDEMA
    view[(distance < 1) & solid] = Tissue.LESION
    if rng.random() < 0.5:
        view[(ragged < rng.uniform(0.35, 0.8)) & solid] = Tissue.LESION_CORE


def _white_matter(tissue: Labels, head: Head, rng: np.random.Generator) -> None:
    white = np.flatnonzero(tissue == Tissue.WHITE)
    for _ in range(int(rng.integers(3, 15))):
        near = rng.random() < 0.7 and len(head.beside_ventricles) > 0
        center = _place(head.beside_ventricles if near else white, tissue.shape, rng)
        box, distance = _blob(tissue.shape, center, float(rng.uniform(2.5, 6.0)), 1.0, head.spacing_mm, rng)
        view = tissue[box]
        view[(distance < 1) & (view == Tissue.WHITE)] = Tissue.LESION


def _place(
    candidates: NDArray[np.int64], shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[int, int, int]:
    index = int(candidates[int(rng.integers(len(candidates)))])
    k, j, i = (int(n) for n in np.unravel_index(index, shape))
    return k, j, i


def _blob(
    shape: tuple[int, ...],
    center: tuple[int, int, int],
    radius_mm: float,
    reach: float,
    spacing_mm: float,
    rng: np.random.Generator,
) -> tuple[Box, Array]:
    """Return a box and in it the distance from the centre in radii of an uneven ellipsoid."""
    half = int(np.ceil(radius_mm * reach * 1.5 / spacing_mm)) + 1
    start = [max(0, c - half) for c in center]
    stop = [min(n, c + half + 1) for c, n in zip(center, shape, strict=True)]
    axes = rng.uniform(0.75, 1.3, 3)
    parts = [
        np.square((np.arange(a, b, dtype=np.float32) - c) * np.float32(spacing_mm / (radius_mm * s)))
        for a, b, c, s in zip(start, stop, center, axes, strict=True)
    ]
    distance = np.sqrt(parts[0][:, None, None] + parts[1][:, None] + parts[2])
    size = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
    uneven = random_field(size, rng, max(2.0, 0.8 * radius_mm / spacing_mm))
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2]))
    return box, np.asarray(distance + np.float32(0.16) * uneven, dtype=np.float32)
