"""What MR contrasts make of tissues: signals in realistic relations, and what a scanner does to a picture.

Signals are relative (T1: white matter = 1; T2: fluid = 1). Each call draws other ones, but the order that makes a
contrast what it is always holds: on T1 white matter > grey matter > fluid, on T2 fluid > grey > white, on FLAIR
grey > white > fluid; lesions are darker than white matter on T1 and brighter than grey matter on T2 and FLAIR.
Source: the principle of random contrasts over label maps is that of B. Billot et al., SynthSeg, Medical Image
Analysis 2023; the order of the signals is that of the relaxation times in J. Wansapura et al., JMRI 1999, at 3 T.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.phantom.canvas import Array
from core.phantom.head import Tissue
from core.phantom.shapes import random_field

Contrast = Literal["T1", "T2", "FLAIR"]
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)

# Share of the way from grey matter (0) to white matter (1) of the other tissues of the brain.
_TOWARDS_WHITE: dict[Tissue, float] = {
    Tissue.CORTEX: 0.0, Tissue.WHITE: 1.0, Tissue.CEREBELLUM_WHITE: 0.95, Tissue.CEREBELLUM_CORTEX: 0.05,
    Tissue.THALAMUS: 0.6, Tissue.CAUDATE: 0.3, Tissue.PUTAMEN: 0.45, Tissue.PALLIDUM: 0.9, Tissue.STEM: 0.85,
    Tissue.HIPPOCAMPUS: 0.05, Tissue.AMYGDALA: 0.05, Tissue.ACCUMBENS: 0.2, Tissue.VENTRAL: 0.8,
}  # fmt: skip
_BETWEEN = 0.08
_FLUIDS = (Tissue.LATERAL_VENTRICLE, Tissue.TEMPORAL_HORN, Tissue.THIRD_VENTRICLE, Tissue.FOURTH_VENTRICLE,
           Tissue.FLUID)  # fmt: skip
_SURROUNDINGS: dict[Contrast, dict[Tissue, tuple[float, float]]] = {
    "T1": {Tissue.BONE: (0.03, 0.25), Tissue.MUSCLE: (0.35, 0.65), Tissue.FAT: (0.75, 1.4),
           Tissue.BRIGHT: (1.0, 2.0), Tissue.MENINGES: (0.4, 0.9), Tissue.EYE: (0.1, 0.4)},
    "T2": {Tissue.BONE: (0.02, 0.15), Tissue.MUSCLE: (0.1, 0.3), Tissue.FAT: (0.25, 0.8),
           Tissue.BRIGHT: (0.3, 0.9), Tissue.MENINGES: (0.4, 0.9), Tissue.EYE: (0.8, 1.0)},
    "FLAIR": {Tissue.BONE: (0.02, 0.15), Tissue.MUSCLE: (0.15, 0.4), Tissue.FAT: (0.3, 0.9),
              Tissue.BRIGHT: (0.3, 0.9), Tissue.MENINGES: (0.2, 0.6), Tissue.EYE: (0.05, 0.3)},
}  # fmt: skip
_TEXTURE: dict[Contrast, tuple[float, float]] = {"T1": (0.3, 1.0), "T2": (-0.6, -0.2), "FLAIR": (-0.3, 0.3)}


def draw_signals(contrast: Contrast, rng: np.random.Generator) -> Array:
    """Return the signal of each tissue, ``(tissues,)`` float32, under one drawing of the contrast."""
    grey, white, fluid = _brain_signals(contrast, rng)
    out = np.zeros(len(Tissue), dtype=np.float32)
    for tissue, share in _TOWARDS_WHITE.items():
        moved = share if share in (0.0, 1.0) else np.clip(share + rng.normal(0, _BETWEEN), 0.02, 0.98)
        out[tissue] = grey + moved * (white - grey)
    # The ventricles' fluid moves less than that in the sulci, which changes the signal a little.
    out[list(_FLUIDS)] = fluid
    out[Tissue.FLUID] = fluid * rng.uniform(0.9, 1.0) if contrast == "T2" else fluid * rng.uniform(1.0, 1.15)
    for tissue, (low, high) in _SURROUNDINGS[contrast].items():
        out[tissue] = rng.uniform(low, high)
    _add_lesion_signals(out, contrast, rng)
    return out


def _brain_signals(contrast: Contrast, rng: np.random.Generator) -> tuple[float, float, float]:
    """Grey matter, white matter, fluid."""
    if contrast == "T1":
        return float(rng.uniform(0.6, 0.86)), 1.0, float(rng.uniform(0.12, 0.38))
    if contrast == "T2":
        grey = float(rng.uniform(0.42, 0.62))
        return grey, grey * float(rng.uniform(0.68, 0.86)), 1.0
    white = float(rng.uniform(0.42, 0.58))
    return white * float(rng.uniform(1.1, 1.35)), white, float(rng.uniform(0.04, 0.22))


def _add_lesion_signals(out: Array, contrast: Contrast, rng: np.random.Generator) -> None:
    grey, white, fluid = (float(out[t]) for t in (Tissue.CORTEX, Tissue.WHITE, Tissue.LATERAL_VENTRICLE))
    if contrast == "T1":
        out[Tissue.LESION] = fluid + rng.uniform(0.4, 1.05) * (grey - fluid)
        out[Tissue.OEDEMA] = grey + rng.uniform(-0.2, 0.5) * (white - grey)
        out[Tissue.LESION_CORE] = fluid + rng.uniform(0.0, 0.35) * (grey - fluid)
    elif contrast == "T2":
        out[Tissue.LESION] = grey + rng.uniform(0.25, 0.85) * (fluid - grey)
        out[Tissue.OEDEMA] = grey + rng.uniform(0.2, 0.7) * (fluid - grey)
        out[Tissue.LESION_CORE] = rng.uniform(0.85, 1.0) * fluid
    else:
        out[Tissue.LESION] = grey * rng.uniform(1.2, 1.9)
        out[Tissue.OEDEMA] = grey * rng.uniform(1.15, 1.7)
        out[Tissue.LESION_CORE] = fluid + rng.uniform(0.1, 0.9) * (float(out[Tissue.LESION]) - fluid)


def draw_texture(contrast: Contrast, rng: np.random.Generator) -> float:
    """Return how much of the real series' fine structure a contrast shows, and with which sign."""
    return float(rng.uniform(*_TEXTURE[contrast]))


