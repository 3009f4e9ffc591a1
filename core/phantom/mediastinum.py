"""Heart with its chambers, great vessels, oesophagus and thymic fat."""

# ruff: noqa: RUF005 (tuples are added to arrays as vectors, they are not concatenated)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.phantom.airways import carina, hilum
from core.phantom.canvas import Array, Canvas, Region
from core.phantom.labels import BODY, HEART
from core.phantom.person import Person
from core.phantom.shapes import curve, ellipsoid, random_field, smooth_union, tube

Points = NDArray[np.float64]


def heart_center(person: Person) -> Points:
    """Return the centre of the heart: it rests on the diaphragm, behind the sternum, left of the midline."""
    if "heart_x" not in person.extra:
        person.extra["heart_x"] = float(person.rng.normal(21, 5))
        person.extra["heart_y"] = float(person.rng.normal(-30, 5)) * person.deep
        person.extra["heart_z"] = float(np.mean(person.dome_mm) + person.rng.normal(47, 6))
    return np.array([person.extra["heart_x"], person.extra["heart_y"], person.extra["heart_z"]])


def paint_mediastinum(canvas: Canvas, person: Person) -> None:
    """Paint the contents between the lungs except the airway."""
    _paint_oesophagus(canvas, person)
    _paint_heart(canvas, person)
    _paint_vessels(canvas, person)


