"""Sacrum, hip bones, upper thigh bones and the bladder."""

# ruff: noqa: RUF005 (tuples are added to arrays as vectors, they are not concatenated)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.phantom.bone import paint_bone
from core.phantom.canvas import Canvas
from core.phantom.labels import BODY, BONES
from core.phantom.person import Person
from core.phantom.shapes import curve, ellipsoid, tube

Points = NDArray[np.float64]


def paint_pelvis(canvas: Canvas, person: Person, texture: NDArray, fifth_lumbar: tuple[float, float]) -> None:
    """Paint the pelvis below the fifth lumbar vertebra, given as (centre height, height) in millimetres."""
    z5, size5 = fifth_lumbar
    x, y = person.spine(z5)
    top = z5 - size5 / 2
    origin = np.array([x, y - 14.0, top])
    if canvas.region(origin - (200, 150, 320), origin + (200, 150, 60)) is None:
        return
    _paint_bladder(canvas, person, origin)
    for side in (-1.0, 1.0):
        _paint_hip(canvas, person, texture, origin, side)
        _paint_femur(canvas, person, texture, origin, side)
    path = curve([(0, 14, -2), (0, 34, -32), (0, 52, -66), (0, 50, -100), (0, 36, -128)], 12) + origin
    widths = np.interp(np.linspace(0, 1, 12), [0, 0.3, 0.7, 1.0], [19.0, 18.0, 10.0, 4.0])
    paint_bone(canvas, person, tube(canvas, path, widths, (2.5, 0.85, 1.0)), texture, 1.2)
    canal = tube(canvas, path[:8] + np.array([0.0, 9.0, 0.0]), 5.0, (1.5, 0.8, 1.0))
    if canal is not None:
        canvas.fill(canal[0], canal[1], 0.0, BODY)


def _at(person: Person, origin: Points, side: float, point: tuple[float, float, float]) -> Points:
    """Return a pelvic point given for the left side, mirrored and scaled to the person."""
    return origin + np.array([side * point[0] * person.broad, point[1] * person.deep, point[2]])


def _paint_hip(canvas: Canvas, person: Person, texture: NDArray, origin: Points, side: float) -> None:
    def at(*points: tuple[float, float, float]) -> Points:
        return np.array([_at(person, origin, side, p) for p in points])

    flare = person.extra.setdefault("flare", float(person.rng.normal(0, 7)))
    crest = curve(at((40, 66, -14), (88, 48 + flare / 2, 26), (124 + flare, 2, 14), (116 + flare, -44, -42),
                     (100, -38, -84)), 34)  # fmt: skip
    base = curve(at((42, 56, -62), (52, 44, -84), (72, 22, -100), (86, 0, -106), (90, -16, -104)), 34)
    for a, b in zip(crest, base, strict=True):
        middle = (a + b) / 2 + np.array([side * -5.0, 3.0, 0.0])
        line = curve(np.stack([a, middle, b]), 6)
        paint_bone(canvas, person, tube(canvas, line, [5.0, 4.0, 3.6, 4.2, 6.5, 9.0]), texture, 1.5)
    socket = _at(person, origin, side, (88, 6, -128))
    region = canvas.region(socket - 36, socket + 36)
    if region is not None:
        cup = ellipsoid(region, socket, (33, 33, 33))
        hollow = ellipsoid(region, socket + (side * 3, -2, -2), (26.5, 26.5, 26.5))
        open_side = np.float32(side) * (region.x - np.float32(socket[0])) - np.float32(12.0)
        paint_bone(canvas, person, (region, np.maximum(np.maximum(cup, -hollow), open_side)), texture, 1.5)
    for points, radii in (
        (at((72, -18, -122), (44, -40, -142), (12, -46, -158)), [11.0, 8.0, 10.0]),
        (at((12, -44, -170), (34, -18, -190), (54, 26, -192)), [9.0, 6.0, 9.0]),
        (at((76, 24, -120), (64, 40, -160), (58, 34, -192)), [15.0, 13.0, 14.0]),
        (at((44, 60, -20), (46, 60, -50)), [11.0, 10.0]),
    ):
        paint_bone(canvas, person, tube(canvas, curve(points, 8), np.interp(np.linspace(0, 1, 8),
                   np.linspace(0, 1, len(radii)), radii)), texture, 1.6)  # fmt: skip


def _paint_femur(canvas: Canvas, person: Person, texture: NDArray, origin: Points, side: float) -> None:
    head = _at(person, origin, side, (91, 4, -130))
    trochanter = _at(person, origin, side, (138, 20, -140))
    shaft = curve(np.array([trochanter + (side * -6, -6, -14), _at(person, origin, side, (128, 4, -210)),
                            _at(person, origin, side, (112, -6, -330))]), 12)  # fmt: skip
    paint_bone(
        canvas, person, tube(canvas, shaft, np.linspace(16, 13.5, 12)), texture, 4.5, marrow_shift=-120.0
    )
    neck = np.stack([head, (head + trochanter) / 2 + (0, -2, 0), trochanter])
    paint_bone(canvas, person, tube(canvas, neck, [15.0, 14.0, 17.0]), texture, 1.8)
    region = canvas.region(head - 27, head + 27)
    if region is None:
        return
    ball = ellipsoid(region, head, (24, 24, 24))
    implant = person.extra.setdefault("implant", float(person.rng.uniform()))
    if implant < 0.05 and side > 0:
        canvas.fill(region, ball, 2800.0)
        stem = tube(canvas, np.vstack([head, trochanter, shaft[4:8]]), 6.5)
        if stem is not None:
            canvas.fill(stem[0], stem[1], 2800.0)
        canvas.labels[region.box][ball < 0] = BONES
        return
    paint_bone(canvas, person, (region, ball), texture, 1.4)


def _paint_bladder(canvas: Canvas, person: Person, origin: Points) -> None:
    rng, t = person.rng, person.tissues
    center = origin + (0.0, -24.0, -132.0)
    region = canvas.region(center - 70, center + 70)
    if region is None:
        return
    size = rng.uniform(0.6, 1.25)
    bag = ellipsoid(region, center, (44 * size, 36 * size, 34 * size))
    canvas.fill(region, bag - np.float32(3.0), t.muscle, BODY)
    canvas.fill(region, bag, rng.choice([t.fluid, t.fluid, 250.0]))
    floor = tube(
        canvas, np.array([origin + (0, 18, -150), origin + (0, 24, -112), origin + (0, 38, -70)]), 17.0
    )
    if floor is not None:
        canvas.fill(floor[0], floor[1], t.muscle - 12, BODY)
