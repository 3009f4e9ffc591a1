"""Where the frames of a multi-frame object lie, and on which voxels of another grid.

Source: DICOM PS3.3 C.7.6.16 (functional groups), C.7.6.2.1.1 (image plane).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.dicom.derived.dataset import Item
from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.identity import image_of
from core.dicom.faults import malformed
from core.domain.derived import SourceImage
from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry

SHARED, PER_FRAME = 0x52009229, 0x52009230
_POSITION, _ORIENTATION, _MEASURES, _DERIVATION = 0x00209113, 0x00209116, 0x00289110, 0x00089124
_SAME_PLANE_MM = 0.02
_SAME_PLANE_OF_STEP = 0.05
_ON_VOXEL = 0.1
"""Part of a voxel by which a frame may miss the grid's voxels and still lie on them."""
_ON_SLICE = 0.25
_NEAR_NAMED_SLICE = 0.75
"""The same across slices, and where the frame names the slice's image: a stack may be slightly irregular."""
MAX_SLICES = 100_000

Floats = NDArray[np.float64]


class FrameGroups:
    """The functional groups of the frames: their own, else the shared ones."""

    def __init__(self, data: Item, frames: int) -> None:
        shared = data.first(SHARED)
        items = data.items(PER_FRAME)
        if len(items) < frames:
            raise malformed(
                f"Per-frame Functional Groups (5200,9230) describe {len(items)} of {frames} frames.",
                "derived.frames_undescribed",
            )
        self._shared = shared
        self._frames = items[:frames]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def of(self, frame: int, tag: int) -> Item | None:
        """Return a frame's functional group."""
        own = self._frames[frame].first(tag)
        if own is not None or self._shared is None:
            return own
        return self._shared.first(tag)


@dataclass(frozen=True, eq=False)
class FramePlanes:
    """Frames in patient space, LPS millimetres.

    ``positions``, ``column_steps`` and ``row_steps`` are ``(N, 3)`` float64: the centre of a frame's first pixel, and
    what one column or one row further adds. ``images`` is what each frame was derived from; ``thickness_mm`` is
    the distance between slices as stated, None when it isn't.
    """

    positions: Floats
    column_steps: Floats
    row_steps: Floats
    shape: tuple[int, int]
    images: tuple[SourceImage | None, ...]
    thickness_mm: float | None = None

    @property
    def is_parallel(self) -> bool:
        """Whether all frames have the same orientation and spacing."""
        return all(
            float(np.abs(steps - steps[0]).max()) <= 5e-3 * float(np.linalg.norm(steps[0]))
            for steps in (self.column_steps, self.row_steps)
        )

    @property
    def normal(self) -> Floats:
        """Unit normal of the first frame."""
        normal = np.cross(self.column_steps[0], self.row_steps[0])
        return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def read_planes(groups: FrameGroups, shape: tuple[int, int]) -> FramePlanes | None:
    """Return the frames' places, or None when no frame states one.

    Raises
    ------
    InputError
        When a place is invalid or only some frames have one (``derived.invalid_place``).
    """
    count = len(groups)
    positions, columns, rows = (np.zeros((count, 3)) for _ in range(3))
    stated = 0
    for frame in range(count):
        place = _place(groups, frame)
        if place is not None:
            positions[frame], columns[frame], rows[frame] = place
            stated += 1
    if not stated:
        return None
    if stated < count:
        raise malformed(f"{count - stated} of {count} frames state no position.", "derived.invalid_place")
    images = tuple(_image(groups, frame) for frame in range(count))
    return FramePlanes(positions, columns, rows, shape, images, _thickness(groups))


def read_images(groups: FrameGroups) -> tuple[SourceImage | None, ...]:
    """Return what each frame was derived from."""
    return tuple(_image(groups, frame) for frame in range(len(groups)))


def _place(groups: FrameGroups, frame: int) -> tuple[Floats, Floats, Floats] | None:
    position, orientation, measures = (groups.of(frame, tag) for tag in (_POSITION, _ORIENTATION, _MEASURES))
    if position is None or orientation is None:
        return None
    origin = np.array(position.numbers(0x00200032), dtype=np.float64)
    cosines = np.array(orientation.numbers(0x00200037), dtype=np.float64)
    spacing = measures.numbers(0x00280030)[:2] if measures is not None else ()
    sound = origin.shape == (3,) and cosines.shape == (6,) and len(spacing) == 2
    if not sound or np.abs(origin).max() > 1e6 or not all(1e-4 < s < 1e4 for s in spacing):
        raise malformed(
            f"Frame {frame + 1} has no valid position, orientation or Pixel Spacing.", "derived.invalid_place"
        )
    row, column = cosines[:3], cosines[3:]
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > 0.01 or abs(float(row @ column)) > 0.01:
        raise malformed(
            f"Image Orientation (0020,0037) of frame {frame + 1} is no pair of perpendicular directions.",
            "derived.invalid_place",
        )
    return origin, row / lengths[0] * spacing[1], column / lengths[1] * spacing[0]


