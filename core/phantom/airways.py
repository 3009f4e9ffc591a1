"""Trachea, bronchi and the trees of lung vessels."""

# ruff: noqa: RUF005 (tuples are added to arrays as vectors, they are not concatenated)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.phantom.canvas import AIR_HU, Canvas
from core.phantom.labels import AIRWAY, BODY, LEFT_LUNG, RIGHT_LUNG
from core.phantom.person import Person
from core.phantom.shapes import around, curve, segment_distance, tube
from core.phantom.trunk import Trunk

Points = NDArray[np.float64]


def carina(person: Person) -> Points:
    """Return the point where the trachea divides."""
    shift = person.extra.setdefault("carina_z", float(person.rng.normal(116, 6)))
    _, y = person.spine(shift)
    return np.array([-3.0, y - 25.0, shift])


def hilum(person: Person, side: float) -> Points:
    """Return the root of the left (+1) or right (−1) lung."""
    c = carina(person)
    return np.array([side * 40.0 + 2.0, c[1] + 4.0, c[2] - (28.0 if side > 0 else 22.0)])


def paint_airway(canvas: Canvas, person: Person) -> None:
    """Paint trachea and main bronchi (label) and the next bronchi (no label), with walls."""
    rng, c = person.rng, carina(person)
    wobble = rng.normal(0, 3, 2)
    trachea = curve([(0, min(c[1] - 14, 12), 330), (0, c[1] - 14, 265), (wobble[0], c[1] - 10, 215),
                     (wobble[1], c[1] - 4, 160), c], 20)  # fmt: skip
    radius = rng.uniform(7.2, 10.5)
    wall = rng.uniform(1.2, 2.0)
    right, left = hilum(person, -1.0), hilum(person, 1.0)
    right_main = curve([c, c + (-12, 2, -13), right + (6, 0, 4)], 7)
    left_main = curve([c, c + (16, 4, -14), left + (4, 2, 6)], 8)
    tubes = [(trachea, np.full(20, radius)), (right_main, np.linspace(radius * 0.78, radius * 0.6, 7)),
             (left_main, np.linspace(radius * 0.72, radius * 0.55, 8))]  # fmt: skip
    small: list[tuple[Points, Points]] = []
    for side, end in ((-1.0, right), (1.0, left)):
        for goal in ((30, -18, 42), (34, -30, -22), (26, 26, -46), (40, 20, 6)):
            tip = end + np.array([side * goal[0], goal[1], goal[2]]) + rng.normal(0, 5, 3)
            small.append(
                (curve([end + (-side * 6, 0, 4), end + (side * 8, 0, -4), tip], 7), np.linspace(4.4, 1.8, 7))
            )
    for points, radii in tubes + small:
        found = tube(canvas, points, np.asarray(radii) + wall)
        if found is not None:
            inside = canvas.coverage(found[1], float(radii[-1]) + wall)
            canvas.blend(found[0], inside, 25.0)
    for points, radii in small:
        found = tube(canvas, points, radii, margin=1.0)
        if found is not None:
            canvas.blend(found[0], canvas.coverage(found[1], float(np.mean(radii))), AIR_HU)
    for points, radii in tubes:
        found = tube(canvas, points, radii, margin=4.0)
        if found is not None:
            region, sdf = found
            canvas.blend(region, canvas.coverage(sdf), AIR_HU + 8)
            labels = canvas.labels[region.box]
            shell = (sdf < np.float32(wall + 0.5)) & (labels != LEFT_LUNG) & (labels != RIGHT_LUNG)
            labels[shell] = BODY
            labels[sdf < np.float32(0.4 * wall)] = AIRWAY


