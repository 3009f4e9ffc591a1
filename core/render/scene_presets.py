"""How tissues look in 3-D: opacity and colour over the values of a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.domain.volume import Volume

Point = tuple[float, float]
ColorPoint = tuple[float, float, float, float]


@dataclass(frozen=True)
class ScenePreset:
    """A transfer function.

    ``opacity`` holds (value, opacity per unit distance), ``color`` (value, r, g, b) with 0…1. With ``units``
    ``"HU"`` the values are Hounsfield units, else fractions of the series' own range (1st to 99.5th
    percentile). ``projection`` shows the brightest value along each ray.
    """

    id: str
    title: str
    opacity: tuple[Point, ...]
    color: tuple[ColorPoint, ...]
    units: str = "HU"
    projection: bool = False


_GREY: tuple[ColorPoint, ...] = ((0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0))

PRESETS = (
    ScenePreset(
        "bone",
        "Bone",
        ((140, 0.0), (240, 0.18), (500, 0.75), (1500, 0.95)),
        ((100, 0.55, 0.23, 0.16), (260, 0.84, 0.66, 0.48), (500, 0.96, 0.90, 0.78), (1500, 1.0, 0.98, 0.94)),
    ),
    ScenePreset(
        "lung",
        "Lung",
        ((-960, 0.0), (-900, 0.07), (-820, 0.16), (-700, 0.05), (-600, 0.0), (3000, 0.0)),
        (
            (-1000, 0.20, 0.34, 0.50),
            (-860, 0.45, 0.68, 0.85),
            (-700, 0.95, 0.85, 0.80),
            (-200, 0.95, 0.60, 0.50),
        ),
    ),
    ScenePreset(
        "soft",
        "Skin and soft tissue",
        ((-500, 0.0), (-300, 0.05), (-120, 0.35), (100, 0.6), (400, 0.9)),
        ((-300, 0.80, 0.58, 0.46), (-80, 0.92, 0.74, 0.62), (60, 0.75, 0.36, 0.30), (300, 0.95, 0.88, 0.78)),
    ),
    ScenePreset(
        "vessels",
        "Vessels",
        ((110, 0.0), (170, 0.22), (300, 0.6), (700, 0.85)),
        ((100, 0.45, 0.10, 0.08), (200, 0.85, 0.32, 0.22), (400, 0.97, 0.86, 0.74), (900, 1.0, 1.0, 0.96)),
    ),
    ScenePreset(
        "mip", "Brightest value (MIP)", ((0.15, 0.0), (1.0, 1.0)), _GREY, units="range", projection=True
    ),
    ScenePreset(
        "surface",
        "Surface",
        ((0.18, 0.0), (0.32, 0.25), (0.6, 0.55), (1.0, 0.8)),
        ((0.0, 0.20, 0.16, 0.15), (0.4, 0.80, 0.66, 0.58), (1.0, 1.0, 0.98, 0.95)),
        units="range",
    ),
)

SEGMENTS_ONLY = "segments"


def presets_of(volume: Volume) -> tuple[ScenePreset, ...]:
    """Presets that make sense for a volume: Hounsfield presets only where the values are HU."""
    return tuple(p for p in PRESETS if p.units == "range" or volume.units == "HU")


def default_preset(volume: Volume) -> str:
    """Identifier of the preset used first."""
    if volume.units == "HU":
        return "bone"
    return "mip" if volume.modality in ("PT", "NM") else "surface"


def preset(identifier: str) -> ScenePreset:
    """Return a preset; raises KeyError for an unknown identifier."""
    return {p.id: p for p in PRESETS}[identifier]


def value_scale(chosen: ScenePreset, volume: Volume) -> tuple[float, float]:
    """Factor and offset that turn a preset's values into the volume's."""
    if chosen.units == "HU":
        return 1.0, 0.0
    flat = volume.voxels.reshape(-1)
    sample = flat[:: max(1, flat.size // 200_000)]
    low, high = (float(v) for v in np.percentile(sample, (1.0, 99.5)))
    return max(high - low, 1e-6), low
