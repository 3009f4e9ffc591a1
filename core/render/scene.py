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
from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.render.palette import Rgb
from core.render.scene_actors import (
    FULL_SIDE,
    QUICK_SIDE,
    QUICK_SURFACE,
    apply_preset,
    surface_actors,
    volume_actor,
)
from core.render.scene_presets import SEGMENTS_ONLY, preset, value_scale

_FULL_PEELS, _QUICK_PEELS = 3, 1

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
            self._volumes[side] = volume_actor(volume, side)
            self._renderer.AddVolume(self._volumes[side])

    def set_preset(self, identifier: str) -> None:
        """Choose a transfer function, or ``"segments"`` to show surfaces alone."""
        self._volume_shown = identifier != SEGMENTS_ONLY
        if self._volume is None or not self._volume_shown:
            return
        chosen = preset(identifier)
        scale = value_scale(chosen, self._volume)
        for actor in self._volumes.values():
            apply_preset(actor, chosen, scale)

    def set_segments(self, segmentation: Segmentation | None, colors: Mapping[int, Rgb]) -> None:
        """Build a smoothed surface per segment."""
        self._clear(self._surfaces)
        if segmentation is None:
            return
        for segment in segmentation.segments:
            color = colors.get(segment.value, segment.color_rgb)
            for side, actor in surface_actors(segmentation, segment.value, color).items():
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
