"""One head under random contrasts: posed, deformed, with lesions, scanned; with its label map and what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.phantom.canvas import Array
from core.phantom.contrasts import Contrast, acquire, draw_signals, draw_texture
from core.phantom.head import STRUCTURE_OF, Head, Labels, Tissue, measurements
from core.phantom.head_lesions import LesionKind, with_lesions
from core.phantom.shapes import random_field

_QUARTER = 0.25
_INSIDE: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 0.0),
    *((k, j, i) for k in (-_QUARTER, _QUARTER) for j in (-_QUARTER, _QUARTER) for i in (-_QUARTER, _QUARTER)),
)
"""Points of a voxel that its signal is the mean of: partial volume."""


@dataclass(frozen=True, eq=False)
class HeadCase:
    """A scanned head.

    Attributes
    ----------
    contrasts : dict of str to numpy.ndarray
        ``(K, J, I)`` int16 signal ≥ 0 per contrast, all on one grid along LPS.
    labels : numpy.ndarray
        ``(K, J, I)`` uint8, values of ``Structure``.
    kind : LesionKind
        What was painted.
    values : dict of str to float
        ``measurements`` of the label map.
    """

    contrasts: dict[Contrast, NDArray[np.int16]]
    labels: Labels
    kind: LesionKind
    values: dict[str, float]


def make_head_case(
    head: Head,
    kind: LesionKind,
    contrasts: Sequence[Contrast],
    rng: np.random.Generator,
    *,
    size: int = 96,
    spacing_mm: float = 2.25,
    real_share: float = 0.5,
) -> HeadCase:
    """Render one case; all that is random is drawn from ``rng``.

    Parameters
    ----------
    contrasts : sequence of str
        Which ones to render.
    size : int
        Edge of the cube in voxels.
    spacing_mm : float
        Edge of a voxel.
    real_share : float
        How often the T1 shows the real series' own signal, where the head has one, instead of a drawn contrast.
    """
    tissue = _with_atrophy(with_lesions(head, kind, rng), head, rng)
    points, step = _points(head, size, spacing_mm, rng)
    parts = _look_up(head, tissue, points, step)
    center = parts[0][0]
    # What lies below the real field of view is drawn on, but nobody knows where the brain stem ends there.
    below = points[0] < 0 if head.open_below else None
    structures: Labels = STRUCTURE_OF[center]
    if below is not None:
        structures = np.where(below, np.uint8(0), structures)
    visible = _visible(center, structures, size, rng)
    labels = np.where(visible, structures, 0).astype(np.uint8)
    pictures: dict[Contrast, NDArray[np.int16]] = {}
    for contrast in contrasts:
        real = contrast == "T1" and head.real is not None and rng.random() < real_share
        signal = _signal(head, parts, contrast, real, rng)
        pictures[contrast] = acquire(np.where(visible, signal, np.float32(0)), spacing_mm, rng)
    return HeadCase(pictures, labels, kind, measurements(labels, spacing_mm**3))


def _with_atrophy(tissue: Labels, head: Head, rng: np.random.Generator) -> Labels:
    """Turn the outermost cortex into fluid in some cases."""
    if head.sulcal_mm is None or rng.random() < 0.5:
        return tissue
    lost = (head.sulcal_mm < rng.uniform(0.8, 1.8)) & (tissue == Tissue.CORTEX)
    tissue[lost] = Tissue.FLUID
    return tissue


def _points(
    head: Head, size: int, spacing_mm: float, rng: np.random.Generator
) -> tuple[Array, NDArray[np.float64]]:
    """Return where in the head each voxel of the scan lies, ``(3, size, size, size)``, and the step of a voxel."""
    a, b, c = np.deg2rad(rng.normal(0, 5, 3))
    turn = (
        np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        @ np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    )
    scale = np.exp(rng.normal(0, 0.06)) * np.exp(rng.normal(0, 0.05, 3))
    mirror = np.array([1.0, 1.0, -1.0 if rng.random() < 0.5 else 1.0])
    step = turn @ np.diag(spacing_mm / head.spacing_mm / scale * mirror)
    shift = rng.uniform((-20, -10, -6), (20, 10, 6)) / head.spacing_mm
    axis = np.arange(size, dtype=np.float32) - np.float32((size - 1) // 2)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    points = np.tensordot(step.astype(np.float32), grid, axes=1)
    points += (np.asarray(head.center_kji) + shift).astype(np.float32)[:, None, None, None]
    # Whole-head bends, then small ones.
    for wave_mm, height_mm in ((60.0, 4.0), (25.0, 1.4)):
        height = np.float32(rng.uniform(0, height_mm) / head.spacing_mm)
        for part in points:
            part += height * random_field((size, size, size), rng, wave_mm / spacing_mm)
    if head.push is not None:
        widen = rng.uniform(-1.5, 6.0) if rng.random() < 0.6 else rng.uniform(-1.0, 2.0)
        _widen_ventricles(points, head.push, float(widen), head.spacing_mm)
    return points, step


def _widen_ventricles(points: Array, push: NDArray[np.float16], widen_mm: float, spacing_mm: float) -> None:
    """Move points towards the middle of the ventricles (their walls then lie further out), or away when negative.

    Steps are short: a point that reaches the middle stays there instead of crossing to the opposite wall.
    """
    steps = max(1, int(np.ceil(abs(widen_mm) / 1.5)))
    for _ in range(steps):
        flat, outside = _flat_index(points, push.shape[1:])
        for part, direction in zip(points, push, strict=True):
            away = direction.ravel()[flat].astype(np.float32)
            away[outside] = 0
            part -= np.float32(widen_mm / steps / spacing_mm) * away.reshape(part.shape)


def _look_up(
    head: Head, tissue: Labels, points: Array, step: NDArray[np.float64]
) -> list[tuple[Labels, NDArray[np.int64], NDArray[np.bool_]]]:
    """Return, for each point inside the voxels, tissue, flat index and what lies outside of the head's grid."""
    parts = []
    flat_tissue = tissue.ravel()
    for offset in _INSIDE:
        moved = points + (step @ np.asarray(offset)).astype(np.float32)[:, None, None, None]
        if head.open_below:
            np.maximum(moved[0], np.float32(0), out=moved[0])
        flat, outside = _flat_index(moved, tissue.shape)
        found = flat_tissue[flat]
        found[outside] = Tissue.AIR
        parts.append((found.reshape(points.shape[1:]), flat, outside))
    return parts


