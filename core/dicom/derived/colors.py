"""Display colours: CIELab as DICOM writes it, and a palette for what states none."""

from __future__ import annotations

from collections.abc import Sequence

Rgb = tuple[int, int, int]

_PALETTE: tuple[Rgb, ...] = (
    (230, 80, 70),
    (70, 160, 230),
    (110, 200, 90),
    (240, 180, 50),
    (170, 110, 220),
    (60, 200, 190),
    (240, 120, 180),
    (160, 160, 70),
)


def palette_color(number: int) -> Rgb:
    """Return a colour for the n-th thing without one."""
    return _PALETTE[number % len(_PALETTE)]


def rgb_of_cielab(stored: Sequence[float]) -> Rgb | None:
    """Return sRGB of a Recommended Display CIELab Value, None when there aren't three numbers.

    Source: DICOM PS3.3 C.10.7.1.1 (encoding), CIE 15 (L*a*b* to XYZ, white point D65), IEC 61966-2-1 (sRGB).
    """
    if len(stored) != 3 or not all(0 <= v <= 0xFFFF for v in stored):
        return None
    lightness = stored[0] * 100 / 0xFFFF
    a, b = (v * 255 / 0xFFFF - 128 for v in stored[1:])
    y = (lightness + 16) / 116
    x, y, z = (
        white * (c**3 if c**3 > 0.008856 else (c - 16 / 116) / 7.787)
        for white, c in ((0.95047, y + a / 500), (1.0, y), (1.08883, y - b / 200))
    )
    linear = (
        3.2406 * x - 1.5372 * y - 0.4986 * z,
        -0.9689 * x + 1.8758 * y + 0.0415 * z,
        0.0557 * x - 0.2040 * y + 1.0570 * z,
    )
    red, green, blue = (
        max(0, min(255, round(255 * (1.055 * v ** (1 / 2.4) - 0.055 if v > 0.0031308 else 12.92 * v))))
        for v in linear
    )
    return red, green, blue
