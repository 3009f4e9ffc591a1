"""The thorax phantom: seeded CT anatomy from neck to pelvis with its truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.phantom.abdomen import paint_abdomen
from core.phantom.airways import paint_airway, paint_fissures, paint_lung_vessels
from core.phantom.canvas import Array, Canvas
from core.phantom.labels import THORAX_SEGMENTS
from core.phantom.mediastinum import paint_mediastinum
from core.phantom.pathology import paint_pathology
from core.phantom.person import Person
from core.phantom.scanner import paint_table, scan
from core.phantom.shapes import random_field
from core.phantom.skeleton import paint_skeleton
from core.phantom.spec import Phantom, ThoraxSpec
from core.phantom.trunk import paint_trunk

_THICK_MM = 2.6


def make_thorax(spec: ThoraxSpec) -> Phantom:
    """Render a thorax.

    Parameters
    ----------
    spec : ThoraxSpec
        What to render; the same spec gives the same voxels.

    Returns
    -------
    Phantom
        Grid with axes along LPS (k upwards), HU int16 and labels uint8 (see ``core.phantom.labels``).

    Raises
    ------
    InputError
        When shape or spacing is not positive (code ``phantom.spec``).
    """
    if min(spec.shape_kji) < 1 or min(spec.spacing_kji_mm) <= 0:
        raise InputError(
            "phantom.spec",
            f"The phantom's shape {spec.shape_kji} and spacing {spec.spacing_kji_mm} mm must be positive.",
            "Ask for at least one voxel per axis and a positive spacing.",
        )
    rng = np.random.default_rng(spec.seed)
    person = Person.sample(spec, rng)
    factor = _subslices(spec)
    canvas = _canvas(spec, rng, factor)
    paint_everything(canvas, person)
    hu, labels = canvas.hu, canvas.labels
    if factor > 1:
        hu = hu.reshape(-1, factor, *hu.shape[1:]).mean(axis=1)
        labels = np.ascontiguousarray(labels[factor // 2 :: factor])
    picture = scan(hu, spec, rng)
    stored = np.clip(np.rint(picture), -1024, 3071).astype(np.int16)
    return Phantom(_geometry(spec), stored, labels, THORAX_SEGMENTS)


def paint_everything(canvas: Canvas, person: Person) -> None:
    """Paint all anatomy in the order in which structures cover one another."""
    trunk = paint_trunk(canvas, person)
    paint_fissures(canvas, person, trunk)
    paint_lung_vessels(canvas, person, trunk)
    paint_abdomen(canvas, person, trunk)
    paint_mediastinum(canvas, person)
    paint_airway(canvas, person)
    paint_pathology(canvas, person, trunk)
    paint_skeleton(canvas, person)
    back = float(person.wall.at(60.0)[1]) + person.fat_mm * 0.8 + 4.0
    paint_table(canvas, person.spec, person.rng, back)


def _subslices(spec: ThoraxSpec) -> int:
    """Return the odd number of sub-slices rendered per thick slice."""
    count = int(np.ceil(spec.spacing_kji_mm[0] / max(_THICK_MM, 1.2 * spec.spacing_kji_mm[2])))
    return count if count % 2 else count + 1


def _canvas(spec: ThoraxSpec, rng: np.random.Generator, factor: int) -> Canvas:
    dz, dy, dx = spec.spacing_kji_mm
    k, j, i = spec.shape_kji
    shape, steps = (k * factor, j, i), np.array([dz / factor, dy, dx])
    return Canvas(shape, _anatomy_from_kji(spec, shape, steps), _displacement(spec, rng, shape, steps))


def _anatomy_from_kji(spec: ThoraxSpec, shape: tuple[int, int, int], steps: NDArray) -> NDArray[np.float64]:
    """Compose voxel → scanner → anatomical coordinates (rotation, tilt and size about the field's centre)."""
    scanner = np.zeros((3, 4))
    for axis, kji_axis in enumerate((2, 1, 0)):
        scanner[axis, kji_axis] = steps[kji_axis]
        scanner[axis, 3] = -(shape[kji_axis] - 1) / 2 * steps[kji_axis]
    a, b = np.deg2rad(spec.rotation_deg), np.deg2rad(spec.tilt_deg)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    matrix = (about_z @ about_y / spec.size) @ scanner
    matrix[:, 3] += np.array(
        [spec.center_mm[0] - spec.shift_mm[0], spec.center_mm[1] - spec.shift_mm[1], spec.center_mm[2]]
    )
    return matrix


def _displacement(
    spec: ThoraxSpec, rng: np.random.Generator, shape: tuple[int, int, int], steps: NDArray
) -> tuple[Array, Array, Array] | None:
    if spec.deform_mm <= 0:
        return None
    coarse = tuple(float(v) for v in 75.0 / steps)
    fine = tuple(float(v) for v in 32.0 / steps)
    fields = []
    for _ in range(3):
        field = random_field(shape, rng, coarse) + 0.3 * random_field(shape, rng, fine)  # type: ignore[arg-type]
        fields.append((np.float32(0.8 * spec.deform_mm) * field).astype(np.float32))
    return fields[0], fields[1], fields[2]


def _geometry(spec: ThoraxSpec) -> VolumeGeometry:
    dz, dy, dx = spec.spacing_kji_mm
    k, j, i = spec.shape_kji
    origin = (-(i - 1) / 2 * dx, -(j - 1) / 2 * dy, -(k - 1) / 2 * dz + spec.center_mm[2])
    return VolumeGeometry.from_axes(spec.shape_kji, (dx, dy, dz), np.eye(3), origin)