def _image(groups: FrameGroups, frame: int) -> SourceImage | None:
    derivation = groups.of(frame, _DERIVATION)
    reference = derivation.first(0x00082112) if derivation is not None else None
    return image_of(reference) if reference is not None else None


def _thickness(groups: FrameGroups) -> float | None:
    measures = groups.of(0, _MEASURES)
    if measures is None:
        return None
    for tag in (0x00180088, 0x00180050):
        value = measures.number(tag)
        if value is not None and 1e-3 < abs(value) < 1e3:
            return abs(value)
    return None


@dataclass(frozen=True, eq=False)
class OnGrid:
    """Frames that lie on voxels of a grid: no value has to be interpolated.

    ``column_axis``, ``row_axis`` and ``slice_axis`` say along which of the grid's axes (0 = i, 1 = j, 2 = k) a frame's
    columns and rows run and across which it lies; ``forward`` whether with that axis or against it; ``first``
    ``(N, 3)`` intp is the voxel of the first pixel.
    """

    column_axis: int
    row_axis: int
    slice_axis: int
    forward: tuple[bool, bool]
    first: NDArray[np.intp]

    def oriented(self, array: NDArray) -> NDArray:
        """Return a view of a ``(K, J, I)`` array as (slice, row, column) of the frames."""
        order = (2 - self.slice_axis, 2 - self.row_axis, 2 - self.column_axis)
        return array.transpose(order)

    def window(self, frame: int, values: NDArray, sizes: tuple[int, ...]) -> FrameWindow:
        """Return where a frame's values go in the oriented array of shape ``sizes``, cut to what lies inside."""
        plane = int(self.first[frame, self.slice_axis])
        values, rows, row_cut = _fitted(
            values, 0, int(self.first[frame, self.row_axis]), self.forward[1], sizes[1]
        )
        values, columns, column_cut = _fitted(
            values, 1, int(self.first[frame, self.column_axis]), self.forward[0], sizes[2]
        )
        inside = 0 <= plane < sizes[0] and values.size > 0
        return FrameWindow(
            plane if inside else -1, rows, columns, values, not inside or row_cut or column_cut
        )


@dataclass(frozen=True, eq=False)
class FrameWindow:
    """A piece of a frame on a plane of the grid; ``plane`` -1 when it misses the grid, ``cut`` when some of it does."""

    plane: int
    rows: slice
    columns: slice
    values: NDArray
    cut: bool


def _fitted(values: NDArray, axis: int, first: int, forward: bool, size: int) -> tuple[NDArray, slice, bool]:
    """Turn one axis of a frame into the grid's direction and cut it to the grid."""
    count = values.shape[axis]
    if not forward:
        values = np.flip(values, axis)
        first -= count - 1
    low, high = max(0, -first), min(count, size - first)
    if low == 0 and high == count:
        return values, slice(first, first + count), False
    high = max(low, high)
    return values.take(range(low, high), axis), slice(first + low, first + high), True


def on_grid(planes: FramePlanes, target: TargetGrid) -> OnGrid | None:
    """Return where frames lie on a grid, or None when they don't lie on its voxels."""
    inverse = target.geometry.ijk_from_lps
    columns, rows = planes.column_steps @ inverse[:3, :3].T, planes.row_steps @ inverse[:3, :3].T
    column_axis, row_axis = int(np.abs(columns[0]).argmax()), int(np.abs(rows[0]).argmax())
    if column_axis == row_axis:
        return None
    slice_axis = 3 - column_axis - row_axis
    forward = (bool(columns[0, column_axis] > 0), bool(rows[0, row_axis] > 0))
    for steps, axis, ahead, count in (
        (columns, column_axis, forward[0], planes.shape[1]),
        (rows, row_axis, forward[1], planes.shape[0]),
    ):
        ideal = np.zeros(3)
        ideal[axis] = 1.0 if ahead else -1.0
        if np.abs(steps - ideal).max() * max(1, count - 1) > _ON_VOXEL:
            return None
    exact = planes.positions @ inverse[:3, :3].T + inverse[:3, 3]
    if np.abs(exact).max() > 1e8:
        return None
    first = np.rint(exact).astype(np.intp)
    off = np.abs(exact - first)
    if max(off[:, column_axis].max(), off[:, row_axis].max()) > _ON_VOXEL:
        return None
    loose = off[:, slice_axis] > _ON_SLICE
    if slice_axis == 2:
        _place_by_image(planes.images, target, exact[:, 2], first, loose)
    return None if loose.any() else OnGrid(column_axis, row_axis, slice_axis, forward, first)


