"""When the frames of a moving picture are due. Source: DICOM PS3.3 C.7.6.5 (Cine)."""

from __future__ import annotations

import math

from core.dicom.header import Header

_FRAME_TIME, _FRAME_TIME_VECTOR, _CINE_RATE, _DISPLAY_RATE = 0x00181063, 0x00181065, 0x00180040, 0x00082144
_SLOWEST_MS = 60_000.0


def frame_times_ms(header: Header) -> tuple[float, ...]:
    """Return the time of each frame from 0; empty for single images and where no rate is stated.

    The vector of increments wins over the frame time, that over the recommended display rate and the cine rate.
    """
    if header.frames < 2:
        return ()
    e = header.elements
    increments = e.numbers(_FRAME_TIME_VECTOR)
    if len(increments) == header.frames and all(_usable(v) for v in increments[1:]):
        times = [0.0]
        for increment in increments[1:]:
            times.append(times[-1] + increment)
        return tuple(times)
    step = e.number(_FRAME_TIME)
    if step is None or not _usable(step):
        rate = e.number(_DISPLAY_RATE) or e.number(_CINE_RATE) or 0.0
        step = 1000.0 / rate if math.isfinite(rate) and rate > 0 else 0.0
    return tuple(n * step for n in range(header.frames)) if _usable(step) else ()


def _usable(milliseconds: float) -> bool:
    return math.isfinite(milliseconds) and 0 < milliseconds <= _SLOWEST_MS
