"""From stored values to the values of the modality, and the windows that the object recommends.

Source: DICOM PS3.3 C.11.1 (modality LUT) and C.11.2 (VOI LUT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.dicom.elements import Elements
from core.dicom.header import Header
from core.domain.window import FUNCTIONS, LINEAR, Window


@dataclass(frozen=True)
class LookupTable:
    """A modality LUT: ``values`` float32 or int, ``first`` the stored value of its first entry."""

    first: int
    values: NDArray

    def apply(self, stored: NDArray) -> NDArray:
        """Map stored values of any shape; values outside take the nearest entry."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.values) - 1)
        return self.values[index]


def modality_table(header: Header) -> LookupTable | None:
    """Return the Modality LUT Sequence (0028,3000) of a header, if there is one."""
    items = header.elements.items(0x00283000)
    return _table(items[0], header.signed) if items else None


def _table(item: Elements, signed: bool) -> LookupTable | None:
    descriptor = item.raw.get(0x00283002)
    data = item.raw.get(0x00283006)
    if descriptor is None or data is None or len(descriptor.value) < 6:
        return None
    order = "<" if item.little_endian else ">"
    count, first, bits = np.frombuffer(descriptor.value[:6], dtype=f"{order}u2")
    entries = int(count) or 65536
    first_value = int(np.int16(np.uint16(first))) if signed or descriptor.vr == "SS" else int(first)
    width = "u1" if len(data.value) < 2 * entries and bits <= 8 else f"{order}u2"
    values = np.frombuffer(data.value[: entries * np.dtype(width).itemsize], dtype=width)
    if not len(values):
        return None
    return LookupTable(first_value, values.astype(np.int32))


def rescale_of(header: Header, frame: int) -> tuple[float, float]:
    """Return (slope, intercept) of a frame (from 0); per-frame groups win over the data set."""
    if frame < len(header.planes):
        plane = header.planes[frame]
        if plane.slope and plane.intercept is not None and abs(plane.slope) + abs(plane.intercept) < 1e9:
            return plane.slope, plane.intercept
    return header.slope, header.intercept


def units_of(header: Header) -> str:
    """Return ``"HU"`` for CT unless the object says otherwise, else ``"stored"``."""
    rescale_type = header.elements.text(0x00281054) or (
        header.planes[0].rescale_type if header.planes else ""
    )
    if not header.rescale_sound:
        return "stored"
    return "HU" if header.modality == "CT" and rescale_type.upper() in ("", "HU") else "stored"


def output_dtype(
    rescales: Sequence[tuple[float, float]], stored: np.dtype[np.generic], bits_stored: int, signed: bool
) -> np.dtype[np.generic]:
    """Return int16 when every value that the stored bits allow is exact in it, else the next that is.

    16-bit data with slope 1 get int16 as well: what doesn't fit is found while reading (see ``assemble``).
    """
    if stored.kind == "f":
        return np.dtype(np.float32)
    integral = all(s == int(s) and i == int(i) and abs(s) < 1e9 and abs(i) < 1e9 for s, i in rescales)
    if not integral:
        return np.dtype(np.float32)
    low, high = (
        (-(1 << (bits_stored - 1)), (1 << (bits_stored - 1)) - 1) if signed else (0, (1 << bits_stored) - 1)
    )
    ends = [s * v + i for s, i in rescales for v in (low, high)]
    if min(ends) >= -32768 and max(ends) <= 32767:
        return np.dtype(np.int16)
    if stored.itemsize == 2 and all(s == 1 for s, _ in rescales):
        return np.dtype(np.int16)
    if min(ends) >= -(1 << 31) and max(ends) < 1 << 31:
        return np.dtype(np.int32)
    return np.dtype(np.float32)


def windows_of(header: Header, frame: int = 0) -> tuple[Window, ...]:
    """Return the windows that the object recommends for a frame (from 0), in the units of the modality LUT's output.

    A sequence of tables stands before the windows: where both are there, the object prefers neither.
    """
    e = header.elements
    plane = header.planes[frame] if frame < len(header.planes) else None
    centers = e.numbers(0x00281050) or (plane.window_centers if plane else ())
    widths = e.numbers(0x00281051) or (plane.window_widths if plane else ())
    stated = e.text(0x00281056).upper() or (plane.window_function if plane else "")
    function = stated if stated in FUNCTIONS else LINEAR
    names = e.texts(0x00281055)
    found: list[Window] = []
    for number, (center, width) in enumerate(zip(centers, widths, strict=False)):
        if np.isfinite((center, width)).all() and 0 < width < 1e9:
            window = Window(center, width, names[number] if number < len(names) else "", function)
            if window not in found:
                found.append(window)
    for item in e.items(0x00283010):
        window_of_table = _table_window(item, header)
        if window_of_table is not None:
            found.append(window_of_table)
    return tuple(found)


def _table_window(item: Elements, header: Header) -> Window | None:
    """Return a VOI LUT as a window of 8-bit grey."""
    table = _table(item, header.signed)
    if table is None:
        return None
    descriptor = item.raw[0x00283002].value
    bits = int(np.frombuffer(descriptor[4:6], dtype="<u2" if item.little_endian else ">u2")[0])
    # The stated bits are often too few or too many: the largest entry decides where it doesn't fit.
    largest = int(table.values.max(initial=0))
    white = (1 << bits) - 1 if 8 <= bits <= 16 and largest < 1 << bits else max(largest, 1)
    grey = np.rint(table.values * (255.0 / white)).astype(np.uint8)
    count = len(grey)
    name = item.person_text(0x00283003) or "VOI LUT"
    return Window(table.first + count / 2, float(count), name, LINEAR, grey.tobytes(), table.first)
