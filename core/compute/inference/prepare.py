"""From a Volume to the tensor that the network takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.manifest import Manifest
from core.compute.inference.grids import ModelGrid, model_grid
from core.compute.inference.intensity import apply_intensity
from core.compute.inference.resample import resize_image, to_model_grid
from core.compute.inference.slices import picture_grid
from core.domain.errors import InputError, SafetyError
from core.domain.geometry import apply_reorientation
from core.domain.progress import CancelToken
from core.domain.volume import Volume
from core.domain.window import Window

# Source: ITU-R BT.601 luma, as Pillow's conversion to "L".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """The network's input ``(C, K, J, I)`` float32 and the grid it lies on."""

    tensor: torch.Tensor
    grid: ModelGrid


def check_geometry(manifest: Manifest, volume: Volume) -> None:
    """Refuse a volume on which a result could mislead.

    Raises
    ------
    InputError
        ``run.kind``: a volume for an image model or the reverse. ``run.colour``.
    SafetyError
        ``run.geometry``: the slices can't be measured. ``run.not_finite``: voxels that are not numbers.
    """
    needs = manifest.requirements
    slices = volume.geometry.shape_kji[0]
    if needs.kind == "image" and slices != 1:
        raise InputError(
            "run.kind", f"{manifest.title} takes single images; this series has {slices}.", "Choose an image."
        )
    if needs.kind == "volume" and volume.voxels.ndim != 3:
        raise InputError("run.colour", f"{manifest.title} takes grey volumes; this one has colour.", "")
    if needs.kind == "volume" and slices < needs.min_slices:
        raise InputError(
            "run.kind",
            f"{manifest.title} needs {needs.min_slices} slices; this series has {slices}.",
            "Choose another series.",
        )
    blocking = [issue for issue in volume.issues if issue.blocks_volumetry]
    if needs.kind == "volume" and needs.regular and blocking:
        raise SafetyError(
            "run.geometry",
            f"{manifest.title} can't run: {blocking[0].message}",
            "Choose a series with evenly spaced, complete slices.",
        )
    if volume.voxels.dtype.kind == "f" and not np.isfinite(volume.voxels).all():
        raise SafetyError(
            "run.not_finite",
            "Some voxels of this series are not numbers.",
            "Repair the series at its source.",
        )


def prepare_volume(volume: Volume, manifest: Manifest, cancel: CancelToken | None = None) -> PreparedVolume:
    """Reorient, resample and normalise a volume; raises SafetyError ``run.sheared``.

    A single picture (for a two-dimensional network) becomes a volume of one slice.
    """
    if not manifest.is_3d:
        picture = prepare_image(volume, manifest)[0][:, None]
        rows, columns = picture.shape[-2:]
        return PreparedVolume(picture, picture_grid(volume.geometry, rows, columns))
    steps = manifest.preprocessing
    grid = model_grid(volume.geometry, steps)
    array: NDArray = apply_reorientation(volume.voxels, grid.permutation, grid.flips)
    if volume.inverted:
        array = _inverted(array)
    window = volume.windows[0] if volume.windows else None
    if steps.before_resampling:
        array = apply_intensity(np.array(array, dtype=np.float32, order="C"), steps.before_resampling, window)
    fill = steps.conform.fill if steps.conform is not None else 0.0
    resampled = to_model_grid(array, grid, fill=fill, antialias=steps.antialias, cancel=cancel)
    tensor = torch.from_numpy(apply_intensity(resampled, steps.intensity, window))[None]
    return PreparedVolume(tensor.repeat(steps.channels, 1, 1, 1) if steps.channels > 1 else tensor, grid)


def prepare_image(volume: Volume, manifest: Manifest) -> torch.Tensor:
    """Turn a one-slice volume into the network's input ``(1, C, H, W)`` float32.

    Colour becomes grey by luma unless the network takes three channels; MONOCHROME1 is inverted.
    """
    steps = manifest.preprocessing
    image = np.asarray(volume.voxels[0])
    if volume.inverted:
        image = _inverted(image)
    window = _window(volume)
    if image.ndim == 3 and steps.channels == 1:
        image = image.astype(np.float32) @ _LUMA
    planes = [image] if image.ndim == 2 else [image[..., channel] for channel in range(image.shape[-1])]
    stacked = np.stack([_resized(plane, manifest, window) for plane in planes])
    if len(planes) == 1 and steps.channels == 3:
        stacked = np.repeat(stacked, 3, axis=0)
    return torch.from_numpy(apply_intensity(stacked, steps.intensity, window))[None]


def _resized(plane: NDArray, manifest: Manifest, window: Window | None) -> NDArray[np.float32]:
    steps = manifest.preprocessing
    values = np.array(plane, dtype=np.float32, order="C")
    values = apply_intensity(values, steps.before_resampling, window)
    return values if steps.resize_hw is None else resize_image(values, *steps.resize_hw)


def _inverted(array: NDArray) -> NDArray:
    """Turn MONOCHROME1 (low is white) around within the range of the values."""
    if array.dtype == np.uint8:
        return 255 - array
    low, high = float(array.min()), float(array.max())
    return (low + high) - array.astype(np.float32)


def _window(volume: Volume) -> Window | None:
    if not volume.windows:
        return None
    first = volume.windows[0]
    if not volume.inverted:
        return first
    low, high = (0.0, 255.0) if volume.voxels.dtype == np.uint8 else volume.value_range()
    return Window(low + high - first.center, first.width, first.name)
