"""Small pictures of series for the worklist, kept encrypted because names may be burned into the pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.config.atomic import atomic_write_bytes
from core.domain.errors import AppError, EnvironmentFault, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import Cancelled, CancelToken
from core.domain.study import InstanceRef, SeriesKind, SeriesSummary
from core.domain.window import Window
from core.services.engine import Engine
from core.services.library_files import thumbnail_file
from core.services.load_volume import load_files

SIZE = 128
_EMPTY = b""
_CT_WINDOWS = {"lung": Window(-500.0, 1500.0), "soft": Window(40.0, 400.0)}


def thumbnail(
    engine: Engine, summary: SeriesSummary, instances: Sequence[InstanceRef]
) -> NDArray[np.uint8] | None:
    """Return the ``(H, W)`` uint8 picture of a series, at most 128 pixels a side; None when it can't have one.

    Read from the cache when there is one that belongs to these files. A series that couldn't be decoded is
    remembered too, so that it isn't tried at each start.
    """
    if summary.kind is SeriesKind.OTHER or not instances:
        return None
    path = thumbnail_file(engine, summary.key)
    # The count is part of the context: a series that grew gets a new picture.
    context = f"thumbnail/{summary.key}/{len(instances)}"
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


def _middle_slice(summary: SeriesSummary, instances: Sequence[InstanceRef]) -> NDArray:
    """Return the first slice that the loader delivers of the middle file, which is the middle one of that file."""
    middle = instances[len(instances) // 2]
    delivered: list[NDArray] = []
    cancel = CancelToken()

    def keep(_k: int, _geometry: VolumeGeometry, pixels: NDArray) -> None:
        if not delivered:
            delivered.append(pixels)
            cancel.cancel()

    # A volume that isn't DICOM may need its other files too.
    files = (middle,) if middle.sop_class_uid else tuple(instances)
    one = replace(summary, instances=len(files), frames=middle.frames)
    try:
        volume = load_files(one, files, cancel=cancel, on_slice=keep)
    except Cancelled:
        return delivered[0]
    return delivered[0] if delivered else volume.voxels[volume.geometry.shape_kji[0] // 2]


def _small(pixels: NDArray, summary: SeriesSummary) -> NDArray[np.uint8]:
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    if pixels.ndim == 2:
        grey = _window(grey, summary).to_uint8(grey)
    height, width = _display_size(grey.shape, summary)
    image = Image.fromarray(grey.astype(np.uint8), "L").resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.uint8)


def _display_size(shape: tuple[int, ...], summary: SeriesSummary) -> tuple[int, int]:
    """Return (height, width) with square millimetres and the longer side at SIZE."""
    height, width = float(shape[0]), float(shape[1])
    if summary.spacing_kji_mm and min(summary.spacing_kji_mm[1:]) > 0:
        height *= summary.spacing_kji_mm[1]
        width *= summary.spacing_kji_mm[2]
    scale = SIZE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _window(grey: NDArray, summary: SeriesSummary) -> Window:
    """Return the soft-tissue window for CT (the lung window when a fifth is lung), else 1st to 99th percentile."""
    if summary.modality == "CT":
        aerated = float(np.mean((grey > -950) & (grey < -600)))
        return _CT_WINDOWS["lung" if aerated > 0.2 else "soft"]
    low, high = np.percentile(grey, (1.0, 99.0))
    return Window(float(low + high) / 2.0 + 0.5, max(float(high - low), 1.0) + 1.0)


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture, "L").save(stream, "PNG")
    return stream.getvalue()


def _decoded(data: bytes) -> NDArray[np.uint8] | None:
    if not data:
        return None
    return np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)).convert("L"), dtype=np.uint8)
