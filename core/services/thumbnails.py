"""Small pictures of series for the worklist, kept encrypted because names may be burned into the pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.config.atomic import atomic_write_bytes
from core.dicom.assemble import of_time_point
from core.dicom.reading import recall_header
from core.dicom.rescale import windows_of
from core.domain.errors import AppError, EnvironmentFault, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import Cancelled, CancelToken
from core.domain.study import InstanceRef, ObjectKind, SeriesKind, SeriesSummary
from core.domain.volume import Volume
from core.domain.window import LINEAR_EXACT, Window
from core.render.presets import presets_for
from core.services.engine import Engine
from core.services.library_files import thumbnail_file
from core.services.load_volume import load_files

SIZE = 128
_EMPTY = b""
_VERSION = 2
_MODE = {2: "L", 3: "RGB"}
_INVERTED = frozenset({"PT", "NM"})
"""Uptake is read dark on white."""

_LUNG = Window(-600.0, 1500.0)
_AERATED_SHARE = 0.2
_SUV_SHOWN = 6.0
_PADDED = 4.0
"""Values that span so many widths of the file's own window hold padding far below the image."""

_OWN_WINDOW = frozenset({"CR", "DX", "MG", "XA", "RF", "PX", "IO", "ES", "XC", "OP", "US", "SC", "OT"})
"""Modalities whose files say how they want to be seen; MR windows are often stale, so percentiles serve it better."""


@dataclass(frozen=True)
class _Slice:
    """The slice that stands for a series, and what its file says about showing it."""

    pixels: NDArray
    windows: tuple[Window, ...] = ()
    is_inverted: bool = False
    suvbw_factor: float | None = None


def thumbnail(
    engine: Engine, summary: SeriesSummary, instances: Sequence[InstanceRef]
) -> NDArray[np.uint8] | None:
    """Return the picture of a series, at most 128 pixels a side; None when it can't have one.

    It is the middle slice of the middle time point: ``(H, W)`` uint8, or ``(H, W, 3)`` for colour, windowed as the
    modality is read. Read from the cache when there is one that belongs to these files. A series that couldn't be
    decoded is remembered too, so that it isn't tried at each start. Derived objects have none.
    """
    if summary.kind is SeriesKind.OTHER or summary.object_kind is not ObjectKind.NONE or not instances:
        return None
    path = thumbnail_file(engine, summary.key)
    # The count is part of the context: a series that grew gets a new picture.
    context = f"thumbnail/{_VERSION}/{summary.key}/{len(instances)}"
    cached = _read(engine, path, context)
    if cached is not None:
        return _decoded(cached)
    try:
        picture = _small(_middle_slice(summary, instances), summary)
    except EnvironmentFault:
        return None  # a medium that isn't there now may be there next time
    except AppError:
        picture = None
    atomic_write_bytes(
        path, engine.vault.seal_bytes(context, _EMPTY if picture is None else _encoded(picture))
    )
    return picture


def _read(engine: Engine, path: Path, context: str) -> bytes | None:
    try:
        return engine.vault.open_bytes(context, path.read_bytes())
    except (OSError, SafetyError):
        # A cache: what is gone, damaged or of a former state is made again.
        return None