def _flat_index(points: Array, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    flat = np.zeros(points[0].size, dtype=np.int64)
    outside = np.zeros(points[0].size, dtype=bool)
    for part, count in zip(points, shape, strict=True):
        index = np.rint(part).astype(np.int64).ravel()
        outside |= (index < 0) | (index >= count)
        flat = flat * count + np.clip(index, 0, count - 1)
    return flat, outside


def _signal(
    head: Head,
    parts: list[tuple[Labels, NDArray[np.int64], NDArray[np.bool_]]],
    contrast: Contrast,
    real: bool,
    rng: np.random.Generator,
) -> Array:
    """Return the mean signal of the points of each voxel."""
    signals = draw_signals(contrast, rng)
    gamma = np.float32(rng.uniform(0.8, 1.3))
    texture = np.float32(draw_texture(contrast, rng))
    total = np.zeros(parts[0][0].shape, dtype=np.float32)
    for found, flat, outside in parts:
        drawn = signals[found]
        if head.real is None or head.texture is None:
            total += drawn
            continue
        painted = found >= Tissue.LESION_CORE
        source = head.real if real else head.texture
        own = source.ravel()[flat].astype(np.float32)
        own[outside] = 0
        own = own.reshape(found.shape)
        if real:
            total += np.where(painted, drawn, own**gamma)
        else:
            total += np.maximum(np.where(painted, drawn, drawn + texture * own), np.float32(0))
    return total / np.float32(len(parts))


def _visible(center: Labels, structures: Labels, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return what the scan shows: at times only part of the head, a defaced one, or the brain alone."""
    visible = np.ones(center.shape, dtype=bool)
    kind = rng.random()
    if kind < 0.1:
        brain = (structures > 0) | np.isin(center, (Tissue.MENINGES, Tissue.FLUID))
        visible &= ndimage.binary_dilation(brain, iterations=1)
    elif kind < 0.25:
        outer = (structures == 0) & ~np.isin(center, (Tissue.MENINGES, Tissue.FLUID))
        k, j = np.ogrid[:size, :size]
        face = (j - size * rng.uniform(0.15, 0.3)) + (k - size * rng.uniform(0.3, 0.5)) * rng.uniform(
            0.4, 1.0
        )
        visible &= ~(outer & (face < 0)[..., None])
    elif kind < 0.32:
        cut = int(rng.integers(2, max(3, size // 5)))
        visible[: cut if rng.random() < 0.5 else 0] = False
        visible[size - cut if visible[0, 0, 0] else size :] = False
    return visible