def acquire(image: Array, spacing_mm: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return a true signal as a scanner shows it: slices, blur, coil shading, Rician noise, its own scale.

    Parameters
    ----------
    image : numpy.ndarray
        ``(K, J, I)`` float32, at most about 2.
    """
    if rng.random() < 0.2:
        image = _thick(image, int(rng.integers(3)), float(rng.uniform(3.0, 6.5)) / spacing_mm)
    if rng.random() < 0.5:
        image = ndimage.gaussian_filter(image, float(rng.uniform(0.2, 0.7)), truncate=2.5)
    shading = random_field(_shape(image), rng, tuple(n / 2.0 for n in _shape(image)))  # type: ignore[arg-type]
    image = image * np.exp(np.float32(abs(rng.normal(0, 0.18))) * shading)
    shown = image[image > 0.1]
    noise = np.float32(rng.uniform(0.004, 0.04) * (float(shown.mean()) if shown.size else 1.0))
    real = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(image.shape, dtype=np.float32)
    scanned = np.hypot(real, imaginary)
    if rng.random() < 0.5:  # many scanners blank the air
        scanned = np.where(ndimage.uniform_filter(image, 5) < 0.02, np.float32(0), scanned)
    return np.clip(np.rint(scanned * np.float32(rng.uniform(150, 2500))), 0, 32767).astype(np.int16)


def _thick(image: Array, axis: int, voxels: float) -> Array:
    """Slices of that many voxels, interpolated back."""
    soft = ndimage.gaussian_filter1d(image, voxels / 2.355, axis=axis, truncate=2.5)
    count = max(2, round(image.shape[axis] / voxels))
    kept = np.linspace(0, image.shape[axis] - 1, count).round().astype(int)
    position = np.interp(np.arange(image.shape[axis]), kept, np.arange(count))
    low = np.minimum(position.astype(int), count - 2)
    share = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    slices = np.take(soft, kept, axis=axis)
    out: Array = np.take(slices, low, axis=axis) * (1 - share) + np.take(slices, low + 1, axis=axis) * share
    return out


def _shape(image: Array) -> tuple[int, int, int]:
    k, j, i = image.shape
    return k, j, i
