"""How the frames of an object come onto a grid: exactly where they lie on its voxels, by image, or by nearest pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.planes import (
    FrameGroups,
    FramePlanes,
    FrameWindow,
    OnGrid,
    PlaneStack,
    on_grid,
    own_geometry,
    read_images,
    read_planes,
    slice_by_image,
    stack_planes,
)
from core.dicom.derived.resample import NearestPixel
from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue

RESAMPLED = "derived.resampled"


class Placement(Protocol):
    """Where frames go in a work array, and how the work array becomes one on the grid."""

    @property
    def work_shape(self) -> tuple[int, int, int]:
        """Shape of the array that is filled."""

    def oriented(self, array: NDArray) -> NDArray:
        """Return the work array as (plane, row, column) of the frames; a view."""

    def window(self, frame: int, values: NDArray) -> FrameWindow:
        """Return where a frame's values go in the oriented array."""

    def finished(self, work: NDArray) -> NDArray:
        """Return the work array on the grid, 0 where no frame lies."""


@dataclass(frozen=True, eq=False)
class Exact:
    """The frames lie on voxels of the grid."""

    shape: tuple[int, int, int]
    frames: OnGrid

    @property
    def work_shape(self) -> tuple[int, int, int]:
        """The grid itself."""
        return self.shape

    def oriented(self, array: NDArray) -> NDArray:
        """Return the array as the frames see it."""
        return self.frames.oriented(array)

    def window(self, frame: int, values: NDArray) -> FrameWindow:
        """Return where a frame goes."""
        f, (k, j, i) = self.frames, self.shape
        sizes = (i, j, k)
        return f.window(frame, values, (sizes[f.slice_axis], sizes[f.row_axis], sizes[f.column_axis]))

    def finished(self, work: NDArray) -> NDArray:
        """Return the array: it is on the grid."""
        return work


@dataclass(frozen=True, eq=False)
class Nearest:
    """The frames are collected on their own planes, then each voxel takes its nearest pixel."""

    stack: PlaneStack
    target: VolumeGeometry

    @property
    def work_shape(self) -> tuple[int, int, int]:
        """The frames' own planes."""
        return (len(self.stack.heights), *self.stack.planes.shape)

    def oriented(self, array: NDArray) -> NDArray:
        """Return the array: it is made of the frames' planes."""
        return array

    def window(self, frame: int, values: NDArray) -> FrameWindow:
        """Return the frame's plane."""
        rows, columns = values.shape
        plane = int(self.stack.plane_of_frame[frame])
        return FrameWindow(plane, slice(0, rows), slice(0, columns), values, False)

    def finished(self, work: NDArray) -> NDArray:
        """Return the values on the grid."""
        out = np.zeros(self.target.shape_kji, dtype=work.dtype)
        NearestPixel(self.stack, self.target).bring(work, out)
        return out

    def count_outside(self, labels: NDArray) -> int:
        """Count labelled pixels beyond the grid."""
        nearest = NearestPixel(self.stack, self.target)
        return sum(nearest.count_outside(plane > 0, n) for n, plane in enumerate(labels))


@dataclass(frozen=True, eq=False)
class ByImage:
    """The frames state no place: each lies on the image that it names."""

    shape: tuple[int, int, int]
    slices: tuple[int, ...]

    @property
    def work_shape(self) -> tuple[int, int, int]:
        """The grid itself."""
        return self.shape

    def oriented(self, array: NDArray) -> NDArray:
        """Return the array: it is made of the images."""
        return array

    def window(self, frame: int, values: NDArray) -> FrameWindow:
        """Return the slice of the frame's image."""
        rows, columns = values.shape
        return FrameWindow(self.slices[frame], slice(0, rows), slice(0, columns), values, False)

    def finished(self, work: NDArray) -> NDArray:
        """Return the array: it is on the grid."""
        return work


@dataclass(frozen=True, eq=False)
class Placed:
    """A placement, the grid it ends on, and what a reader must know of it."""

    placement: Placement
    geometry: VolumeGeometry
    issues: tuple[SeriesIssue, ...] = ()


def place_frames(
    groups: FrameGroups, shape: tuple[int, int], target: TargetGrid | None, frame_of_reference_uid: str
) -> Placed:
    """Decide how frames come onto ``target``, or onto the regular grid of their own planes when it is None.

    Raises
    ------
    InputError
        When the frames' places are invalid, not parallel, or unknown (``derived.no_place``).
    """
    planes = read_planes(groups, shape)
    if planes is None or (target is not None and not target.positioned):
        return _by_image(groups, shape, target)
    if target is None:
        return _on_own_grid(planes, frame_of_reference_uid)
    exact = on_grid(planes, target)
    if exact is not None:
        return Placed(Exact(target.geometry.shape_kji, exact), target.geometry)
    issue = SeriesIssue(
        RESAMPLED,
        "The object was made on another grid than these images; each voxel shows its nearest value, edges may be off "
        "by half a voxel.",
    )
    return Placed(Nearest(stack_planes(planes), target.geometry), target.geometry, (issue,))


def _on_own_grid(planes: FramePlanes, frame_of_reference_uid: str) -> Placed:
    stack = stack_planes(planes)
    geometry = own_geometry(stack, frame_of_reference_uid)
    exact = on_grid(planes, TargetGrid(geometry))
    if exact is not None:
        return Placed(Exact(geometry.shape_kji, exact), geometry)
    issue = SeriesIssue(
        "derived.irregular_planes",
        "The planes of the object are not equally far apart; they are shown on a regular grid.",
        blocks_volumetry=True,
    )
    return Placed(Nearest(stack, geometry), geometry, (issue,))


def _by_image(groups: FrameGroups, shape: tuple[int, int], target: TargetGrid | None) -> Placed:
    if target is None or target.geometry.shape_kji[1:] != shape:
        raise InputError(
            "derived.no_place",
            "The object states no position in the patient and doesn't have the rows and columns of an image.",
            "Import the images that it was made from, and open it over them.",
        )
    count = target.geometry.shape_kji[0]
    find = slice_by_image(target)
    slices = [find(image) for image in read_images(groups)]
    if count == 1:
        slices = [0 if k is None else k for k in slices]
    if any(k is None for k in slices):
        raise InputError(
            "derived.no_place",
            "The object states no position in the patient and names other images than these.",
            "Open it over the series that it was made from.",
        )
    return Placed(ByImage(target.geometry.shape_kji, tuple(k or 0 for k in slices)), target.geometry)
