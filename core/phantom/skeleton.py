"""Spine, ribs, sternum, shoulder girdle, arms and pelvis."""

# ruff: noqa: RUF005 (tuples are added to arrays as vectors, they are not concatenated)

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.phantom.bone import paint_bone
from core.phantom.canvas import Array, Canvas, Region
from core.phantom.labels import BODY
from core.phantom.pelvis import paint_pelvis
from core.phantom.person import Person
from core.phantom.shapes import Vector, curve, ellipsoid, random_field, superellipse, tube
from core.phantom.trunk import arm_paths

_FIRST_VERTEBRA_MM = 222.0  # centre of T1; C vertebrae above, L5 the last below


def paint_skeleton(canvas: Canvas, person: Person) -> None:
    """Paint all bones, joints' cartilage and the spinal canal."""
    texture = random_field(canvas.shape, person.rng, max(3.0 / canvas.voxel_mm, 1.2))
    centers = vertebra_heights(person)
    _paint_ribs(canvas, person, texture, centers)
    _paint_spine(canvas, person, texture, centers)
    _paint_sternum(canvas, person, texture)
    _paint_shoulders(canvas, person, texture)
    paint_pelvis(canvas, person, texture, centers["L5"])


def vertebra_heights(person: Person) -> dict[str, tuple[float, float]]:
    """Return (centre height, height of the body with its disc) in millimetres per vertebra."""
    names = [f"C{n}" for n in range(7, 1, -1)]
    heights: dict[str, tuple[float, float]] = {}
    z = _FIRST_VERTEBRA_MM
    size = _height_of(1) * person.vertebra_low
    for number in range(1, 18):
        name = f"T{number}" if number <= 12 else f"L{number - 12}"
        heights[name] = (z, size)
        grown = (_height_of(number + 1) * person.vertebra_gain) * person.vertebra_low
        z -= (size + grown) / 2
        size = grown
    z = _FIRST_VERTEBRA_MM
    for name in names:
        z += 18.5
        heights[name] = (z, 17.5)
    return heights


def _height_of(number: int) -> float:
    """Return the height of a body with its disc, T1 = 1 … L5 = 17."""
    return 18.5 + 0.62 * number if number <= 12 else 29.0 + 1.2 * (number - 12)


def _vertebral_body(region: Region, center: NDArray, radii: tuple[float, float], half: float) -> Array:
    dz = np.abs(region.z - np.float32(center[2]))
    waist = np.float32(1.0) + np.float32(0.14) * np.minimum((dz / np.float32(half)) ** 2, 1.5)
    outline = superellipse(
        region.x - np.float32(center[0]),
        region.y - np.float32(center[1]),
        radii[0] * waist,
        radii[1] * waist,
        2.3,
    )
    out: Array = np.maximum(outline, dz - np.float32(half)).astype(np.float32)
    return out


def _paint_spine(
    canvas: Canvas, person: Person, texture: Array, centers: dict[str, tuple[float, float]]
) -> None:
    t, rng = person.tissues, person.rng
    axis = np.array([(*person.spine(z), z) for z in np.arange(-420, 400, 20.0)])
    muscle = axis + np.array([0.0, 34.0, 0.0])
    bed = tube(
        canvas,
        muscle,
        np.interp(axis[:, 2], [-420, -100, 60, 200, 300], [30, 36, 30, 28, 24]),
        (1.35, 0.8, 1),
    )
    if bed is not None:
        inside = canvas.coverage(bed[1])
        canvas.blend(bed[0], inside * np.float32(0.96), t.muscle - 6.0)
        canvas.labels[bed[0].box][bed[1] < 0] = BODY
    discs = tube(canvas, axis, np.interp(axis[:, 2], [-300, 0, 220, 300], [23, 17, 12, 9]), (1.12, 0.92, 1))
    if discs is not None:
        canvas.fill(discs[0], discs[1], rng.normal(85, 12), BODY)
    for name, (z, size) in centers.items():
        _paint_vertebra(canvas, person, texture, name, z, size)
    canal = tube(
        canvas, axis + np.array([0.0, 1.0, 0.0]) * _canal_offset(axis)[:, None], 8.5, (1.15, 0.95, 1)
    )
    if canal is not None:
        canvas.fill(canal[0], canal[1], rng.normal(15, 8), BODY)
        cord = tube(canvas, axis + np.array([0.0, 1.0, 0.0]) * _canal_offset(axis)[:, None], 4.8)
        if cord is not None:
            canvas.fill(cord[0], cord[1], rng.normal(38, 5), BODY)


