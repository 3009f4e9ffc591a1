"""What the scanner adds: table, blur, noise of a reconstruction kernel, streaks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from core.phantom.canvas import Array, Canvas
from core.phantom.spec import ThoraxSpec

_BLUR_MM = {"soft": 0.75, "standard": 0.55, "sharp": 0.3}
_GRAIN_MM = {"soft": 0.95, "standard": 0.65, "sharp": 0.3}


def paint_table(canvas: Canvas, spec: ThoraxSpec, rng: np.random.Generator, back_mm: float) -> None:
    """Paint the table top: a shallow trough of two dense skins around foam, behind the patient."""
    if not spec.table:
        return
    width, gap = rng.uniform(190, 260), rng.uniform(0, 10)
    sag = rng.uniform(0.0, 0.0011)
    depth = canvas.y - np.float32(back_mm + gap) + np.float32(sag) * canvas.x**2
    thick = rng.uniform(10, 45)
    inside = (np.abs(canvas.x) < width) & (canvas.labels == 0)
    plate = np.maximum(-depth, depth - np.float32(thick))
    alpha = canvas.coverage(plate) * inside
    canvas.blend(canvas.everything(), alpha.astype(np.float32), rng.uniform(-980, -860))
    shell = canvas.coverage(np.abs(plate) - np.float32(0.9), 0.9, dims=1) * inside
    canvas.blend(canvas.everything(), shell.astype(np.float32), rng.uniform(-500, 0))
    if rng.uniform() < 0.6:
        pad = canvas.coverage(np.maximum(-(depth + rng.uniform(8, 22)), depth)) * inside
        canvas.blend(canvas.everything(), pad.astype(np.float32), rng.uniform(-985, -930))


def scan(hu: Array, spec: ThoraxSpec, rng: np.random.Generator) -> Array:
    """Return the picture of ``hu``: blurred by the kernel, with streaks and correlated noise (HU)."""
    _, dy, dx = spec.spacing_kji_mm
    blur = _BLUR_MM[spec.kernel]
    out = ndimage.gaussian_filter(hu, (0.35, blur / dy, blur / dx)) if blur / dx > 0.15 else hu.copy()
    if spec.streaks > 0:
        out += _streaks(hu, spec, rng)
    if spec.noise_hu > 0:
        out += _noise(hu, spec, rng)
    return out


def _noise(hu: Array, spec: ThoraxSpec, rng: np.random.Generator) -> Array:
    """Noise with the grain of the kernel, stronger in the middle of dense slices."""
    _, dy, dx = spec.spacing_kji_mm
    grain = _GRAIN_MM[spec.kernel]
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    white = ndimage.gaussian_filter(white, (0.0, grain / dy, grain / dx), truncate=3.0)
    if spec.kernel == "sharp":
        white -= 0.6 * ndimage.gaussian_filter(white, (0.0, 1.6 / dy, 1.6 / dx), truncate=3.0)
    white /= max(float(white.std()), 1e-6)
    load = ndimage.gaussian_filter1d((hu > -300).mean(axis=(1, 2)).astype(np.float32), 2.0)
    level = 0.6 + 0.8 * load / max(float(load.max()), 1e-3)
    return white * np.float32(spec.noise_hu) * level[:, None, None].astype(np.float32)


def _streaks(hu: Array, spec: ThoraxSpec, rng: np.random.Generator) -> Array:
    """Dark and bright horizontal bands where much bone lies along a row (photon starvation in the shoulders)."""
    bone = np.clip((hu - 250.0) / 600.0, 0.0, 1.5).sum(axis=2)
    amount = ndimage.gaussian_filter1d(bone, 1.0, axis=1) * np.float32(spec.spacing_kji_mm[2] / 60.0)
    lines = rng.standard_normal(bone.shape).astype(np.float32)
    lines = ndimage.gaussian_filter1d(lines, 0.8, axis=1)
    bands = (lines * 45.0 - 12.0) * np.clip(amount, 0.0, 1.5) * spec.streaks
    out: Array = np.where(hu > -950, bands[:, :, None], 0.3 * bands[:, :, None]).astype(np.float32)
    return out
