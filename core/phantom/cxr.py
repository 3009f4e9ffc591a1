"""A chest radiograph: the thorax phantom seen along straight or diverging rays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import SegmentDefinition
from core.phantom.canvas import Array
from core.phantom.labels import HEART, LEFT_LUNG, RIGHT_LUNG, THORAX_SEGMENTS
from core.phantom.spec import Phantom, ThoraxSpec
from core.phantom.thorax import make_thorax

_MU_WATER_PER_MM = 0.0155  # about 120 kV with scatter, effective
_FINE_MM, _ALONG_MM = 2.0, 3.0  # voxel of the projected thorax across and along the rays
_SHOWN = (LEFT_LUNG, RIGHT_LUNG, HEART)


@dataclass(frozen=True)
class CxrSpec:
    """Parameters of a radiograph.

    ``thorax`` is the person and pose (its grid, noise, table and streaks are replaced), ``pixels`` rows and
    columns, ``pixel_mm`` their size at the detector, ``view`` ``"PA"`` or ``"LAT"``, ``noise`` relative quantum
    noise, ``bits`` of the detector.
    """

    seed: int = 0
    thorax: ThoraxSpec = field(default_factory=ThoraxSpec)
    pixels: tuple[int, int] = (512, 512)
    pixel_mm: float = 0.8
    view: str = "PA"
    noise: float = 0.01
    bits: int = 12


def cxr_segments() -> tuple[SegmentDefinition, ...]:
    """Return the structures whose outline is given on a radiograph: lungs and heart."""
    return tuple(s for s in THORAX_SEGMENTS if s.value in _SHOWN)


def make_cxr(spec: CxrSpec) -> Phantom:
    """Project a thorax to a radiograph.

    Returns
    -------
    Phantom
        One slice: columns run to the patient's left (PA) or to posterior (LAT), rows downwards; ``hu`` holds the
        detector's logarithmic signal, int16 ``0 … 2**bits − 1``, high = bright = dense (MONOCHROME2). Labels
        mark where the ray crosses at least 20 mm of a structure, heart over lung.
    """
    person = _upright(spec)
    phantom = make_thorax(person)
    hu = phantom.hu.astype(np.float32)
    axis = 1 if spec.view == "PA" else 2
    step_mm = person.spacing_kji_mm[axis]
    path = _attenuation(hu).sum(axis=axis) * np.float32(step_mm)
    labels = _projected_labels(phantom.labels, axis, step_mm)
    path, labels = path[::-1], labels[::-1]
    rows, columns = spec.pixels
    zoom = (rows / path.shape[0], columns / path.shape[1])
    fine = ndimage.zoom(path, zoom, order=1, mode="nearest", grid_mode=True)
    shown = ndimage.zoom(labels, zoom, order=0, mode="nearest", grid_mode=True)
    signal = _detect(fine.astype(np.float32), spec)
    top = 2**spec.bits - 1
    picture = np.clip(np.rint(signal * top), 0, top).astype(np.int16)
    return Phantom(_geometry(spec), picture[None], np.ascontiguousarray(shown[None]), cxr_segments())


def _upright(spec: CxrSpec) -> ThoraxSpec:
    """Return the thorax to project: fine along the picture, coarse along the rays, without scanner artefacts."""
    rows, columns = spec.pixels
    height, width = rows * spec.pixel_mm, columns * spec.pixel_mm
    tall, wide = round(height / _FINE_MM), round(width / _FINE_MM)
    if spec.view == "PA":
        shape = (tall, round(380.0 / _ALONG_MM), wide)
        spacing = (height / tall, _ALONG_MM, width / wide)
    else:
        shape = (tall, wide, round(440.0 / _ALONG_MM))
        spacing = (height / tall, width / wide, _ALONG_MM)
    return replace(
        spec.thorax,
        seed=spec.seed,
        shape_kji=shape,
        spacing_kji_mm=spacing,
        center_mm=(0.0, 4.0, 85.0),
        arms="down" if spec.view == "PA" else "up",
        inspiration=max(spec.thorax.inspiration, 0.6),
        noise_hu=0.0,
        streaks=0.0,
        table=False,
        kernel="sharp",
    )


def _attenuation(hu: Array) -> Array:
    """Return the linear attenuation per millimetre; bone counts a little more than its Hounsfield number."""
    density = np.maximum(hu + 1000.0, 0.0) / 1000.0
    bone = np.clip(hu - 150.0, 0.0, None) / 1000.0
    out: Array = (np.float32(_MU_WATER_PER_MM) * (density + 0.9 * bone)).astype(np.float32)
    return out


def _projected_labels(labels: NDArray[np.uint8], axis: int, step_mm: float) -> NDArray[np.uint8]:
    out = np.zeros(tuple(n for a, n in enumerate(labels.shape) if a != axis), dtype=np.uint8)
    for value in _SHOWN:
        crossed = (labels == value).sum(axis=axis) * step_mm
        out[crossed >= 20.0] = value
    return out


def _detect(path: Array, spec: CxrSpec) -> Array:
    """Return the displayed signal 0 … 1: scatter, quantum noise, logarithm, gentle edge enhancement."""
    rng = np.random.default_rng((spec.seed, 77))
    primary = np.exp(-path)
    scatter = 0.35 * ndimage.gaussian_filter(primary, 40.0 / spec.pixel_mm)
    dose = primary + scatter
    noisy = dose + spec.noise * np.sqrt(np.maximum(dose * dose.mean(), 1e-9)) * rng.standard_normal(
        dose.shape
    )
    log = -np.log(np.maximum(noisy, 1e-4))
    blurred = ndimage.gaussian_filter(log, 3.0)
    log = log + 0.5 * (log - blurred)
    low, high = np.quantile(log, [0.002, 0.998])
    out: Array = np.clip((log - low) / max(high - low, 1e-6), 0.0, 1.0).astype(np.float32)
    return out


def _geometry(spec: CxrSpec) -> VolumeGeometry:
    rows, columns = spec.pixels
    p = spec.pixel_mm
    across = (1.0, 0.0, 0.0) if spec.view == "PA" else (0.0, 1.0, 0.0)
    direction = np.stack([across, (0.0, 0.0, -1.0), np.cross(across, (0.0, 0.0, -1.0))], axis=1)
    first = -(columns - 1) / 2 * p
    origin = (
        (first, 0.0, 85.0 + (rows - 1) / 2 * p)
        if spec.view == "PA"
        else (0.0, first, 85.0 + (rows - 1) / 2 * p)
    )
    return VolumeGeometry.from_axes((1, rows, columns), (p, p, p), direction, origin)
