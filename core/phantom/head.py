"""A head as a map of tissues, from which pictures of any MR contrast are rendered.

The map comes from a real T1-weighted series with a reference segmentation, or from the drawn head of ``brain``.
Tissues 1 … 17 are numbered as MeshNet's eighteen classes are (brainchop ``model30chan18cls``), so that its label maps
need no translation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.phantom.brain import (
    BRAIN_STEM,
    CEREBELLUM,
    DEEP_GREY,
    FLUID,
    GREY_MATTER,
    SCALP,
    SKULL,
    VENTRICLES,
    WHITE_MATTER,
    BrainSpec,
    paint_brain,
)
from core.phantom.canvas import Array, Canvas
from core.phantom.shapes import curve, ellipsoid, tube

Labels = NDArray[np.uint8]


class Tissue(IntEnum):
    """What a voxel of the map consists of."""

    AIR = 0
    WHITE = 1
    CORTEX = 2
    LATERAL_VENTRICLE = 3
    TEMPORAL_HORN = 4
    CEREBELLUM_WHITE = 5
    CEREBELLUM_CORTEX = 6
    THALAMUS = 7
    CAUDATE = 8
    PUTAMEN = 9
    PALLIDUM = 10
    THIRD_VENTRICLE = 11
    FOURTH_VENTRICLE = 12
    STEM = 13
    HIPPOCAMPUS = 14
    AMYGDALA = 15
    ACCUMBENS = 16
    VENTRAL = 17
    FLUID = 18
    MENINGES = 19
    BONE = 20
    MUSCLE = 21
    FAT = 22
    BRIGHT = 23
    EYE = 24
    LESION_CORE = 25
    LESION = 26
    OEDEMA = 27


class Structure(IntEnum):
    """What a network names: the values of a case's label map."""

    BACKGROUND = 0
    CORTEX = 1
    WHITE_MATTER = 2
    LATERAL_VENTRICLES = 3
    OTHER_FLUID = 4
    DEEP_GREY = 5
    HIPPOCAMPUS_AMYGDALA = 6
    CEREBELLUM = 7
    BRAIN_STEM = 8
    LESION = 9


_T, _S = Tissue, Structure
_MEMBERS: dict[Structure, tuple[Tissue, ...]] = {
    _S.CORTEX: (_T.CORTEX,),
    _S.WHITE_MATTER: (_T.WHITE,),
    _S.LATERAL_VENTRICLES: (_T.LATERAL_VENTRICLE, _T.TEMPORAL_HORN),
    _S.OTHER_FLUID: (_T.FLUID, _T.THIRD_VENTRICLE, _T.FOURTH_VENTRICLE),
    _S.DEEP_GREY: (_T.THALAMUS, _T.CAUDATE, _T.PUTAMEN, _T.PALLIDUM, _T.ACCUMBENS, _T.VENTRAL),
    _S.HIPPOCAMPUS_AMYGDALA: (_T.HIPPOCAMPUS, _T.AMYGDALA),
    _S.CEREBELLUM: (_T.CEREBELLUM_WHITE, _T.CEREBELLUM_CORTEX),
    _S.BRAIN_STEM: (_T.STEM,),
    _S.LESION: (_T.LESION_CORE, _T.LESION, _T.OEDEMA),
}
_PARENCHYMA = (_S.CORTEX, _S.WHITE_MATTER, _S.DEEP_GREY, _S.HIPPOCAMPUS_AMYGDALA, _S.CEREBELLUM,
               _S.BRAIN_STEM, _S.LESION)  # fmt: skip
_FLUIDS = (_S.LATERAL_VENTRICLES, _S.OTHER_FLUID)


def _structures() -> Labels:
    table = np.zeros(len(Tissue), dtype=np.uint8)
    for structure, tissues in _MEMBERS.items():
        table[list(tissues)] = structure
    return table


STRUCTURE_OF: Labels = _structures()
"""Tissue → structure."""

VENTRICLE_VOLUME = "Lateral ventricle volume"
LESION_VOLUME = "Lesion volume"
PARENCHYMAL_FRACTION = "Brain parenchymal fraction"