def _canal_offset(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the body's centre back to the canal's centre, larger for the lower vertebrae."""
    out: NDArray[np.float64] = np.interp(axis[:, 2], [-300, 0, 220, 300], [29.0, 25.0, 21.0, 18.0])
    return out


def _paint_vertebra(canvas: Canvas, person: Person, texture: Array, name: str, z: float, size: float) -> None:
    rng = person.rng
    x, y = person.spine(z)
    if canvas.region((x - 50, y - 25, z - 45), (x + 50, y + 80, z + 30)) is None:
        return
    width = float(np.interp(z, [-300, 0, 220, 300], [24.5, 17.5, 14.5, 11.0])) * person.broad
    depth = float(np.interp(z, [-300, 0, 220, 300], [17.5, 15.5, 10.5, 8.5]))
    half = size / 2 - float(np.interp(z, [-300, 0, 220], [4.6, 2.4, 1.8]))
    center = np.array([x, y, z])
    region = canvas.region(
        center - (width + 6, depth + 6, half + 4), center + (width + 6, depth + 6, half + 4)
    )
    if region is not None:
        paint_bone(
            canvas, person, (region, _vertebral_body(region, center, (width, depth), half)), texture, 1.0
        )
    off = float(_canal_offset(np.array([center]))[0])
    canal = center + np.array([0.0, off, 0.0])
    drop = float(np.interp(z, [-250, -50, 120, 230], [4, 14, 22, 6]))
    reach = float(np.interp(z, [-250, -50, 120, 230, 300], [34, 30, 34, 36, 26]))
    pieces: list[tuple[Sequence[Vector], Sequence[float], Vector]] = []
    for side in (-1.0, 1.0):
        pedicle = [(side * (width * 0.62), depth * 0.7, half * 0.25), (side * 12.5, off + 3, half * 0.1)]
        lamina = [(side * 12.5, off + 2, -1), (side * 9.0, off + 8, -4), (0.0, off + 13, -6)]
        back = 14.0 if name[0] == "T" else 4.0
        process = [(side * 12.0, off + 3, 0), (side * reach, off + back * 0.7, 2.0)]
        facet = [(side * 13.5, off + 4, -size * 0.45), (side * 13.5, off + 3, size * 0.4)]
        pieces += [(pedicle, [4.2, 4.0], (1, 1, 1.3)), (lamina, [4.0, 3.6, 3.8], (1, 1, 1.9)),
                   (process, [4.2, 3.4], (1, 1, 1.25)), (facet, [3.9, 4.0], (1, 1, 1))]  # fmt: skip
    tip = off + 34 + rng.normal(0, 2)
    spinous = [(0, off + 12, -5), (0, (off + 12 + tip) / 2, -5 - drop * 0.6), (0, tip, -6 - drop)]
    pieces.append((spinous, [3.0, 2.6, 3.6], (1, 1, 2.2)))
    for points, radii, stretch in pieces:
        found = tube(canvas, np.array(points) + center, np.array(radii), stretch)
        if found is not None:
            region_, sdf = found
            hole = np.hypot(region_.x - np.float32(canal[0]), region_.y - np.float32(canal[1])) - 8.0
            paint_bone(canvas, person, (region_, np.maximum(sdf, -hole).astype(np.float32)), texture, 1.3)


def rib_path(person: Person, number: int, side: float, z_head: float) -> tuple[NDArray[np.float64], float]:
    """Return the centre line of a rib from its head to its tip, and the share of it that is bone.

    The rib leaves the vertebra, swings back to its angle, then follows the chest wall forwards while it
    falls; the first ribs are short and flat, the last float.
    """
    rng = person.rng
    total = np.interp(number, [1, 2, 4, 7, 8, 9, 10, 11, 12], [150, 164, 168, 172, 165, 156, 146, 112, 72])
    fall = np.interp(number, [1, 3, 6, 8, 10, 12], [34, 62, 88, 92, 86, 52]) + rng.normal(0, 3)
    angles = np.linspace(24.0, float(total), 26)
    sx, sy = person.spine(z_head)
    points = [(sx + side * 15.0, sy + 13.0, z_head + 3.0), (sx + side * 30.0, sy + 31.0, z_head + 1.0)]
    for angle in angles:
        part = (angle - 20.0) / 150.0
        z = z_head - fall * part**1.15
        a, b, yc = (float(v) for v in person.cavity.at(z)[:3])
        a, b = a + 5.0, b + 5.0
        phi = np.deg2rad(angle)
        dx, dy = side * np.sin(phi), np.cos(phi)
        n = person.cavity_exponent
        radius = (abs(dx / a) ** n + abs(dy / b) ** n) ** (-1.0 / n)
        points.append((dx * radius, dy * radius + yc, z))
    pts = np.array(points)
    # The direction 24° from straight back would run through the paravertebral gutter; keep the rib outside it.
    share = float(np.interp(number, [1, 2, 5, 8, 10, 11], [0.84, 0.86, 0.84, 0.80, 0.80, 1.0]))
    return pts, share


def _paint_ribs(
    canvas: Canvas, person: Person, texture: Array, centers: dict[str, tuple[float, float]]
) -> None:
    rng = person.rng
    thick = rng.uniform(2.7, 3.7)
    cartilage = rng.normal(person.tissues.cartilage, 15)
    for number in range(1, 13):
        z_vertebra, size = centers[f"T{number}"]
        for side in (-1.0, 1.0):
            points, share = rib_path(person, number, side, z_vertebra + size * 0.35)
            end = max(3, int(len(points) * share))
            if number <= 10 and end < len(points):
                _paint_cartilage(canvas, person, points[end - 1 :], number, side, cartilage)
            found = tube(canvas, points[:end], np.full(end, thick), (1.0, 1.0, 1.75))
            paint_bone(canvas, person, found, texture, 1.1)


def _paint_cartilage(
    canvas: Canvas, person: Person, tail: NDArray[np.float64], number: int, side: float, hu: float
) -> None:
    """Paint the costal cartilage: from the rib's end to the sternum, the lower ones rising to the arch."""
    target_z = float(np.interp(number, [1, 2, 4, 6, 7, 10], [186, 160, 112, 74, 62, 40]))
    front_y = _sternum_y(person, target_z)
    goal = np.array([side * np.interp(number, [1, 7, 10], [20, 16, 30]), front_y + 2, target_z])
    start = tail[0]
    middle = np.array(
        [0.55 * start[0] + 0.45 * goal[0], min(start[1], goal[1]) * 0.98, min(start[2], goal[2] + 4)]
    )
    found = tube(canvas, curve([start, middle, goal], 9), 4.2, (1, 1, 1.5))
    if found is not None:
        canvas.fill(found[0], found[1], hu, BODY)


def _sternum_y(person: Person, z: float) -> float:
    _, b, yc = (float(v) for v in person.cavity.at(z)[:3])
    return yc - b - 4.0


def _paint_sternum(canvas: Canvas, person: Person, texture: Array) -> None:
    zs = np.array([192, 182, 168, 150, 125, 100, 75, 62, 48])
    points = np.array([(0.0, _sternum_y(person, float(z)) + 0.5, z) for z in zs])
    radii = np.array([5.2, 5.6, 4.8, 4.6, 4.6, 4.8, 4.6, 3.2, 2.0])
    found = tube(canvas, points, radii, (3.6, 1.0, 1.6))
    paint_bone(canvas, person, found, texture, 1.0, marrow_shift=-50.0)


def _paint_shoulders(canvas: Canvas, person: Person, texture: Array) -> None:
    spec, b = person.spec, person.broad
    up = spec.arms == "up"
    y0 = _sternum_y(person, 188.0)
    for side in (-1.0, 1.0):
        acromion = np.array([side * (142 if up else 158) * b, 18.0, 206.0 + (16 if up else 0)])
        clavicle = curve([(side * 20, y0 - 1, 190), (side * 62 * b, y0 - 6, 200 + 4 * up),
                          (side * 112 * b, 0.0, 206 + 10 * up), tuple(acromion)], 12)  # fmt: skip
        paint_bone(canvas, person, tube(canvas, clavicle, np.linspace(6.5, 5.5, 12)), texture, 1.8)
        _paint_scapula(canvas, person, texture, side, acromion)
    for path, _ in arm_paths(person):
        head = path[0] + (np.array([0, -4, 22]) if up else np.array([0, -4, -2]))
        bone = np.vstack([head, path[1:] + np.array([0.0, 0.0, 0.0])])
        shaft = tube(canvas, curve(bone, 24), 10.5)
        paint_bone(canvas, person, shaft, texture, 4.0, marrow_shift=-160.0)
        region = canvas.region(head - 26, head + 26)
        if region is not None:
            paint_bone(canvas, person, (region, ellipsoid(region, head, (23, 23, 23))), texture, 1.5)


def _paint_scapula(
    canvas: Canvas, person: Person, texture: Array, side: float, acromion: NDArray[np.float64]
) -> None:
    """Paint the shoulder blade: a thin triangle on the back of the chest wall with its spine and neck."""
    up = person.spec.arms == "up"
    turn = 22.0 if up else 0.0
    b = person.broad
    glenoid = np.array([side * (128 if up else 136) * b, 26.0, 196.0 + 0.5 * turn])
    top = _on_back(person, side * (70 + 0.4 * turn) * b, 192.0)
    tip = _on_back(person, side * (84 + 2.0 * turn) * b, 88.0 + turn)
    root = _on_back(person, side * (64 + 0.5 * turn) * b, 172.0)
    for fraction in np.linspace(0.0, 1.0, 15):
        a = (
            root * (1 - fraction) + tip * fraction
            if fraction > 0.25
            else top * (1 - fraction * 4) + root * fraction * 4
        )
        lateral = glenoid * (1 - fraction) + tip * fraction
        line = np.stack([a, a * 0.55 + lateral * 0.45 + np.array([0, 3.0, 0]), lateral])
        paint_bone(
            canvas, person, tube(canvas, curve(line, 7), np.linspace(2.4, 2.9, 7), (1, 1, 2.4)), texture, 1.2
        )
    edge = curve([glenoid, glenoid * 0.5 + tip * 0.5 + np.array([side * 2, 0, 0]), tip], 8)
    paint_bone(canvas, person, tube(canvas, edge, 4.4), texture, 1.5)
    crest = curve([root + np.array([0, 4, 0]), (root + acromion) / 2 + np.array([0, 17, 4]), acromion], 9)
    paint_bone(canvas, person, tube(canvas, crest, 4.2, (1, 1, 1.5)), texture, 1.5)
    paint_bone(
        canvas,
        person,
        tube(canvas, np.stack([glenoid, glenoid + (side * 3, -2, 1)]), 11.0, (1, 1, 1.4)),
        texture,
    )
    coracoid = curve([glenoid, glenoid + (side * -6, -18, 14), glenoid + (side * 6, -34, 10)], 6)
    paint_bone(canvas, person, tube(canvas, coracoid, 5.0), texture, 1.5)


def _on_back(person: Person, x: float, z: float) -> NDArray[np.float64]:
    """Return the point behind the ribs at (x, z)."""
    a, b, yc = (float(v) for v in person.cavity.at(min(z, 165.0))[:3])
    a, b, n = a + 17.0, b + 17.0, person.cavity_exponent
    share = min(abs(x) / a, 0.97)
    return np.array([x, yc + b * (1.0 - share**n) ** (1.0 / n), z])
