"""From a case's files to volumes and a label map on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.errors import AppError, InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.study import SeriesKind
from core.domain.volume import SeriesIssue, Volume
from core.formats.images import read_image
from core.formats.nifti import read_nifti
from core.formats.nrrd import read_nrrd
from core.recipes.cases import Case, CaseData
from core.recipes.dicom_masks import dicom_labels, drawn_on, is_dicom_mask
from core.recipes.schema import Data
from core.recipes.sources.base import NIFTI, NRRD, PICTURES
from core.recipes.sources.registry import source_of
from core.recipes.sources_schema import DicomSeries, PluginSource

_LOSSY = (".jpg", ".jpeg")


def read_case(case: Case, data: Data) -> CaseData:
    """Read the images of a case and its label map.

    The grid is that of the first channel that the case has. Other channels are resampled to it (linear), a mask too
    (nearest) where it lies in the same place on another grid. A channel that the case lacks becomes zeros when the
    recipe says so.

    Parameters
    ----------
    data : Data
        The recipe's section: source, channels, what becomes of missing ones.

    Raises
    ------
    InputError
        ``data.…`` naming the case when a file is damaged, a mask has another size or values that are no labels.
    SafetyError
        ``data.grid`` when image and mask lie in different places.
    """
    source = data.source
    settings = source.params if isinstance(source, PluginSource) else source
    own = source_of(source).read(case, settings, data.channels)
    if own is not None:
        return own
    try:
        present = _present(case, data)
        volumes, issues = _volumes(present, data)
        labels = None
        if case.mask is not None:
            labels, more = _labels(case, present, source)
            issues += more
    except AppError as error:
        raise type(error)(error.code, f"Case “{case.id}”: {error.user_message}", error.remedy) from error
    return CaseData(volumes, labels, case.label, tuple(issues))


def read_volume(files: Sequence[Path]) -> Volume:
    """Read one file (NIfTI, NRRD, picture) or the files of one DICOM series.

    Raises
    ------
    InputError
        When it is damaged or holds not exactly one image series.
    """
    name = files[0].name.lower()
    if len(files) == 1 and name.endswith(NIFTI):
        return read_nifti(files[0])
    if len(files) == 1 and name.endswith(NRRD):
        return read_nrrd(files[0])
    if len(files) == 1 and name.endswith(PICTURES):
        return read_image(files[0])
    scanned = scan_paths(list(files), children=0).series
    images = [one for one in scanned if one.summary.kind in (SeriesKind.VOLUME, SeriesKind.IMAGE)]
    if len(images) != 1:
        raise InputError(
            "data.series", f"The files hold {len(images)} image series instead of one.", "Check the files."
        )
    return assemble_volume(images[0].instances, images[0].summary, correct=True)


def _present(case: Case, data: Data) -> dict[str, Volume]:
    """Return the channels that the case has, each on its own grid."""
    found = {
        channel: read_volume(case.images[channel]) for channel in data.channels if case.images.get(channel)
    }
    if not found:
        raise InputError(
            "data.no_channel", f"It has none of {', '.join(data.channels)}.", "Check data.channels."
        )
    return found


def _volumes(present: dict[str, Volume], data: Data) -> tuple[dict[str, Volume], list[SeriesIssue]]:
    """Return all channels on the grid of the first one that is there."""
    grid = next(iter(present.values()))
    issues: list[SeriesIssue] = []
    volumes: dict[str, Volume] = {}
    for channel in data.channels:
        if channel in present:
            volume = present[channel]
            if not volume.geometry.same_grid_as(grid.geometry):
                volume = _onto(volume, grid, channel)
                issues.append(_resampled(f"The channel {channel}"))
            volumes[channel] = volume
        elif data.missing == "zeros":
            volumes[channel] = replace(
                grid, voxels=np.zeros(grid.geometry.shape_kji, dtype=np.int16), windows=()
            )
        else:
            raise InputError(
                "data.no_channel",
                f"It lacks the channel {channel}.",
                "Add the file, or set data.missing to leave_out or zeros.",
            )
    return volumes, issues


def _onto(volume: Volume, grid: Volume, channel: str) -> Volume:
    """Return a channel on the grid of another one; outside of it lies its smallest value."""
    if volume.voxels.ndim == 4 or not volume.positioned or not overlap(volume.geometry, grid.geometry):
        raise SafetyError(
            "data.grid",
            f"The channel {channel} lies in another place than the first one.",
            "Register them first.",
        )
    voxels = on_grid(volume.voxels.astype(np.float32), volume.geometry, grid.geometry, order=1, outside=None)
    return replace(volume, geometry=grid.geometry, voxels=voxels, sop_instance_uids=(), frame_numbers=())


def _labels(
    case: Case, present: Mapping[str, Volume], source: Any
) -> tuple[NDArray[np.uint8], list[SeriesIssue]]:
    mask, grid = case.mask, next(iter(present.values()))
    if mask is None:
        raise InputError("data.no_mask", "It has no mask.", "Add it.")
    if isinstance(source, DicomSeries) or is_dicom_mask(mask):
        structures = source.structures if isinstance(source, DicomSeries) else {}
        drawn = drawn_on(mask, tuple(present.values()))
        labels, issues = dicom_labels((mask, *case.more_masks), drawn, structures)
        if drawn.geometry.same_grid_as(grid.geometry):
            return labels, issues
        moved = on_grid(labels, drawn.geometry, grid.geometry, order=0, outside=0)
        return moved, [*issues, _resampled("The mask")]
    values: Mapping[int, int] = getattr(source, "values", {})
    volume = read_volume((mask,))
    labels = label_values(volume.voxels, values, mask.name)
    if volume.geometry.same_grid_as(grid.geometry):
        return labels, []
    picture = mask.name.lower().endswith(PICTURES)
    if picture or not volume.positioned or not grid.positioned:
        raise InputError(
            "data.mask_size",
            f"The mask “{mask.name}” is {_size(volume)}, the image {_size(grid)}.",
            "Give image and mask the same size.",
        )
    moved = on_grid(labels, volume.geometry, grid.geometry, order=0, outside=0)
    if not overlap(volume.geometry, grid.geometry) or (labels.any() and not moved.any()):
        raise SafetyError(
            "data.grid",
            f"The mask “{mask.name}” lies in another place than the image.",
            "Check that image and mask belong together.",
        )
    return moved, [_resampled("The mask")]


def label_values(voxels: NDArray, values: Mapping[int, int], name: str) -> NDArray[np.uint8]:
    """Return label values of a mask's voxels.

    Parameters
    ----------
    voxels : numpy.ndarray
        ``(K, J, I)``, or ``(K, J, I, 3)`` where the colours are all grey.
    values : mapping
        Value in the mask → label value, others are 0. Empty: values are labels; 0 and 255 alone are 0 and 1.
    name : str
        Of the mask's file. Of a JPEG's values, which the compression blurs, the nearest one counts.

    Raises
    ------
    InputError
        ``data.mask_values``.
    """
    if voxels.ndim == 4:
        if (voxels != voxels[..., :1]).any():
            raise InputError("data.mask_values", f"The mask “{name}” is in colour.", "Save it in grey.")
        voxels = voxels[..., 0]
    if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.rint(voxels)):
        raise InputError("data.mask_values", f"The mask “{name}” holds fractions.", "Save whole numbers.")
    if name.lower().endswith(_LOSSY):
        levels = np.array(sorted({0, *(values or {255: 1})}))
        between = (levels[1:] + levels[:-1]) / 2
        voxels = levels[np.searchsorted(between, voxels)]
    if values:
        out = np.zeros(voxels.shape, dtype=np.uint8)
        for value, label in values.items():
            out[voxels == value] = label
        return out
    found = np.unique(voxels)
    if found.tolist() in ([0, 255], [255]):
        return np.asarray(voxels == 255, dtype=np.uint8)
    if found[0] < 0 or found[-1] > 254:
        raise InputError(
            "data.mask_values",
            f"The mask “{name}” holds values from {found[0]:g} to {found[-1]:g}; labels are 0 to 254.",
            "Say with data.source.values which of them are which label.",
        )
    return voxels.astype(np.uint8)


def on_grid(
    array: NDArray, own: VolumeGeometry, target: VolumeGeometry, *, order: int, outside: float | None
) -> NDArray:
    """Resample an array from its grid to another one.

    Parameters
    ----------
    order : int
        0 nearest, 1 linear.
    outside : float or None
        Value beyond the array; None is its smallest.
    """
    own_from_target = own.ijk_from_lps @ target.lps_from_ijk
    matrix = own_from_target[:3, :3][::-1, ::-1]
    offset = own_from_target[:3, 3][::-1]
    moved: NDArray = ndimage.affine_transform(
        array,
        matrix,
        offset,
        output_shape=target.shape_kji,
        order=order,
        mode="constant" if order == 0 else "grid-constant",
        cval=float(array.min()) if outside is None else outside,
    )
    return moved


def overlap(a: VolumeGeometry, b: VolumeGeometry) -> bool:
    """Whether the boxes of two grids touch in the patient."""
    return all(
        low_a <= high_b and low_b <= high_a
        for (low_a, high_a), (low_b, high_b) in zip(a.bounds_lps_mm(), b.bounds_lps_mm(), strict=True)
    )


def _resampled(what: str) -> SeriesIssue:
    return SeriesIssue("case.resampled", f"{what} had another grid and was resampled.")


def _size(volume: Volume) -> str:
    return " × ".join(str(n) for n in volume.geometry.shape_ijk)