def measurements(labels: Labels, voxel_mm3: float) -> dict[str, float]:
    """Return what is measured on a label map: two volumes in mL and the parenchymal fraction in percent.

    The fraction is brain tissue (a lesion included) over brain tissue and fluid, 0 without a brain.
    Source: R. Rudick et al., Neurology 1999 (brain parenchymal fraction).
    """
    counts = np.bincount(labels.ravel(), minlength=len(Structure))
    tissue, fluid = int(counts[list(_PARENCHYMA)].sum()), int(counts[list(_FLUIDS)].sum())
    return {
        VENTRICLE_VOLUME: float(counts[_S.LATERAL_VENTRICLES] * voxel_mm3 / 1000),
        LESION_VOLUME: float(counts[_S.LESION] * voxel_mm3 / 1000),
        PARENCHYMAL_FRACTION: 100.0 * tissue / (tissue + fluid) if tissue else 0.0,
    }


@dataclass(frozen=True, eq=False)
class Head:
    """Tissues on an isotropic grid along LPS; arrays are ``(K, J, I)`` and not to be changed.

    Attributes
    ----------
    tissue : numpy.ndarray
        uint8, values of ``Tissue``.
    spacing_mm : float
        Edge of a voxel.
    center_kji : tuple of float
        Index of the middle of the scanned field.
    real : numpy.ndarray or None
        float16 T1-weighted signal of the real series, white matter = 1.
    texture : numpy.ndarray or None
        float16, what the real signal has beyond the median of its tissue.
    push : numpy.ndarray or None
        ``(3, K, J, I)`` float16: direction away from the lateral ventricles (k, j, i), fading with distance; sampling
        against it widens them.
    sulcal_mm : numpy.ndarray or None
        float16, distance of the cortex to the fluid around it.
    beside_ventricles : numpy.ndarray
        Flat indices of white matter within 15 mm of the lateral ventricles.
    open_below : bool
        Whether the scanned field ended below the brain, so that what lies lower isn't known.
    """

    tissue: Labels
    spacing_mm: float
    center_kji: tuple[float, float, float]
    beside_ventricles: NDArray[np.int64]
    real: NDArray[np.float16] | None = None
    texture: NDArray[np.float16] | None = None
    push: NDArray[np.float16] | None = None
    sulcal_mm: NDArray[np.float16] | None = None
    open_below: bool = False


_AROUND = (12.0, 38.0, 78.0, 132.0)
_FLUID_BELOW = 64.0


def head_from_reference(t1: NDArray, classes: Labels, envelope: NDArray, spacing_mm: float) -> Head:
    """Make a head of a real T1-weighted series and its segmentation.

    Parameters
    ----------
    t1 : numpy.ndarray
        ``(K, J, I)`` along LPS, 8-bit signal in which white matter lies near 126.
    classes : numpy.ndarray
        MeshNet's eighteen classes on the same grid.
    envelope : numpy.ndarray
        Brain with the fluid around it (non-zero), on the same grid.
    spacing_mm : float
        Edge of the voxels.
    """
    signal = t1.astype(np.float32)
    tissue = classes.astype(np.uint8)
    inside = envelope > 0
    unnamed = tissue == 0
    tissue[unnamed & inside] = Tissue.MENINGES
    tissue[unnamed & inside & (signal < _FLUID_BELOW)] = Tissue.FLUID
    soft = ndimage.uniform_filter(signal, 3)
    outside = unnamed & ~inside
    kinds = np.array([Tissue.AIR, Tissue.BONE, Tissue.MUSCLE, Tissue.FAT, Tissue.BRIGHT], dtype=np.uint8)
    tissue[outside] = kinds[np.searchsorted(np.array(_AROUND, np.float32), soft[outside])]
    box, first = _around(signal > _AROUND[0])
    tissue, signal = np.ascontiguousarray(tissue[box]), signal[box]
    real = signal / np.float32(np.median(signal[tissue == Tissue.WHITE]))
    medians = np.array(
        [np.median(real[tissue == t]) if (tissue == t).any() else 0.0 for t in range(len(Tissue))], np.float32
    )
    push, beside = _ventricle_field(tissue, spacing_mm)
    fluid = np.isin(tissue, (Tissue.FLUID, Tissue.MENINGES))
    sulcal = ndimage.distance_transform_edt(~fluid, sampling=spacing_mm).astype(np.float16)
    k, j, i = ((count - 1) / 2 - start for count, start in zip(t1.shape, first, strict=True))
    return Head(
        tissue, spacing_mm, (k, j, i), beside, real.astype(np.float16),
        (real - medians[tissue]).astype(np.float16), push, sulcal, open_below=True,
    )  # fmt: skip