def _frame(person: Person) -> Points:
    """Return the heart's axes as rows: long axis (towards the apex), then two across."""
    rng = person.rng
    long_axis = np.array(
        [0.66 + rng.normal(0, 0.06), -0.58 + rng.normal(0, 0.06), -0.48 + rng.normal(0, 0.12)]
    )
    long_axis /= np.linalg.norm(long_axis)
    across = np.cross(long_axis, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    return np.stack([long_axis, across, np.cross(long_axis, across)])


def _paint_heart(canvas: Canvas, person: Person) -> None:
    c, s, t, axes = heart_center(person), person.heart_scale, person.tissues, _frame(person)
    region = canvas.region(c - 112 * s, c + 112 * s)
    if region is None:
        return
    u, right_side = axes[0], np.array([-0.62, -0.42, 0.0])
    lv = ellipsoid(region, c + s * (12 * u + np.array([10, 8, 2])), s * np.array([50, 33, 33]), axes)
    rv = ellipsoid(region, c + s * (6 * u + np.array([-14, -20, -2])), s * np.array([48, 24, 35]), axes)
    ra = ellipsoid(region, c + s * (24 * right_side + np.array([-22, 12, 6])), s * np.array([25, 26, 36]))
    la = ellipsoid(region, c + s * np.array([-14, 40, 24]), s * np.array([37, 20, 27]))
    whole = smooth_union(smooth_union(lv, rv, 14 * s), smooth_union(ra, la, 12 * s), 14 * s)
    whole += np.float32(1.2) * random_field(canvas.shape, person.rng, 18.0 / canvas.voxel_mm)[region.box]
    fat_mm = person.rng.uniform(2.0, 6.0) + 5.0 * person.spec.habitus
    in_chest = region.z - np.float32(min(person.dome_mm) - 26.0)
    shell = np.maximum(whole - np.float32(fat_mm), -in_chest)
    canvas.fill(region, shell.astype(np.float32), t.fat + 8, BODY)
    _pericardial_triangle(canvas, person, c)
    whole = np.maximum(whole, -in_chest - 3).astype(np.float32)
    canvas.fill(region, whole, t.myocardium, HEART)
    wall = (10.0 * s, 3.5 * s, 2.5 * s, 2.5 * s)
    for sdf, thickness, blood in zip(
        (lv, rv, ra, la), wall, (t.arterial, t.venous, t.venous, t.arterial), strict=True
    ):
        canvas.fill(region, np.maximum(sdf + np.float32(thickness), whole + np.float32(2.0)), blood)
    groove = np.abs(lv - rv) - np.float32(1.6)
    canvas.fill(
        region,
        np.maximum(groove, -(whole + np.float32(6.0))).astype(np.float32),
        t.fat + 30,
        within=_inside(whole),
    )


def _inside(sdf: Array) -> Array:
    return (sdf < -0.5).astype(np.float32)


def _pericardial_triangle(canvas: Canvas, person: Person, c: Points) -> None:
    """Paint the fat pads in the cardiophrenic angles."""
    size = 10 + 22 * person.spec.habitus + person.rng.uniform(0, 8)
    for offset in ((-38.0, -30.0, -34.0), (48.0, -34.0, -36.0)):
        region = canvas.region(c + offset - 2 * size, c + offset + 2 * size)
        if region is not None:
            pad = ellipsoid(region, c + np.array(offset), (size * 1.1, size, size))
            inside = canvas.labels[region.box] > 0
            canvas.fill(region, pad, person.tissues.fat + 6, BODY, within=inside.astype(np.float32))


def aorta_path(person: Person) -> Points:
    """Return points along ascending aorta, arch and descending aorta to the bifurcation."""
    h, ca = heart_center(person), carina(person)
    arch = ca[2] + person.extra.setdefault("arch_up", float(person.rng.normal(34, 5)))
    knots: list[tuple[float, float, float]] = [
        (h[0] - 20, h[1] + 4, h[2] + 30), (h[0] - 36, h[1] - 6, h[2] + 58), (ca[0] - 12, ca[1] - 34, arch - 12),
        (ca[0] + 6, ca[1] - 20, arch), (ca[0] + 24, ca[1] + 6, arch - 4),
    ]  # fmt: skip
    sx, sy = person.spine(arch - 30)
    knots.append((sx + 26, sy - 6, arch - 30))
    for z in (70.0, 10.0, -60.0, -130.0, -200.0):
        sx, sy = person.spine(z)
        knots.append(
            (sx + float(np.interp(z, [-200, 70], [4, 24])), sy - float(np.interp(z, [-200, 70], [32, 14])), z)
        )
    return curve(knots, 60)


def _paint_vessels(canvas: Canvas, person: Person) -> None:
    rng, t = person.rng, person.tissues
    h, ca = heart_center(person), carina(person)
    aorta = aorta_path(person)
    width = np.interp(
        np.linspace(0, 1, len(aorta)), [0, 0.3, 0.45, 1.0], [15.5, 13.5, 12.0, 8.5]
    ) * rng.uniform(0.88, 1.2)
    top = aorta[:, 2].max()
    vessels: list[tuple[Points, NDArray | float, float]] = []
    for x, y, reach in ((-8.0, -16.0, (-44, 2, 228)), (6.0, -6.0, (26, 2, 240)), (16.0, 4.0, (62, 12, 226))):
        root = np.array([ca[0] + x, ca[1] + y - 6, top - 2])
        vessels.append((curve([root, root + (x * 0.2, 0, 22), reach], 8), rng.uniform(4.2, 6.5), t.arterial))
    svc = curve([(h[0] - 44, h[1] + 18, h[2] + 20), (-30, ca[1] - 22, ca[2] + 8), (-30, ca[1] - 30, 190),
                 (-42, ca[1] - 24, 214), (-60, ca[1] - 20, 240)], 14)  # fmt: skip
    brachio = curve(
        [(-28, ca[1] - 32, 182), (4, ca[1] - 42, 192), (40, ca[1] - 30, 208), (70, ca[1] - 16, 222)], 10
    )
    ivc = curve(
        [(h[0] - 42, h[1] + 26, h[2] - 24), (-20, 12, -20), (-24, 14, -70), (-20, 18, -130), (-18, 22, -210)],
        14,
    )
    bright = t.venous * (1.0 + (rng.uniform(0, 1.2) if person.spec.contrast == "arterial" else 0.0))
    vessels += [(svc, rng.uniform(8, 11), bright), (brachio, rng.uniform(5.5, 7.5), bright),
                (ivc, rng.uniform(9, 12.5), t.venous * 0.8 + 8)]  # fmt: skip
    trunk = curve(
        [(h[0] - 4, h[1] - 18, h[2] + 40), (h[0] + 2, h[1] + 2, h[2] + 62), (12, ca[1] - 12, ca[2] - 18)], 9
    )
    left, right = hilum(person, 1.0), hilum(person, -1.0)
    vessels.append((trunk, 14.5, t.venous))
    vessels.append(
        (curve([trunk[-1], left + (-6, -6, 8), left + (10, 4, -6)], 7), np.linspace(12, 8, 7), t.venous)
    )
    vessels.append((curve([trunk[-1] + (-4, -2, 0), (-14, ca[1] - 18, ca[2] - 16), right + (0, -8, -6)], 8),
                    np.linspace(12, 8.5, 8), t.venous))  # fmt: skip
    atrium = h + np.array([-14, 40, 24]) * person.heart_scale
    for end in (left + (4, -8, -30), left + (6, -14, -4), right + (-4, -8, -34), right + (-4, -16, -12)):
        vessels.append(
            (curve([atrium, (atrium + end) / 2 + (0, 2, 0), end], 6), np.linspace(7.5, 5.5, 6), t.arterial)
        )
    for points, radius, hu in vessels:
        _paint_vessel(canvas, points, radius, hu, t.muscle)
    _paint_vessel(canvas, aorta, width, t.arterial, t.muscle, plaque=person)


def _paint_vessel(
    canvas: Canvas,
    points: Points,
    radius: NDArray | float,
    hu: float,
    wall_hu: float,
    plaque: Person | None = None,
) -> None:
    """Paint a vessel with its wall; inside the heart only blood is painted, the label stays."""
    found = tube(canvas, points, radius, margin=2.0)
    if found is None:
        return
    region, sdf = found
    in_heart = canvas.labels[region.box] == HEART
    canvas.blend(region, canvas.coverage(sdf - np.float32(1.2)) * ~in_heart, wall_hu)
    canvas.blend(region, canvas.coverage(sdf), hu)
    if plaque is not None:
        _calcify(canvas, region, sdf, plaque)
    labels = canvas.labels[region.box]
    labels[(sdf < 1.2) & ~in_heart] = BODY


def _calcify(canvas: Canvas, region: Region, sdf: Array, person: Person) -> None:
    age = person.rng.uniform(0, 1)
    if age < 0.45:
        return
    spots = random_field(canvas.shape, person.rng, 9.0 / canvas.voxel_mm)[region.box] > 2.6 - 0.9 * age
    alpha = canvas.coverage(np.abs(sdf) - np.float32(0.8), 0.8, dims=1) * spots
    canvas.blend(region, alpha.astype(np.float32), 600.0)


def _paint_oesophagus(canvas: Canvas, person: Person) -> None:
    rng, ca, t = person.rng, carina(person), person.tissues
    knots = []
    for z in (260.0, 200.0, ca[2], 60.0, 10.0, -25.0):
        sx, sy = person.spine(z)
        knots.append(
            (
                sx + float(np.interp(z, [-25, 60, 200], [22, 8, 4])),
                sy - float(np.interp(z, [-25, 60, 200], [34, 25, 18])),
                z,
            )
        )
    path = curve(knots, 30)
    found = tube(canvas, path, rng.uniform(6.0, 8.5), (1.25, 0.85, 1.0), margin=2.0)
    if found is None:
        return
    canvas.fill(found[0], found[1], t.muscle - 14, BODY)
    if rng.uniform() < 0.4:
        low = int(rng.integers(0, 20))
        lumen = tube(canvas, path[low : low + int(rng.integers(3, 9))], rng.uniform(2.0, 4.5))
        if lumen is not None:
            canvas.blend(lumen[0], canvas.coverage(lumen[1]), -700.0)
