"""Label maps of DICOM SEG and RTSTRUCT on the grid of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.identity import read_header
from core.dicom.derived.rasterize import contours_as_segmentation
from core.dicom.derived.rtstruct import read_structures
from core.dicom.derived.seg import read_segmentation
from core.domain.derived import DerivedSegmentation
from core.domain.errors import InputError
from core.domain.study import ObjectKind
from core.domain.volume import SeriesIssue, Volume
from core.recipes.sources.dicom_series import folded, wanted_names

_NOT_DICOM = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def is_dicom_mask(path: Path) -> bool:
    """Whether a mask's name is none of the other formats."""
    return not path.name.lower().endswith(_NOT_DICOM)


def drawn_on(mask: Path, volumes: Sequence[Volume]) -> Volume:
    """Return the volume whose series an object refers to; the first one when it refers to none."""
    if len(volumes) > 1:
        named = read_header(mask).source_series
        for volume in volumes:
            if volume.series_uid in named:
                return volume
    return volumes[0]


def dicom_labels(
    masks: Sequence[Path], grid: Volume, structures: Mapping[str, int]
) -> tuple[NDArray[np.uint8], list[SeriesIssue]]:
    """Return the wanted structures as a label map on the grid of the images.

    Parameters
    ----------
    structures : mapping
        Name of a structure or segment → label value. Where two overlap, the higher value stays.

    Raises
    ------
    InputError
        ``data.no_structure`` when none of the objects holds one.
    SafetyError
        When an object lies in another frame of reference.
    """
    wanted = wanted_names(structures)
    target = TargetGrid.of(grid)
    labels = np.zeros(grid.geometry.shape_kji, dtype=np.uint8)
    issues: list[SeriesIssue] = []
    found, overlapping = set(), 0
    for path in masks:
        derived = _read(path, target)
        issues += derived.header.issues
        if derived.outside_voxels:
            issues.append(
                SeriesIssue("case.outside", f"{derived.outside_voxels} voxels lie outside the images.")
            )
        for layer in derived.layers:
            for segment in layer.segments:
                value = wanted.get(folded(segment.label))
                if value is None:
                    continue
                found.add(folded(segment.label))
                inside = layer.labels == segment.value
                overlapping += int(np.count_nonzero(inside & (labels != 0) & (labels != value)))
                labels[inside] = np.maximum(labels[inside], value)
    if not found:
        raise InputError("data.no_structure", f"Its segmentation holds none of {', '.join(structures)}.", "")
    if overlapping:
        issues.append(SeriesIssue("case.overlap", f"{overlapping} voxels belong to two structures."))
    return labels, issues


def _read(path: Path, target: TargetGrid) -> DerivedSegmentation:
    kind = read_header(path).kind
    if kind == ObjectKind.STRUCTURE_SET:
        return contours_as_segmentation(read_structures(path, target), target.geometry)
    if kind == ObjectKind.SEGMENTATION:
        return read_segmentation(path, target)
    raise InputError(
        "data.mask_kind", f"“{path.name}” is neither a SEG nor an RTSTRUCT.", "Give a segmentation."
    )
