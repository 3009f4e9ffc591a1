"""A volume and its segments in 3-D, drawn off-screen on the CPU.

vtk is imported by the first ``Scene`` and not before. A scene belongs to the thread that made it; vtk
releases the interpreter while it renders, so a thread beside the GUI's keeps the window alive. Rays are
cast by ``vtkFixedPointVolumeRayCastMapper``: on a machine without a GPU it is ten times as fast as the
OpenGL one under a software driver, and it looks the same everywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import EnvironmentFault
from core.domain.geometry import VolumeGeometry, apply_reorientation
from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.render.palette import Rgb
from core.render.scene_presets import SEGMENTS_ONLY, ScenePreset, preset, value_scale

#: Longest side, in voxels, of the volume that is rendered at rest and while it is turned.
FULL_SIDE, QUICK_SIDE = 256, 128
#: Longest side of a segment's grid for its surface, at rest and while it is turned.
FULL_SURFACE, QUICK_SURFACE = 128, 64
_SMALL_SIDE = 24
_FULL_PEELS, _QUICK_PEELS = 3, 1

#: Segments larger than this (millilitres) are translucent, so that what they contain is seen.
_TRANSLUCENT_ML, _GHOST_ML = 700.0, 6000.0
_TRANSLUCENT, _GHOST = 0.38, 0.10

#: Room around the patient, also for the perspective.
_FIT_MARGIN = 1.12


@dataclass(frozen=True)
class Viewpoint:
    """From where the patient is looked at: 0/0 is from the front, feet down.

    ``azimuth_deg`` turns the eye to the patient's left, ``elevation_deg`` up; ``zoom`` 1 fits; pan is in
    heights of the picture.
    """

    azimuth_deg: float = 20.0
    elevation_deg: float = 12.0
    zoom: float = 1.0
    pan_x: float = 0.0
    pan_y: float = 0.0


@dataclass(frozen=True)
class AxisMark:
    """A patient direction as it lies on the picture: unit-sphere position, x to the right, y down."""

    letter: str
    x: float
    y: float
    toward_eye: float


def eye_axes(view: Viewpoint) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Right, up and toward-the-eye unit vectors in LPS."""
    azimuth, elevation = np.radians(view.azimuth_deg), np.radians(view.elevation_deg)
    toward = np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    right = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    return right, np.cross(toward, right), toward


def axis_marks(view: Viewpoint) -> tuple[AxisMark, ...]:
    """The six patient directions, farthest first, for an orientation marker."""
    right, up, toward = eye_axes(view)
    marks = []
    for axis, (positive, negative) in enumerate((("L", "R"), ("P", "A"), ("S", "I"))):
        for letter, sign in ((positive, 1.0), (negative, -1.0)):
            marks.append(AxisMark(letter, sign * right[axis], -sign * up[axis], sign * toward[axis]))
    return tuple(sorted(marks, key=lambda mark: mark.toward_eye))