def _place_by_image(
    images: Sequence[SourceImage | None],
    target: TargetGrid,
    heights: Floats,
    first: NDArray[np.intp],
    loose: NDArray[np.bool_],
) -> None:
    """Put frames on the slice whose image they name, where that is where they lie; changes the arrays."""
    slices = slice_by_image(target)
    for frame, image in enumerate(images):
        k = slices(image)
        if k is not None and abs(heights[frame] - k) <= _NEAR_NAMED_SLICE:
            first[frame, 2] = k
            loose[frame] = False


def slice_by_image(target: TargetGrid) -> Callable[[SourceImage | None], int | None]:
    """Return a function from an image (and its first frame) to its slice of the grid."""
    of_frame: dict[tuple[str, int], int] = {}
    of_image: dict[str, int] = {}
    numbers = target.frame_numbers or (1,) * len(target.sop_instance_uids)
    for k, (uid, number) in enumerate(zip(target.sop_instance_uids, numbers, strict=False)):
        if uid:
            of_frame[uid, number] = k
            # an image that is several slices doesn't tell which one is meant
            of_image[uid] = -1 if uid in of_image else k

    def find(image: SourceImage | None) -> int | None:
        if image is None:
            return None
        if image.frames:
            return of_frame.get((image.sop_instance_uid, image.frames[0]))
        k = of_image.get(image.sop_instance_uid, -1)
        return k if k >= 0 else None

    return find


@dataclass(frozen=True, eq=False)
class PlaneStack:
    """The distinct planes of parallel frames, sorted along their normal.

    ``positions`` is ``(P, 3)``, ``plane_of_frame`` ``(N,)``, ``heights`` ``(P,)`` the places along the normal in mm.
    """

    planes: FramePlanes
    positions: Floats
    heights: Floats
    plane_of_frame: NDArray[np.intp]
    spacing_mm: float


def stack_planes(planes: FramePlanes) -> PlaneStack:
    """Sort frames into planes.

    Raises
    ------
    InputError
        When frames aren't parallel, or differ in place within one plane (``derived.not_parallel``).
    """
    if not planes.is_parallel:
        raise _not_parallel("The frames are not parallel or differ in Pixel Spacing.")
    heights = planes.positions @ planes.normal
    order = np.argsort(heights, kind="stable")
    same_mm = max(_SAME_PLANE_MM, _SAME_PLANE_OF_STEP * (planes.thickness_mm or 0.0))
    begins = np.concatenate(([True], np.diff(heights[order]) > same_mm))
    plane_of_frame = np.empty(len(heights), dtype=np.intp)
    plane_of_frame[order] = np.cumsum(begins) - 1
    positions = planes.positions[order][begins]
    aside = np.linalg.norm(planes.positions - positions[plane_of_frame], axis=1)
    smallest = min(np.linalg.norm(planes.column_steps[0]), np.linalg.norm(planes.row_steps[0]))
    if aside.max() > max(0.1 * smallest, _SAME_PLANE_MM):
        raise _not_parallel("Frames of the same plane begin at different places.")
    steps = np.diff(heights[order][begins])
    return PlaneStack(
        planes, positions, heights[order][begins], plane_of_frame, _spacing(steps, planes.thickness_mm)
    )


def _spacing(steps: Floats, stated_mm: float | None) -> float:
    """Return the distance between neighbours: as stated unless planes lie closer; frames may be missing."""
    if not len(steps):
        return stated_mm or 1.0
    closest = float(steps.min())
    return stated_mm if stated_mm is not None and stated_mm <= 1.02 * closest else closest


def own_geometry(stack: PlaneStack, frame_of_reference_uid: str) -> VolumeGeometry:
    """Return the regular grid that the planes span; planes that have no frame lie between.

    Raises
    ------
    InputError
        When they would span more slices than any image has.
    """
    extent = float(stack.heights[-1] - stack.heights[0])
    count = round(extent / stack.spacing_mm) + 1
    if count > MAX_SLICES:
        raise malformed(f"The frames span {count} slices.", "derived.invalid_place")
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = stack.planes.column_steps[0], stack.planes.row_steps[0]
    whole = stack.positions[-1] - stack.positions[0]
    matrix[:3, 2] = whole / (count - 1) if count > 1 else stack.planes.normal * stack.spacing_mm
    matrix[:3, 3] = stack.positions[0]
    rows, columns = stack.planes.shape
    return VolumeGeometry((count, rows, columns), matrix, frame_of_reference_uid or None)


def _not_parallel(message: str) -> InputError:
    return InputError(
        "derived.not_parallel", message, "Such an object can't be shown over a stack of parallel slices."
    )