def _middle_slice(summary: SeriesSummary, instances: Sequence[InstanceRef]) -> _Slice:
    """Return the middle slice of the middle time point; only the file that holds it is decoded."""
    if not instances[0].sop_class_uid:
        # What isn't DICOM is one volume, for which other files may be needed.
        volume = load_files(summary, instances, time_point=summary.time_points // 2, correct=False)
        return _of_volume(volume)
    time_point = summary.time_points // 2
    of_time = of_time_point(instances, summary, time_point)
    middle = of_time[len(of_time) // 2]
    if middle.frames > 1:
        return _middle_frame(summary, middle, time_point if len(of_time) == len(instances) else 0)
    alone = replace(summary, instances=1, frames=1, time_points=1)
    return _of_volume(load_files(alone, (middle,), correct=False))


def _of_volume(volume: Volume) -> _Slice:
    middle = volume.voxels[volume.geometry.shape_kji[0] // 2]
    return _Slice(middle, volume.windows, volume.inverted, volume.suvbw_factor)


def _middle_frame(summary: SeriesSummary, file: InstanceRef, time_point: int) -> _Slice:
    """Return the first frame of a multi-frame file that the loader delivers, which is the middle one."""
    delivered: list[NDArray] = []
    cancel = CancelToken()

    def keep(_k: int, _geometry: VolumeGeometry, pixels: NDArray) -> None:
        if not delivered:
            delivered.append(pixels.copy())
            cancel.cancel()

    one = replace(summary, instances=1, frames=file.frames)
    try:
        return _of_volume(
            load_files(one, (file,), time_point=time_point, correct=False, cancel=cancel, on_slice=keep)
        )
    except Cancelled:
        header = recall_header(file.file)
        windows = windows_of(header, file.frames // 2)
        return _Slice(delivered[0], windows, header.photometric == "MONOCHROME1")


def _small(of: _Slice, summary: SeriesSummary) -> NDArray[np.uint8]:
    """Return the slice windowed and shrunk, with square millimetres."""
    shown = of.pixels
    if shown.ndim == 2:
        inverted = of.is_inverted != (summary.modality in _INVERTED)
        window = _window(of, summary)
        shown = window.to_uint8(np.nan_to_num(shown, nan=window.low), inverted)
    height, width = _display_size(shown.shape, summary)
    image = Image.fromarray(np.ascontiguousarray(shown, dtype=np.uint8), _MODE[shown.ndim])
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.uint8)


def _display_size(shape: tuple[int, ...], summary: SeriesSummary) -> tuple[int, int]:
    """Return (height, width) with square millimetres and the longer side at SIZE."""
    height, width = float(shape[0]), float(shape[1])
    if summary.spacing_kji_mm and min(summary.spacing_kji_mm[1:]) > 0:
        height *= summary.spacing_kji_mm[1]
        width *= summary.spacing_kji_mm[2]
    scale = SIZE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _window(of: _Slice, summary: SeriesSummary) -> Window:
    """Return how the slice is shown: by anatomy, by uptake, as its file says, or by its own values."""
    pixels = of.pixels
    if summary.modality == "CT":
        return _ct_window(pixels, summary.body_part)
    if summary.modality == "PT" and of.suvbw_factor:
        highest = _SUV_SHOWN / of.suvbw_factor
        return Window(highest / 2.0, highest, function=LINEAR_EXACT)
    if summary.modality in _OWN_WINDOW:
        if of.windows:
            return of.windows[0]
        if pixels.dtype == np.uint8:
            return Window(127.5, 255.0, function=LINEAR_EXACT)
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not finite.size:
        return Window(0.5, 1.0)
    low, high = np.percentile(finite, (0.0, 99.8) if summary.modality in _INVERTED else (1.0, 99.0))
    if of.windows and high - low > _PADDED * of.windows[0].width:
        return of.windows[0]
    return Window(float(low + high) / 2.0, max(float(high - low), 1e-6), function=LINEAR_EXACT)


def _ct_window(pixels: NDArray, body_part: str) -> Window:
    """Return the first preset of the region; without a region, the lung window when a fifth of the slice is lung."""
    group = presets_for("CT", body_part, "HU")
    preset = group.preset(group.initial)
    if not body_part and float(np.mean((pixels > -950) & (pixels < -600))) > _AERATED_SHARE:
        return _LUNG
    if preset is None or preset.center is None or preset.width is None:
        return Window(40.0, 400.0)
    return Window(float(preset.center), float(preset.width))


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture, _MODE[picture.ndim]).save(stream, "PNG")
    return stream.getvalue()


def _decoded(data: bytes) -> NDArray[np.uint8] | None:
    if not data:
        return None
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    return np.asarray(image.convert("L" if image.mode == "L" else "RGB"), dtype=np.uint8)