class Scene:
    """One render window off the screen with a volume, surfaces and a camera.

    Raises
    ------
    EnvironmentFault
        With code ``render.no-3d`` when vtk or an OpenGL driver is missing.
    """

    def __init__(self, background: Rgb = (11, 12, 14)) -> None:
        # A context without a display: no X connection is opened beside Qt's own.
        if sys.platform.startswith("linux"):
            os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        try:
            import vtkmodules.vtkRenderingOpenGL2
            import vtkmodules.vtkRenderingVolumeOpenGL2  # noqa: F401
            from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
        except ImportError as error:
            raise EnvironmentFault(
                "render.no-3d",
                "The 3-D view needs vtk and OpenGL, which can't be loaded here.",
                "Run `overread doctor`; on Debian and Ubuntu install libegl1 and libgl1.",
            ) from error
        self._window = vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._renderer = vtkRenderer()
        self._renderer.SetBackground(*(c / 255.0 for c in background))
        self._renderer.SetUseDepthPeeling(1)
        self._renderer.SetTwoSidedLighting(1)
        self._window.SetAlphaBitPlanes(1)
        self._window.AddRenderer(self._renderer)
        self._volume: Volume | None = None
        self._volumes: dict[int, Any] = {}
        self._surfaces: dict[tuple[int, int], Any] = {}
        self._hidden: frozenset[int] = frozenset()
        self._all_hidden = False
        self._volume_shown = False
        self._center = np.zeros(3)
        self._radius = self._half_width = self._half_height = 1.0

    def close(self) -> None:
        """Release the context; call on the thread that made the scene."""
        self._renderer.RemoveAllViewProps()
        self._volumes.clear()
        self._surfaces.clear()
        self._window.Finalize()

    def set_volume(self, volume: Volume) -> None:
        """Show a volume; colour is not supported (nothing is shown)."""
        self._clear(self._volumes)
        self._clear(self._surfaces)
        self._volume = volume
        bounds = np.array(volume.geometry.bounds_lps_mm())
        self._center = bounds.mean(axis=1)
        half = np.maximum((bounds[:, 1] - bounds[:, 0]) / 2.0, 0.5)
        self._radius = float(np.linalg.norm(half))
        # Turning about the body's axis must not change the size: the width is that of the diagonal.
        self._half_width, self._half_height = float(np.hypot(half[0], half[1])), float(half[2])
        if volume.voxels.ndim == 4:
            return
        for side in (FULL_SIDE, QUICK_SIDE):
            self._volumes[side] = _volume_actor(volume, side)
            self._renderer.AddVolume(self._volumes[side])

    def set_preset(self, identifier: str) -> None:
        """Choose a transfer function, or ``"segments"`` to show surfaces alone."""
        self._volume_shown = identifier != SEGMENTS_ONLY
        if self._volume is None or not self._volume_shown:
            return
        chosen = preset(identifier)
        scale = value_scale(chosen, self._volume)
        for actor in self._volumes.values():
            _apply_preset(actor, chosen, scale)

    def set_segments(self, segmentation: Segmentation | None, colors: Mapping[int, Rgb]) -> None:
        """Build a smoothed surface per segment."""
        self._clear(self._surfaces)
        if segmentation is None:
            return
        for segment in segmentation.segments:
            color = colors.get(segment.value, segment.color_rgb)
            for side, actor in _surface_actors(segmentation, segment.value, color).items():
                self._surfaces[segment.value, side] = actor
                self._renderer.AddActor(actor)

    def set_hidden(self, hidden: frozenset[int], all_hidden: bool = False) -> None:
        """Hide some or all surfaces."""
        self._hidden, self._all_hidden = hidden, all_hidden

    def render(self, view: Viewpoint, size: tuple[int, int], quick: bool = False) -> NDArray[np.uint8]:
        """Draw the scene.

        Parameters
        ----------
        size : tuple of int
            Width and height in pixels.
        quick : bool
            Use the coarse volume, for pictures while the scene is turned.

        Returns
        -------
        numpy.ndarray
            ``(height, width, 3)`` uint8 RGB.
        """
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkUnsignedCharArray

        for side, actor in self._volumes.items():
            actor.SetVisibility(self._volume_shown and (side == QUICK_SIDE) == quick)
        for (value, side), actor in self._surfaces.items():
            wanted = not self._volume_shown and not self._all_hidden and value not in self._hidden
            actor.SetVisibility(wanted and (side == QUICK_SURFACE) == quick)
        self._renderer.SetMaximumNumberOfPeels(_QUICK_PEELS if quick else _FULL_PEELS)
        self._window.SetSize(*size)
        self._place_camera(view, size)
        self._window.Render()
        pixels = vtkUnsignedCharArray()
        self._window.GetPixelData(0, 0, size[0] - 1, size[1] - 1, 1, pixels, 0)
        rgb = vtk_to_numpy(pixels).reshape(size[1], size[0], 3)[::-1]
        return np.ascontiguousarray(rgb)

    def _place_camera(self, view: Viewpoint, size: tuple[int, int]) -> None:
        right, up, toward = eye_axes(view)
        half = max(self._half_height, self._half_width * size[1] / size[0]) * _FIT_MARGIN / view.zoom
        distance = 3.0 * self._radius
        focus = self._center + 2.0 * half * (up * view.pan_y - right * view.pan_x)
        camera = self._renderer.GetActiveCamera()
        camera.SetFocalPoint(*focus)
        camera.SetPosition(*(focus + toward * distance))
        camera.SetViewUp(*up)
        camera.SetViewAngle(2.0 * float(np.degrees(np.arctan(half / distance))))
        camera.SetClippingRange(max(distance - 2 * self._radius, 1.0), distance + 2 * self._radius)

    def _clear(self, actors: dict[Any, Any]) -> None:
        for actor in actors.values():
            self._renderer.RemoveViewProp(actor)
        actors.clear()


