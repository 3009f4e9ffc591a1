"""Heat maps over a picture, through perceptually uniform colour tables.

Source: "inferno" and "viridis" by N. Smith and S. van der Walt (CC0); the 256 colours are interpolated
between every fifteenth, which is within 6/255 of the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_ANCHORS = {
    "inferno": (
        *(0x000004, 0x0A0722, 0x1E0C45, 0x380962, 0x510E6C, 0x69166E, 0x801F6C, 0x982766, 0xB0315B),
        *(0xC63D4D, 0xD94D3D, 0xE9612B, 0xF47918, 0xFA9407, 0xFCB014, 0xF8CD37, 0xF2EA69, 0xFCFFA4),
    ),
    "viridis": (
        *(0x440154, 0x481769, 0x472A7A, 0x433D84, 0x3D4E8A, 0x355E8D, 0x2E6D8E, 0x297B8E, 0x23898E),
        *(0x1F978B, 0x21A585, 0x2EB37C, 0x46C06F, 0x65CB5E, 0x89D548, 0xB0DD2F, 0xD8E219, 0xFDE725),
    ),
}


class HeatColors(StrEnum):
    """Colour tables for heat maps."""

    INFERNO = "inferno"
    VIRIDIS = "viridis"


@dataclass(frozen=True)
class HeatStyle:
    """How a heat map is drawn: ``opacity`` 0…1; values below ``threshold`` (0…1) are clear."""

    opacity: float = 0.5
    threshold: float = 0.25
    colors: HeatColors = HeatColors.INFERNO


@lru_cache(maxsize=4)
def color_ramp(colors: HeatColors) -> NDArray[np.uint8]:
    """``(256, 3)`` uint8 RGB from lowest to highest."""
    anchors = np.array([[c >> 16, c >> 8 & 255, c & 255] for c in _ANCHORS[colors]], dtype=np.float64)
    at = np.linspace(0, 255, len(anchors))
    ramp = np.stack([np.interp(np.arange(256), at, anchors[:, c]) for c in range(3)], axis=1)
    out = (ramp + 0.5).astype(np.uint8)
    out.flags.writeable = False
    return out


@lru_cache(maxsize=16)
def heat_table(style: HeatStyle) -> NDArray[np.uint32]:
    """``(256,)`` premultiplied colours for heat 0…1 in steps of 1/255."""
    alpha = np.where(np.arange(256) >= np.ceil(style.threshold * 255), style.opacity, 0.0)
    alpha[0] = 0.0
    rgb = (color_ramp(style.colors) * alpha[:, None] + 0.5).astype(np.uint32)
    a = (alpha * 255 + 0.5).astype(np.uint32)
    out = ((a << 24) | (rgb[:, 0] << 16) | (rgb[:, 1] << 8) | rgb[:, 2]).astype(np.uint32)
    out.flags.writeable = False
    return out


def draw_heat(heat: NDArray[np.floating], style: HeatStyle) -> NDArray[np.uint32]:
    """Colour a ``(rows, columns)`` heat picture in 0…1; premultiplied screen pixels of the same shape.

    The result has the picture's resolution: scale it up smoothly, since detail finer than the map's cells
    does not exist.
    """
    steps = (np.clip(np.nan_to_num(heat, nan=0.0), 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return np.take(heat_table(style), steps)


def draw_values(
    values: NDArray[np.floating], low: float, high: float, style: HeatStyle
) -> NDArray[np.uint32]:
    """Colour ``(rows, columns)`` real-world values between ``low`` and ``high``; unknown (NaN) ones are clear."""
    unit = (values.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-30))
    return draw_heat(unit, style)
