"""Stored values to screen pixels: the VOI window as one table look-up.

Screen pixels are ``uint32`` ``0xAARRGGBB`` in native byte order, which is what both Qt's RGB32 and a
byte view for pillow expect.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from core.domain.volume import Volume
from core.domain.window import Window

OPAQUE = np.uint32(0xFF000000)


@lru_cache(maxsize=24)
def _window_table(window: Window, inverted: bool, signed: bool) -> NDArray[np.uint32]:
    """``(65536,)`` uint32 table, indexed by the bits of a 16-bit value."""
    values = np.arange(65536, dtype=np.uint16)
    grey = window.to_uint8(values.view(np.int16) if signed else values, inverted)
    table = grey_to_screen(grey)
    table.flags.writeable = False
    return table


def grey_to_screen(grey: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Map 0…255 to opaque grey screen pixels."""
    return np.asarray(grey.astype(np.uint32) * np.uint32(0x010101) | OPAQUE, dtype=np.uint32)


def rgb_to_screen(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Map ``(…, 3)`` uint8 RGB to opaque screen pixels."""
    wide = rgb.astype(np.uint32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2] | OPAQUE, dtype=np.uint32)


def window_picture(values: NDArray, window: Window, inverted: bool = False) -> NDArray[np.uint32]:
    """Show a picture through a window.

    Parameters
    ----------
    values : numpy.ndarray
        ``(rows, columns)`` of any real type, or ``(rows, columns, 3)`` uint8, any strides.

    Returns
    -------
    numpy.ndarray
        ``(rows, columns)`` uint32 screen pixels, C-contiguous. Colour is passed through (or inverted).
    """
    if values.ndim == 3:
        return rgb_to_screen(255 - values if inverted else values)
    if values.dtype in (np.int16, np.uint16):
        table = _window_table(window, inverted, values.dtype == np.int16)
        # "clip" spares numpy a bounds check through a temporary; every 16-bit index is in range.
        return np.take(table, np.ascontiguousarray(values).view(np.uint16), mode="clip")
    if values.dtype.kind == "f" and window.is_plain:
        return grey_to_screen(_exact_linear(values, window, inverted))
    return grey_to_screen(window.to_uint8(np.ascontiguousarray(values), inverted))


def _exact_linear(values: NDArray, window: Window, inverted: bool) -> NDArray[np.uint8]:
    """Window real values, where a width below 1 is meaningful.

    Source: DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT).
    """
    width = max(window.width, 1e-12)
    unit = (values.astype(np.float32) - np.float32(window.center - width / 2.0)) / np.float32(width)
    grey = (np.clip(np.nan_to_num(unit, nan=0.0), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return 255 - grey if inverted else grey


def automatic_window(values: NDArray, units: str = "stored") -> Window:
    """Choose a window that holds nearly all of the values: 1st to 99th percentile of what is not background.

    Parameters
    ----------
    values : numpy.ndarray
        Voxels of one picture or a volume; big arrays are sampled.
    """
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size // 200_000)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if units == "HU":
        inside = sample[sample > -900.0]
    else:
        inside = sample[sample > sample.min()] if sample.size else sample
    use = inside if inside.size > 100 else sample
    if use.size == 0:
        return Window(0.0, 1.0, "Auto")
    low, high = (float(v) for v in np.percentile(use, (1.0, 99.0)))
    width = max(high - low, 1e-6 if values.dtype.kind == "f" else 1.0)
    return Window(low + width / 2.0, width, "Auto")


def is_colour(volume: Volume) -> bool:
    """Whether the voxels are RGB."""
    return volume.voxels.ndim == 4