def _thinned(geometry: VolumeGeometry, array: NDArray, side: int) -> tuple[VolumeGeometry, NDArray]:
    """Mean of blocks of voxels so that no side is longer than ``side``; float32 when anything was averaged."""
    steps = [max(1, -(-n // side)) for n in geometry.shape_kji]
    if steps == [1, 1, 1]:
        return geometry, array
    counts = [n // step for n, step in zip(array.shape, steps, strict=True)]
    total = np.zeros(counts, dtype=np.float32)
    for offset in np.ndindex(*steps):
        total += array[tuple(slice(o, o + c * s, s) for o, c, s in zip(offset, counts, steps, strict=True))]
    total /= float(np.prod(steps))
    matrix = geometry.lps_from_ijk.copy()
    matrix[:3, :3] *= np.array(steps[::-1])
    matrix[:3, 3] = geometry.lps_of([(np.array(steps[::-1]) - 1) / 2.0])[0]
    return VolumeGeometry(total.shape, matrix, geometry.frame_of_reference_uid), total


def _image_data(geometry: VolumeGeometry, array: NDArray) -> Any:
    """vtkImageData with spacing only; position and direction go to the actor. Keeps the array alive."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData

    image = vtkImageData()
    image.SetDimensions(*geometry.shape_ijk)
    image.SetSpacing(*geometry.spacing_ijk_mm)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).reshape(-1), deep=True))
    return image


def _actor_matrix(geometry: VolumeGeometry) -> Any:
    """LPS from the image's own millimetres."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = np.eye(4)
    matrix[:3, :3] = geometry.direction_ijk
    matrix[:3, 3] = geometry.origin_lps_mm
    out = vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            out.SetElement(row, column, float(matrix[row, column]))
    return out


def _right_handed(geometry: VolumeGeometry, array: NDArray) -> tuple[VolumeGeometry, NDArray]:
    """The same voxels along L, P and S, so that surfaces and shading are not turned inside out."""
    reoriented, permutation, flips = geometry.reoriented("LPS")
    return reoriented, apply_reorientation(array, permutation, flips)


def _volume_actor(volume: Volume, side: int) -> Any:
    from vtkmodules.vtkRenderingCore import vtkVolume
    from vtkmodules.vtkRenderingVolume import vtkFixedPointVolumeRayCastMapper

    geometry, thin = _right_handed(*_thinned(volume.geometry, volume.voxels, side))
    # A step from air to skin within one voxel shows as rings; one binomial pass takes them away.
    thin = _table_sized(_softened(thin.astype(np.float32)))
    mapper = vtkFixedPointVolumeRayCastMapper()
    mapper.SetInputData(_image_data(geometry, thin))
    mapper.SetAutoAdjustSampleDistances(0)
    spacing = min(geometry.spacing_ijk_mm)
    mapper.SetSampleDistance(spacing * (0.5 if side == FULL_SIDE else 0.8))
    mapper.SetImageSampleDistance(1.0)
    actor = vtkVolume()
    actor.SetMapper(mapper)
    actor.SetUserMatrix(_actor_matrix(geometry))
    return actor


def _table_sized(array: NDArray) -> NDArray:
    """16-bit values, for which the ray caster keeps a table of exact opacities; others become float32."""
    kind: type = np.float32
    low, high = float(array.min()), float(array.max())
    if low >= -32768 and high <= 32767 and high - low > 512:
        kind = np.int16
    out = np.empty(array.shape, dtype=kind)
    # Slice by slice: a conversion of the whole would hold the interpreter, and so the window, too long.
    for k in range(len(array)):
        out[k] = array[k]
    return out


def _apply_preset(actor: Any, chosen: ScenePreset, scale: tuple[float, float]) -> None:
    from vtkmodules.vtkCommonDataModel import vtkPiecewiseFunction
    from vtkmodules.vtkRenderingCore import vtkColorTransferFunction, vtkVolumeProperty

    factor, offset = scale
    opacity, color = vtkPiecewiseFunction(), vtkColorTransferFunction()
    for value, amount in chosen.opacity:
        opacity.AddPoint(value * factor + offset, amount)
    for value, red, green, blue in chosen.color:
        color.AddRGBPoint(value * factor + offset, red, green, blue)
    look = vtkVolumeProperty()
    look.SetScalarOpacity(opacity)
    look.SetColor(color)
    look.SetInterpolationTypeToLinear()
    look.SetScalarOpacityUnitDistance(1.5)
    if not chosen.projection:
        look.ShadeOn()
        look.SetAmbient(0.18)
        look.SetDiffuse(0.85)
        look.SetSpecular(0.15)
        look.SetSpecularPower(18.0)
    actor.SetProperty(look)
    if chosen.projection:
        actor.GetMapper().SetBlendModeToMaximumIntensity()
    else:
        actor.GetMapper().SetBlendModeToComposite()


def _surface_actors(segmentation: Segmentation, value: int, color: Rgb) -> dict[int, Any]:
    """Surfaces of one segment, fine and coarse, in its bounding box; none when the segment is empty."""
    box = _bounding_box(segmentation.labels, value)
    if box is None:
        return {}
    start, stop = box
    inside = segmentation.labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == value
    geometry = segmentation.geometry.cropped(start, inside.shape)
    opacity = _opacity_of(float(inside.sum()) * geometry.voxel_volume_ml)
    return {
        side: _surface_actor(*_right_handed(*_thinned(geometry, inside, side)), color, opacity)
        for side in (FULL_SURFACE, QUICK_SURFACE)
    }


def _surface_actor(geometry: VolumeGeometry, mask: NDArray, color: Rgb, opacity: float) -> Any:
    """Smoothed surface around a mask (bool, or the fraction of each voxel that is inside)."""
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D, vtkPolyDataNormals, vtkWindowedSincPolyDataFilter
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    padded = np.pad(mask.astype(np.float32), 2)
    # Softening would swallow a lesion of a few voxels: small segments keep their corners.
    if max(mask.shape) > _SMALL_SIDE:
        padded = _softened(padded)
    geometry = geometry.cropped((-2, -2, -2), padded.shape)
    contour = vtkFlyingEdges3D()
    contour.SetInputData(_image_data(geometry, padded))
    contour.SetValue(0, min(0.5, float(padded.max()) / 2.0))
    contour.ComputeNormalsOff()
    smooth = vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(contour.GetOutputPort())
    smooth.SetNumberOfIterations(18)
    smooth.SetPassBand(0.06)
    smooth.BoundarySmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    normals = vtkPolyDataNormals()
    normals.SetInputConnection(smooth.GetOutputPort())
    normals.SplittingOff()
    normals.Update()
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(normals.GetOutputPort())
    mapper.ScalarVisibilityOff()
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.SetUserMatrix(_actor_matrix(geometry))
    look = actor.GetProperty()
    look.SetColor(*(c / 255.0 for c in color))
    look.SetOpacity(opacity)
    look.SetAmbient(0.15)
    look.SetDiffuse(0.85)
    look.SetSpecular(0.1)
    return actor


def _softened(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """Binomial filter along each axis, so that the surface shows no voxel steps."""
    for axis in range(3):
        moved = np.moveaxis(mask, axis, 0)
        inner = 0.25 * moved[:-2] + 0.5 * moved[1:-1] + 0.25 * moved[2:]
        moved[1:-1] = inner
    return mask


def _opacity_of(volume_ml: float) -> float:
    if volume_ml > _GHOST_ML:
        return _GHOST
    return _TRANSLUCENT if volume_ml > _TRANSLUCENT_ML else 1.0


def _bounding_box(
    labels: NDArray[np.integer], value: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """First and past-the-last index (k, j, i) of a label value."""
    mask = labels == value
    start, stop = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        if found.size == 0:
            return None
        start.append(int(found[0]))
        stop.append(int(found[-1]) + 1)
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])
