"""Body outline, subcutaneous fat, muscle, chest cavity, lungs and abdominal cavity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.phantom.canvas import Array, Canvas
from core.phantom.labels import BODY, LEFT_LUNG, RIGHT_LUNG
from core.phantom.person import Person
from core.phantom.shapes import ellipsoid, random_field, superellipse, tube


@dataclass
class Trunk:
    """Distances over the whole canvas that later steps need.

    ``outline`` skin surface, ``cavity`` inner chest and abdominal wall, ``dome`` height above the
    diaphragm (positive in the chest), ``lungs`` left and right lung, all float32 ``(K, J, I)``.
    """

    outline: Array
    cavity: Array
    dome: Array
    lungs: dict[int, Array]
    lung_hu: Array


def paint_trunk(canvas: Canvas, person: Person) -> Trunk:
    """Paint everything from the skin to the lungs and return the distances."""
    rng, t = person.rng, person.tissues
    everything = canvas.everything()
    wall_index = person.wall.index(canvas.z)
    wall = superellipse(
        canvas.x,
        canvas.y - person.wall(wall_index, 2),
        person.wall(wall_index, 0),
        person.wall(wall_index, 1),
        person.exponent,
    )
    coarse = 22.0 / canvas.voxel_mm
    lumps = random_field(canvas.shape, rng, coarse)
    fat = _fat_thickness(canvas, person)
    outline = wall - fat + lumps * np.float32(0.12 * person.fat_mm)
    outline = _add_breasts(canvas, person, outline)
    outline = _add_limbs(canvas, person, outline)

    canvas.fill(everything, outline, t.fat + 6.0 * lumps, BODY)
    skin = np.clip(1.0 + (outline + np.float32(1.8)) / canvas.voxel_mm, 0.0, 1.0) * canvas.coverage(outline)
    canvas.blend(everything, skin * np.float32(min(1.0, 1.8 / canvas.voxel_mm)), t.skin)
    _paint_muscle(canvas, person, wall, lumps)
    return _paint_cavity(canvas, person, outline)


def _fat_thickness(canvas: Canvas, person: Person) -> Array:
    """Return the thickness of fat under the skin: more at the belly, flanks and back of the neck."""
    radius = np.sqrt(canvas.x**2 + canvas.y**2) + np.float32(1.0)
    front = np.clip(-canvas.y / radius, 0.0, 1.0)
    low = np.clip((np.float32(60.0) - canvas.z) / np.float32(160.0), 0.0, 1.0)
    flank = np.abs(canvas.x) / radius
    neck = np.clip((canvas.z - np.float32(215.0)) / np.float32(30.0), 0.0, 0.7)
    base = (
        np.float32(person.fat_mm) * (np.float32(0.55) + np.float32(0.5) * low * (0.5 + flank)) * (1.0 - neck)
    )
    bulge: Array = (base + np.float32(person.belly_mm) * front**2 * low + np.float32(2.5)).astype(np.float32)
    return bulge


def _add_breasts(canvas: Canvas, person: Person, outline: Array) -> Array:
    if not person.spec.female:
        return outline
    size = person.rng.uniform(0.5, 1.0) * (0.75 + 0.6 * person.spec.habitus)
    flat = person.rng.uniform(0.55, 1.0)
    for side in (-1, 1):
        center = (
            side * 78.0 * person.broad,
            -88.0 * person.deep - person.fat_mm * 0.4,
            62.0 + person.rng.normal(0, 8),
        )
        radii = (58.0 * size + 10, 52.0 * size * flat + 6, 56.0 * size + 10)
        outline = np.minimum(outline, ellipsoid(canvas.everything(), center, radii))
    return outline


def _add_limbs(canvas: Canvas, person: Person, outline: Array) -> Array:
    """Join upper arms (raised or beside the trunk) to the outline."""
    for points, radii in arm_paths(person):
        found = tube(canvas, points, radii, margin=6.0)
        if found is not None:
            region, sdf = found
            view = outline[region.box]
            np.minimum(view, sdf, out=view)
    return outline


def arm_paths(person: Person) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return axis and skin radius of each upper arm (left first), empty without arms."""
    spec, b = person.spec, person.broad
    fat = person.fat_mm * 0.45
    lift = person.extra.setdefault("arm_lift", float(person.rng.uniform(-12, 14)))
    paths = []
    for side in (1.0, -1.0):
        if spec.arms == "up":
            points = [(side * 138 * b, 14, 178), (side * 158 * b, 4, 214 + lift), (side * 158 * b, -12, 265 + lift),
                      (side * 140 * b, -30, 360)]  # fmt: skip
        elif spec.arms == "down":
            drop = side * (186 * b + person.fat_mm * 0.8)
            points = [
                (side * 160 * b, 12, 190),
                (drop, 16, 150),
                (drop + side * 14, 22, 20),
                (drop + side * 6, 8, -220),
            ]
        else:
            return []
        paths.append((np.array(points, dtype=float), np.array([40, 44, 42, 38]) + fat))
    return paths


def _paint_muscle(canvas: Canvas, person: Person, wall: Array, lumps: Array) -> None:
    """Muscle wall with thin planes of fat between its layers, plus muscles of raised or lowered arms."""
    everything = canvas.everything()
    rng, t = person.rng, person.tissues
    fine = random_field(canvas.shape, rng, 14.0 / canvas.voxel_mm)
    slow = random_field(canvas.shape, rng, 40.0 / canvas.voxel_mm)
    layers = np.sin((wall * np.float32(0.42) + 3.2 * fine).astype(np.float32))
    planes = np.clip(layers * 2.2 - 1.1 + 0.7 * slow, 0.0, 1.0)
    streaky = t.muscle - np.float32(40 + 70 * person.spec.habitus) * planes * np.clip(
        0.6 + 0.5 * slow, 0.15, 1.2
    )
    canvas.fill(everything, wall + 1.5 * lumps, (streaky + 4.0 * fine).astype(np.float32), None)
    for points, radii in arm_paths(person):
        found = tube(canvas, points, radii - person.fat_mm * 0.45 - 5.0, margin=4.0)
        if found is not None:
            canvas.fill(found[0], found[1], t.muscle)