def _around(head: NDArray[np.bool_]) -> tuple[tuple[slice, slice, slice], tuple[int, int, int]]:
    """Return the box of what is shown, and where it begins."""
    spans = []
    for axis in range(3):
        used = np.flatnonzero(head.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(int(used[0]), int(used[-1]) + 1))
    return (spans[0], spans[1], spans[2]), (spans[0].start, spans[1].start, spans[2].start)


def _ventricle_field(tissue: Labels, spacing_mm: float) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Return the unit vectors away from the lateral ventricles, fading over 14 mm, and the white matter beside them."""
    ventricle = np.isin(tissue, (Tissue.LATERAL_VENTRICLE, Tissue.TEMPORAL_HORN))
    beyond = ndimage.distance_transform_edt(~ventricle, sampling=spacing_mm).astype(np.float32)
    within = ndimage.distance_transform_edt(ventricle, sampling=spacing_mm).astype(np.float32)
    smooth = ndimage.gaussian_filter(beyond - within, 1.5 / spacing_mm, truncate=2.5)
    fade = np.exp(-np.square(np.maximum(smooth, 0) / np.float32(14.0)))
    push = np.stack([(part * fade).astype(np.float16) for part in np.gradient(smooth, spacing_mm)])
    return push, np.flatnonzero((tissue == Tissue.WHITE) & (beyond < 15))


_MIDLINE, _HIPPOCAMPUS, _AMYGDALA = 20, 21, 22


def drawn_head(spec: BrainSpec) -> Head:
    """Make a head of the drawn brain, with hippocampus and amygdala added; the spec's noise and shading don't count."""
    canvas = paint_brain(spec, np.random.default_rng(spec.seed), _MIDLINE)
    _add_medial_temporal(canvas)
    tissue = _tissues(canvas)
    spacing = float(spec.spacing_kji_mm[0])
    ventricle = tissue == Tissue.LATERAL_VENTRICLE
    near = ndimage.distance_transform_edt(~ventricle, sampling=spacing) < 15
    k, j, i = (float((n - 1) / 2) for n in tissue.shape)
    return Head(tissue, spacing, (k, j, i), np.flatnonzero(near & (tissue == Tissue.WHITE)))


def _add_medial_temporal(canvas: Canvas) -> None:
    """Draw hippocampus and amygdala medial to the temporal horns."""
    for side in (-1.0, 1.0):
        path = curve([(side * 22, 30, -1), (side * 27, 18, -13), (side * 26, 4, -20)], 10)
        body = tube(canvas, path, np.linspace(3.6, 5.6, 10))
        region = canvas.region((side * 22 - 12, -24, -34), (side * 22 + 12, 6, -8))
        parts = [] if body is None else [(*body, _HIPPOCAMPUS)]
        if region is not None:
            parts.append((region, ellipsoid(region, (side * 22, -8, -20), (6, 7, 7)), _AMYGDALA))
        for place, distance, value in parts:
            view = canvas.labels[place.box]
            view[(distance < 0) & ((view == GREY_MATTER) | (view == WHITE_MATTER))] = value


def _tissues(canvas: Canvas) -> Labels:
    simple = {
        GREY_MATTER: Tissue.CORTEX, WHITE_MATTER: Tissue.WHITE, FLUID: Tissue.FLUID, BRAIN_STEM: Tissue.STEM,
        VENTRICLES: Tissue.LATERAL_VENTRICLE, _MIDLINE: Tissue.THIRD_VENTRICLE, _HIPPOCAMPUS: Tissue.HIPPOCAMPUS,
        _AMYGDALA: Tissue.AMYGDALA, DEEP_GREY: Tissue.PUTAMEN, CEREBELLUM: Tissue.CEREBELLUM_CORTEX,
        SKULL: Tissue.BONE, SCALP: Tissue.FAT,
    }  # fmt: skip
    table = np.zeros(256, dtype=np.uint8)
    table[list(simple)] = list(simple.values())
    out: Labels = table[canvas.labels]
    signal: Array = canvas.hu
    out[(canvas.labels == DEEP_GREY) & (signal > 780)] = Tissue.THALAMUS
    out[(canvas.labels == CEREBELLUM) & (signal > 900)] = Tissue.CEREBELLUM_WHITE
    out[(canvas.labels == SKULL) & (signal > 400)] = Tissue.FAT
    scalp = canvas.labels == SCALP
    out[scalp & (signal < 900)] = Tissue.MUSCLE
    out[scalp & (signal < 250)] = Tissue.EYE
    out[scalp & (signal < 120)] = Tissue.BONE
    return out