def grow_tree(root: Points, targets: Points, step_mm: float = 11.0) -> list[tuple[Points, Points, float]]:
    """Grow a branching tree from ``root`` to all targets.

    Each target, nearest first, is joined to the node that costs least in new length plus a share of the
    path back to the root; radii follow Murray's law from the number of end branches fed.

    Returns
    -------
    list of (start, end, relative radius)
        Relative radius 1 at the root. Source: C. D. Murray 1926 (cube law).
    """
    nodes = [root]
    parent = [-1]
    path = [0.0]
    for target in targets[np.argsort(np.linalg.norm(targets - root, axis=1))]:
        array = np.asarray(nodes)
        gap = np.linalg.norm(array - target, axis=1)
        best = int(np.argmin(gap + 0.35 * np.asarray(path)))
        count = max(1, int(np.ceil(gap[best] / step_mm)))
        previous = best
        for n in range(1, count + 1):
            nodes.append(array[best] + (target - array[best]) * n / count)
            parent.append(previous)
            path.append(path[previous] + float(gap[best]) / count)
            previous = len(nodes) - 1
    load = np.zeros(len(nodes))
    children = np.zeros(len(nodes), dtype=int)
    for p in parent[1:]:
        children[p] += 1
    for index in range(len(nodes) - 1, 0, -1):
        if children[index] == 0:
            load[index] += 1.0
        load[parent[index]] += load[index]
    relative = np.cbrt(load / max(load[0], 1.0))
    return [(nodes[parent[n]], nodes[n], float(relative[n])) for n in range(1, len(nodes))]


def _targets(canvas: Canvas, person: Person, sdf: NDArray[np.float32], count: int) -> Points:
    """Return random anatomical points at least 3 mm inside a lung."""
    inside = np.flatnonzero(sdf.ravel() < -3.0)
    if inside.size == 0:
        return np.zeros((0, 3))
    chosen = person.rng.choice(inside, size=min(count, inside.size), replace=False)
    return np.stack([c.ravel()[chosen] for c in (canvas.x, canvas.y, canvas.z)], axis=1).astype(np.float64)


def paint_lung_vessels(canvas: Canvas, person: Person, trunk: Trunk) -> None:
    """Paint an arterial and a venous tree in each lung; labels stay those of the lung."""
    rng, t, spec = person.rng, person.tissues, person.spec
    for value, side in ((LEFT_LUNG, 1.0), (RIGHT_LUNG, -1.0)):
        root = hilum(person, side)
        for hu, offset, share in ((t.venous, (0, -6, 6), 0.55), (t.arterial, (0, -12, -10), 0.45)):
            targets = _targets(canvas, person, trunk.lungs[value], int(spec.vessel_count * share))
            if len(targets) < 2:
                continue
            biggest = rng.uniform(6.0, 8.0)
            for a, b, relative in grow_tree(root + np.asarray(offset), targets):
                _paint_vessel(canvas, a, b, max(biggest * relative, 0.55 + 0.3 * spec.disease), hu)


def _paint_vessel(canvas: Canvas, a: Points, b: Points, radius: float, hu: float) -> None:
    region = canvas.region(*around(np.stack([a, b]), radius))
    if region is None:
        return
    distance, _ = segment_distance(region, a, b)
    alpha = canvas.coverage(distance - np.float32(radius), radius)
    target = canvas.hu[region.box]
    np.maximum(target, target + alpha * (np.float32(hu) - target), out=target)


def paint_fissures(canvas: Canvas, person: Person, trunk: Trunk) -> None:
    """Paint the oblique fissures and the right horizontal one as thin sheets."""
    rng = person.rng
    everything = canvas.everything()
    bump = 5.0 * np.sin(canvas.x / np.float32(23.0) + rng.uniform(0, 6)).astype(np.float32)
    for value in (LEFT_LUNG, RIGHT_LUNG):
        slope = rng.uniform(0.85, 1.15)
        sheet = (canvas.z - 78.0 - slope * (canvas.y - 6.0) + bump) / np.float32(np.hypot(1.0, slope))
        sheets = [np.abs(sheet)]
        if value == RIGHT_LUNG:
            horizontal = np.abs(canvas.z - 84.0 + bump * np.float32(0.6))
            sheets.append(np.where(sheet > 0, horizontal, 50.0).astype(np.float32))
        for distance in sheets:
            alpha = canvas.coverage(distance - np.float32(0.5), 0.5, dims=1) * (trunk.lungs[value] < 0)
            canvas.blend(everything, alpha.astype(np.float32), -120.0)
