"""Schematic chest radiographs, drawn in a millisecond: for trying out, not for looking like a patient's.

``core.phantom.cxr`` projects a whole thorax and takes seconds; here ellipses stand for body, lungs and heart and arcs
for ribs. The only finding is a consolidation: a bright patch with soft edges in a lung.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_BODY, _LUNG, _HEART, _RIB = 0.62, -0.38, 0.30, 0.06
_RIBS = 7

Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SchematicCxr:
    """A drawn radiograph.

    Attributes
    ----------
    pixels : numpy.ndarray
        ``(size, size)`` uint8; bright is dense, the patient's right lung is on the left.
    side, zone : str
        Where the consolidation is (``right`` or ``left``; ``upper``, ``middle`` or ``lower``); empty without one.
    """

    pixels: NDArray[np.uint8]
    side: str = ""
    zone: str = ""


def draw_cxr(seed: tuple[int, ...], *, consolidation: bool, size: int, contrast: float) -> SchematicCxr:
    """Draw a person, the exposure and, where asked for, a consolidation; the seed decides everything.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    contrast : float
        Largest brightening of the lung by a consolidation, share of the grey range; each takes between 0.4 and 1 of it.
    """
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    y, x = y - rng.normal(0, 0.05), x - rng.normal(0, 0.05)
    width, height = rng.uniform(0.85, 1.0), rng.uniform(0.9, 1.1)
    lungs = {side: _lung(x * sign, y, width, height) for side, sign in (("right", -1.0), ("left", 1.0))}
    picture = _BODY * _soft(1 - (x / (width * 0.98)) ** 4 - (y / 1.4) ** 4, 6.0)
    for lung in lungs.values():
        picture += _LUNG * lung
    heart = _soft(1 - ((x - 0.12) / 0.34) ** 2 - ((y - 0.3) / rng.uniform(0.3, 0.42)) ** 2, 4.0)
    picture += _HEART * heart
    for number in range(_RIBS):
        arc = y - (-0.75 + 0.21 * number) - 0.25 * x**2
        picture += np.float32(_RIB) * np.exp(-((arc / 0.035) ** 2)) * (lungs["right"] + lungs["left"])
    side, zone = "", ""
    if consolidation:
        side = ("right", "left")[int(rng.integers(2))]
        zone, patch = _patch(lungs[side], y, rng)
        picture += contrast * rng.uniform(0.4, 1.0) * patch * (1 - 0.7 * heart)
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.8, 1.25) * rng.uniform(0.85, 1.1)
    picture += rng.normal(0, 0.02, picture.shape) + rng.normal(0, 0.03)
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return SchematicCxr(pixels, side, zone)


def _soft(inside: NDArray, steepness: float) -> Plane:
    """Return 1 where ``inside`` is positive, 0 where negative, with a soft edge."""
    return (1 / (1 + np.exp(-steepness * inside))).astype(np.float32)


def _lung(x: NDArray, y: NDArray, width: float, height: float) -> Plane:
    across = (x - 0.45 * width) / (0.33 * width)
    along = (y + 0.05) / (0.68 * height)
    return _soft(1 - across**2 - np.abs(along) ** 2.5, 5.0)


def _patch(lung: Plane, y: NDArray, rng: np.random.Generator) -> tuple[str, Plane]:
    """Return the zone and a blurred, irregular patch ``(H, W)`` 0 … 1 in the lung."""
    size = lung.shape[0]
    rows, columns = np.nonzero(lung > 0.8)
    pick = int(rng.integers(len(rows)))
    centre = (rows[pick], columns[pick])
    away = np.hypot(*(np.mgrid[:size, :size] - np.reshape(centre, (2, 1, 1))))
    radius = size * rng.uniform(0.08, 0.16)
    rough = ndimage.gaussian_filter(rng.normal(0, 1, lung.shape), size / 20)
    rough /= max(float(rough.std()), 1e-6)
    patch = _soft(1 - away / radius + 0.25 * rough, 4.0) * lung
    height = float(y[centre])
    return ("upper" if height < -0.3 else "middle" if height < 0.15 else "lower"), patch
