"""Volumes and segments as vtk actors. vtk is imported inside the functions, on first use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry, apply_reorientation
from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.render.palette import Rgb
from core.render.scene_presets import ScenePreset

#: Longest side, in voxels, of the volume that is rendered at rest and while it is turned.
FULL_SIDE, QUICK_SIDE = 256, 128
#: Longest side of a segment's grid for its surface, at rest and while it is turned.
FULL_SURFACE, QUICK_SURFACE = 128, 64
_SMALL_SIDE = 24

#: Segments larger than this (millilitres) are translucent, so that what they contain is seen.
_TRANSLUCENT_ML, _GHOST_ML = 700.0, 6000.0
_TRANSLUCENT, _GHOST = 0.38, 0.10


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


def volume_actor(volume: Volume, side: int) -> Any:
    """Actor that casts rays through a volume, thinned to at most ``side`` voxels along an axis."""
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
    out: NDArray = np.empty(array.shape, dtype=kind)
    # Slice by slice: a conversion of the whole would hold the interpreter, and so the window, too long.
    for k in range(len(array)):
        out[k] = array[k]
    return out


def apply_preset(actor: Any, chosen: ScenePreset, scale: tuple[float, float]) -> None:
    """Give a volume's actor a transfer function."""
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


def surface_actors(segmentation: Segmentation, value: int, color: Rgb) -> dict[int, Any]:
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
