"""Liver, spleen, stomach, kidneys, pancreas, bowel and the muscles behind them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.phantom.airways import grow_tree
from core.phantom.canvas import Array, Canvas
from core.phantom.labels import BODY, LIVER
from core.phantom.person import Person
from core.phantom.shapes import around, curve, ellipsoid, random_field, segment_distance, smooth_union, tube
from core.phantom.trunk import Trunk

Points = NDArray[np.float64]


def paint_abdomen(canvas: Canvas, person: Person, trunk: Trunk) -> None:
    """Paint everything under the diaphragm except bones and great vessels."""
    inner = canvas.coverage(np.maximum(trunk.cavity + np.float32(1.0), trunk.dome).astype(np.float32))
    _paint_diaphragm(canvas, person, trunk)
    _paint_psoas(canvas, person)
    _paint_bowel(canvas, person, inner)
    _paint_kidneys(canvas, person, inner)
    _paint_stomach_spleen(canvas, person, trunk, inner)
    _paint_liver(canvas, person, trunk)


def _paint_diaphragm(canvas: Canvas, person: Person, trunk: Trunk) -> None:
    sheet = np.maximum(np.abs(trunk.dome + np.float32(1.0)) - np.float32(1.6), trunk.cavity)
    canvas.fill(canvas.everything(), sheet.astype(np.float32), person.tissues.muscle)


def _paint_psoas(canvas: Canvas, person: Person) -> None:
    for side in (-1.0, 1.0):
        points = []
        for z in (-70.0, -130.0, -190.0, -250.0, -310.0):
            x, y = person.spine(z)
            points.append(
                (x + side * np.interp(z, [-310, -70], [56, 24]), y + np.interp(z, [-310, -70], [-6, 6]), z)
            )
        found = tube(canvas, curve(points, 14), np.interp(np.linspace(0, 1, 14), [0, 0.5, 1], [8, 19, 22]))
        if found is not None:
            canvas.fill(found[0], found[1], person.tissues.muscle, BODY)


def _paint_kidneys(canvas: Canvas, person: Person, inner: Array) -> None:
    rng, t = person.rng, person.tissues
    for side in (-1.0, 1.0):
        z = rng.normal(-104 if side > 0 else -118, 12)
        x, y = person.spine(z)
        center = np.array([x + side * rng.normal(58, 4), y + 12.0, z])
        region = canvas.region(center - 75, center + 75)
        if region is None:
            continue
        tilt = side * 0.18
        axes = np.array([[1, 0, tilt], [0, 1, 0.15], [-tilt, -0.15, 1]])
        axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        size = rng.uniform(0.85, 1.12)
        kidney = ellipsoid(region, center, size * np.array([29, 25, 54]), axes)
        sinus = ellipsoid(region, center - (side * 20, 6, 0), size * np.array([19, 12, 28]), axes)
        within = inner[region.box]
        canvas.fill(region, kidney, t.kidney, BODY, within=within)
        canvas.fill(region, np.maximum(sinus, kidney - 3), t.fat + 35, BODY, within=within)


def _paint_stomach_spleen(canvas: Canvas, person: Person, trunk: Trunk, inner: Array) -> None:
    rng, t = person.rng, person.tissues
    top = person.dome_mm[1]
    b, d = person.broad, person.deep
    size = rng.uniform(0.7, 1.25)
    path = curve([(46 * b, 12 * d, top - 34), (62 * b, -10 * d, top - 48), (52 * b, -36 * d, top - 84),
                  (12, -44 * d, top - 104), (-22, -34 * d, top - 92)], 12)  # fmt: skip
    radius = np.interp(np.linspace(0, 1, 12), [0, 0.25, 0.6, 1], [28, 33, 25, 13]) * size
    found = tube(canvas, path, radius, margin=2.0)
    if found is not None:
        region, sdf = found
        within = inner[region.box]
        canvas.fill(region, sdf, t.muscle - 5, BODY, within=within)
        content = rng.choice(
            [rng.normal(18, 12), rng.normal(60, 40), rng.uniform(100, 420)], p=[0.6, 0.25, 0.15]
        )
        lumps = 18.0 * random_field(canvas.shape, rng, 6.0 / canvas.voxel_mm)[region.box]
        canvas.fill(region, sdf + np.float32(3.5), (content + lumps).astype(np.float32), None, within=within)
        level = region.y - np.float32(path[:, 1].mean() + rng.uniform(-34, 12))
        gas = np.maximum(sdf + np.float32(4.0), level).astype(np.float32)
        canvas.fill(region, gas, -980.0, None, within=within)
    center = np.array([92 * b, 42 * d, top - 62 + rng.normal(0, 9)])
    region2 = canvas.region(center - 90, center + 90)
    if region2 is None:
        return
    s = rng.uniform(0.8, 1.25)
    outer = ellipsoid(region2, center, (36 * s, 46 * s, 50 * s))
    hollow = ellipsoid(region2, center - (38, 22, 4), (44, 50, 60))
    spleen = np.maximum(np.maximum(outer, -hollow), trunk.cavity[region2.box] + np.float32(4.0))
    spleen = np.maximum(spleen, trunk.dome[region2.box] + np.float32(4.0)).astype(np.float32)
    canvas.fill(region2, spleen, t.spleen, BODY)


def _paint_bowel(canvas: Canvas, person: Person, inner: Array) -> None:
    rng, t = person.rng, person.tissues
    b = person.broad
    z0 = rng.normal(-150, 18)
    frame = [(-88 * b, 10, -290), (-92 * b, 4, z0 - 40), (-80 * b, -30, z0), (-30, -62, z0 - rng.uniform(0, 40)),
             (40, -62, z0 - rng.uniform(-10, 30)), (88 * b, -18, z0 + rng.uniform(20, 70)), (98 * b, 20, z0 - 20),
             (96 * b, 22, -290)]  # fmt: skip
    colon = curve(frame, 60)
    haustra = 19 + 4 * np.sin(np.arange(60) * 1.9) + rng.normal(0, 1.5, 60)
    loops = [(colon, haustra, True)]
    for _ in range(int(rng.integers(5, 10))):
        start = np.array([rng.uniform(-75, 75) * b, rng.uniform(-62, 0), rng.uniform(-300, -140)])
        walk = start + np.cumsum(rng.normal(0, 26, (7, 3)), axis=0)
        walk[:, 1] = np.clip(walk[:, 1], -66, 10)
        walk[:, 2] = np.minimum(walk[:, 2], -125)
        loops.append((curve(walk, 24), np.full(24, rng.uniform(9, 14)), False))
    mottled = random_field(canvas.shape, rng, 5.0 / canvas.voxel_mm)
    for path, radius, is_colon in loops:
        found = tube(canvas, path, radius, margin=1.0)
        if found is None:
            continue
        region, sdf = found
        within = inner[region.box]
        canvas.fill(region, sdf, t.muscle - 8, BODY, within=within)
        if is_colon:
            gas_share = rng.uniform(-1.0, 1.4)
            stool = np.where(mottled[region.box] < gas_share - 0.4, -850.0, 20 + 40 * mottled[region.box])
            canvas.fill(region, sdf + np.float32(2.5), stool.astype(np.float32), None, within=within)
        else:
            canvas.fill(
                region,
                sdf + np.float32(3.0),
                rng.choice([t.bowel, t.bowel, -600.0, 220.0]),
                None,
                within=within,
            )
    pancreas = tube(
        canvas,
        curve([(-28, -6, -95), (0, -16, -86), (36, -2, -74), (68, 20, -62)], 9),
        [13, 12, 10, 10, 9, 9, 9, 8, 7],
    )
    if pancreas is not None:
        canvas.fill(pancreas[0], pancreas[1], t.spleen - 10, BODY, within=inner[pancreas[0].box])


def _paint_liver(canvas: Canvas, person: Person, trunk: Trunk) -> None:
    """Paint the liver: it fills the right dome, tapers to the left, is cut by an oblique lower surface."""
    rng, t = person.rng, person.tissues
    b, top = person.broad, person.dome_mm[0]
    region = canvas.region((-150 * b, -140, top - 260), (110 * b, 130, top + 30))
    if region is None:
        return
    length = float(np.clip(rng.normal(150, 22), 100, 215))
    reach = float(np.clip(rng.normal(48, 22), 0, 95))
    bumps = random_field(canvas.shape, rng, 20.0 / canvas.voxel_mm)[region.box]
    right = -float(122 * b)
    slope = (length - 48.0) / (reach - right + 20)
    hollow = 0.0022 * np.maximum(region.y + 10.0, 0.0) ** 2
    lower = (top - length + slope * (region.x - right) + hollow) - region.z
    lower = (lower / np.float32(np.hypot(1.0, slope))).astype(np.float32)
    left = (region.x - np.float32(reach) - 0.25 * (region.y + 30)).astype(np.float32)
    back_limit = 12.0 + 0.62 * np.maximum(-region.x - 12.0, 0.0)
    back = ((region.y - back_limit.astype(np.float32)) * np.float32(0.85)).astype(np.float32)
    body = np.maximum(
        trunk.cavity[region.box] + np.float32(rng.uniform(3, 6)), trunk.dome[region.box] + np.float32(3.5)
    )
    liver = body
    for face in (lower, left, back):
        liver = _smooth_cut(liver, face, 12.0)
    liver = (liver + 1.4 * bumps).astype(np.float32)
    tissue = t.liver + 3.0 * bumps
    canvas.fill(region, liver, tissue.astype(np.float32), LIVER)
    _paint_liver_vessels(canvas, person, region.box, liver)
    _paint_gallbladder(canvas, person, length, top)


def _smooth_cut(a: Array, b: Array, k: float) -> Array:
    """Intersection of two distances with a rounded edge."""
    return -smooth_union(-a, -b, k)


def _paint_liver_vessels(canvas: Canvas, person: Person, box: tuple, liver: Array) -> None:
    rng, t = person.rng, person.tissues
    inside = np.flatnonzero(liver.ravel() < -6.0)
    if inside.size < 50:
        return
    x, y, z = (c[box].ravel() for c in (canvas.x, canvas.y, canvas.z))
    delta = {"none": -14.0, "arterial": 10.0, "venous": 38.0}[person.spec.contrast] + rng.normal(0, 5)
    for root in (np.array([-20.0, 8.0, -25.0]), np.array([-22.0, -8.0, -70.0])):
        chosen = rng.choice(inside, 26)
        targets = np.stack([x[chosen], y[chosen], z[chosen]], axis=1).astype(float)
        for a, b, relative in grow_tree(root, targets, step_mm=16.0):
            region = canvas.region(*around(np.stack([a, b]), 6.0))
            if region is None:
                continue
            distance, _ = segment_distance(region, a, b)
            radius = max(5.5 * relative, 1.2)
            only = canvas.labels[region.box] == LIVER
            canvas.blend(
                region, canvas.coverage(distance - np.float32(radius), radius) * only, t.liver + delta
            )
    if rng.uniform() < 0.3:
        for _ in range(int(rng.integers(1, 5))):
            p = int(rng.choice(inside))
            region = canvas.region((x[p] - 25, y[p] - 25, z[p] - 25), (x[p] + 25, y[p] + 25, z[p] + 25))
            if region is not None:
                only = (canvas.labels[region.box] == LIVER).astype(np.float32)
                ball = ellipsoid(region, (x[p], y[p], z[p]), rng.uniform(4, 22, 3))
                canvas.fill(region, ball, rng.choice([5.0, t.liver - 25, t.liver + 30]), None, within=only)


def _paint_gallbladder(canvas: Canvas, person: Person, length: float, top: float) -> None:
    center = np.array([-52.0 * person.broad, -44.0, top - length * 0.72 - 6])
    region = canvas.region(center - 45, center + 45)
    if region is not None and person.rng.uniform() < 0.85:
        bag = ellipsoid(region, center, person.rng.uniform(0.7, 1.2) * np.array([16, 22, 24]))
        inside = (canvas.labels[region.box] > 0).astype(np.float32)
        canvas.fill(region, bag, person.tissues.fluid, BODY, within=inside)
