"""Small grey pictures of cases, for comparing and for showing them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.domain.volume import Volume
from core.recipes.cases import Case
from core.recipes.reading import read_volume
from core.recipes.similarity import THUMBNAIL
from core.recipes.sources.base import PICTURES

ReadThumbnail = Callable[[Case], NDArray[np.float32] | None]


def picture_thumbnail(case: Case) -> NDArray[np.float32] | None:
    """Return a picture at 32 × 32, grey; None for a case that isn't one picture file.

    Returns
    -------
    numpy.ndarray or None
        ``(32, 32)`` float32 in the units of the file. Each pixel is the mean of the area it stands for.
    """
    files = next(iter(case.images.values()), ())
    if len(files) != 1 or not files[0].name.lower().endswith(PICTURES):
        return None
    return resized(middle_slice(read_volume(files)), (THUMBNAIL, THUMBNAIL))


def middle_slice(volume: Volume) -> NDArray[np.float32]:
    """Return the middle slice ``(J, I)`` float32, colour as grey."""
    voxels = volume.voxels[volume.geometry.shape_kji[0] // 2]
    if voxels.ndim == 3:
        voxels = voxels[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    grey = np.asarray(voxels, dtype=np.float32)
    return -grey if volume.inverted else grey


def resized(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image at ``(rows, columns)``; shrinking averages areas."""
    rows, columns = shape
    small = Image.fromarray(np.ascontiguousarray(image)).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)