def _paint_cavity(canvas: Canvas, person: Person, outline: Array) -> Trunk:
    everything = canvas.everything()
    rng, t, spec = person.rng, person.tissues, person.spec
    index = person.cavity.index(canvas.z)
    y = canvas.y - person.cavity(index, 2)
    cavity = superellipse(
        canvas.x, y, person.cavity(index, 0), person.cavity(index, 1), person.cavity_exponent
    )
    cavity += 1.0 * random_field(canvas.shape, rng, 26.0 / canvas.voxel_mm)
    cavity = np.maximum(cavity, canvas.z - np.float32(226.0))
    in_chest = np.clip((canvas.z - np.float32(150.0)) / np.float32(40.0), 0.0, 1.0)
    fatty = t.fat + 8 + 22.0 * random_field(canvas.shape, rng, 9.0 / canvas.voxel_mm)
    canvas.fill(everything, cavity, (fatty + in_chest * np.float32(60.0)).astype(np.float32))

    dome = _height_above_diaphragm(canvas, person)
    lungs: dict[int, Array] = {}
    texture = random_field(canvas.shape, rng, 7.0 / canvas.voxel_mm)
    slow = random_field(canvas.shape, rng, 55.0 / canvas.voxel_mm)
    dependent = np.clip((canvas.y + np.float32(20.0)) / np.float32(110.0), 0.0, 1.0)
    lung_hu = t.lung + np.float32(70.0 - 30 * spec.inspiration) * dependent**2 + 14.0 * texture + 22.0 * slow
    if spec.disease > 0.3:
        lung_hu = lung_hu + _opacities(canvas, person, texture)
    lung_hu = np.clip(lung_hu, -990.0, 60.0).astype(np.float32)
    middle = _mediastinum_half_width(canvas, person)
    for value, side in ((LEFT_LUNG, 1.0), (RIGHT_LUNG, -1.0)):
        medial = middle[value] - np.float32(side) * canvas.x
        lungs[value] = np.maximum(
            np.maximum(cavity + np.float32(1.2), medial), np.float32(2.0) - dome
        ).astype(np.float32)
        canvas.fill(everything, lungs[value], lung_hu, value)
    return Trunk(outline, cavity, dome, lungs, lung_hu)


def _opacities(canvas: Canvas, person: Person, texture: Array) -> Array:
    """Ground glass, consolidation and emphysema where slow random fields are high."""
    rng, d = person.rng, person.spec.disease
    patchy = random_field(canvas.shape, rng, rng.uniform(14, 45) / canvas.voxel_mm)
    threshold = rng.uniform(0.9, 2.0) - d
    amount = np.clip((patchy - threshold) * 1.6, 0.0, 1.0)
    dense = rng.uniform(150, 860)
    holes = random_field(canvas.shape, rng, rng.uniform(8, 25) / canvas.voxel_mm)
    emphysema = np.clip(holes - rng.uniform(0.5, 1.6), 0.0, 1.0) * 90.0
    out: Array = (amount * (dense + 60.0 * texture) - emphysema).astype(np.float32)
    return out


def _height_above_diaphragm(canvas: Canvas, person: Person) -> Array:
    """Return the height over the diaphragm: two domes with recesses that reach down at the wall and behind."""
    right, left = person.dome_mm
    rng = person.rng
    depth = rng.uniform(62, 92) + 14 * person.spec.inspiration
    height = np.full(canvas.shape, -1e3, dtype=np.float32)
    for side, top in ((-1.0, right), (1.0, left)):
        cx, cy = side * 62.0 * person.broad, -8.0
        d2 = ((canvas.x - cx) / np.float32(98 * person.broad)) ** 2 + (
            (canvas.y - cy) / np.float32(96 * person.deep)
        ) ** 2
        surface = np.float32(top) - np.float32(depth) * d2 ** np.float32(1.15)
        surface -= np.float32(0.12) * np.maximum(canvas.y, 0.0)
        np.maximum(height, surface, out=height)
    bumps = 2.0 * random_field(canvas.shape, rng, 32.0 / canvas.voxel_mm)
    slope: Array = ((canvas.z - height + bumps) * np.float32(0.75)).astype(np.float32)
    return slope


def _mediastinum_half_width(canvas: Canvas, person: Person) -> dict[int, Array]:
    """Return how far the mediastinum reaches to each side of the midline at every voxel.

    Narrow at the junction lines before and behind the great vessels, wide at their level and in front of
    the spine, wider towards the inlet of the thorax.
    """
    rng = person.rng
    _, sy = person.spine(70.0)
    vessels = np.exp(-(((canvas.y - np.float32(-12.0)) / np.float32(38.0)) ** 2))
    spine = np.exp(-(((canvas.y - np.float32(sy + 12)) / np.float32(30.0)) ** 4))
    inlet = np.clip((canvas.z - np.float32(150.0)) / np.float32(55.0), 0.0, 1.0)
    front = rng.uniform(3, 9)
    wide = rng.uniform(20, 28)
    base = front + (wide - front) * vessels
    base = np.maximum(base, np.float32(20.0) * spine) + np.float32(16.0) * inlet * vessels
    shift = rng.normal(0, 3)
    return {LEFT_LUNG: (base + shift).astype(np.float32), RIGHT_LUNG: (base - shift).astype(np.float32)}
