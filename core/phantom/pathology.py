"""Nodules and missing or displaced lung."""

from __future__ import annotations

import numpy as np

from core.phantom.canvas import Canvas
from core.phantom.labels import BODY, LEFT_LUNG, RIGHT_LUNG
from core.phantom.person import Person
from core.phantom.shapes import ellipsoid, random_field
from core.phantom.trunk import Trunk


def paint_pathology(canvas: Canvas, person: Person, trunk: Trunk) -> None:
    """Paint what the spec asks for."""
    for value in (LEFT_LUNG, RIGHT_LUNG):
        _paint_nodules(canvas, person, trunk, value)
    for name in person.spec.missing:
        kind, side = name.split("_")
        value = LEFT_LUNG if side == "left" else RIGHT_LUNG
        _PAINTERS[kind](canvas, person, trunk, value)


def _paint_nodules(canvas: Canvas, person: Person, trunk: Trunk, value: int) -> None:
    rng = person.rng
    wanted = rng.binomial(person.spec.nodules, 0.5)
    inside = np.flatnonzero(trunk.lungs[value].ravel() < -8.0)
    for _ in range(int(wanted) if inside.size else 0):
        p = int(rng.choice(inside))
        center = np.array([c.ravel()[p] for c in (canvas.x, canvas.y, canvas.z)], dtype=float)
        radius = rng.uniform(3.0, 11.0)
        region = canvas.region(center - 2 * radius, center + 2 * radius)
        if region is None:
            continue
        rough = random_field(canvas.shape, rng, 5.0 / canvas.voxel_mm)[region.box]
        ball = (
            ellipsoid(region, center, radius * rng.uniform(0.8, 1.2, 3)) + np.float32(0.12 * radius) * rough
        )
        only = (canvas.labels[region.box] == value).astype(np.float32)
        canvas.fill(region, ball.astype(np.float32), rng.normal(30, 25), None, within=only)


def _effusion(canvas: Canvas, person: Person, trunk: Trunk, value: int) -> None:
    """Fluid collects behind: everything of the lung deeper than a sloping level becomes fluid."""
    rng = person.rng
    level = rng.uniform(-10, 70)
    slope = rng.uniform(0.0, 0.5)
    fluid = np.float32(level) + np.float32(slope) * np.maximum(canvas.z - np.float32(40.0), 0.0) - canvas.y
    rim = np.float32(-rng.uniform(2.0, 16.0)) - trunk.lungs[value]
    region = np.maximum(trunk.lungs[value], np.minimum(fluid, np.where(canvas.z < level, rim, 9.0)))
    collapsed = np.maximum(trunk.lungs[value], fluid + np.float32(rng.uniform(-25, 0)))
    canvas.fill(canvas.everything(), collapsed.astype(np.float32), rng.normal(25, 15), None)
    canvas.fill(canvas.everything(), region.astype(np.float32), person.tissues.fluid, BODY)


def _pneumothorax(canvas: Canvas, person: Person, trunk: Trunk, value: int) -> None:
    """Air collects in front; the lung falls back and its label with it."""
    rng = person.rng
    free = np.maximum(trunk.lungs[value], canvas.y + np.float32(rng.uniform(20, 60)))
    canvas.fill(canvas.everything(), free.astype(np.float32), -998.0, BODY)


def _resection(canvas: Canvas, person: Person, trunk: Trunk, value: int) -> None:
    """A removed lung leaves fluid and fat in its place."""
    fill = person.rng.choice([person.tissues.fluid, person.tissues.fat + 40])
    canvas.fill(canvas.everything(), trunk.lungs[value] - np.float32(1.0), float(fill), BODY)


def _collapse(canvas: Canvas, person: Person, trunk: Trunk, value: int) -> None:
    """A collapsed or solid lobe: above or below a tilted plane, airless tissue that is not counted as lung."""
    rng = person.rng
    normal = np.array([rng.normal(0, 0.3), rng.normal(0, 0.6), rng.choice([-1.0, 1.0])])
    normal /= np.linalg.norm(normal)
    through = (0.0, 0.0, 150.0 - rng.uniform(0, 50) if normal[2] > 0 else rng.uniform(-40, 30))
    plane = (
        np.float32(normal[0]) * canvas.x
        + np.float32(normal[1]) * canvas.y
        + np.float32(normal[2]) * (canvas.z - np.float32(through[2]))
    )
    bumps = np.float32(3.0) * random_field(canvas.shape, rng, 16.0 / canvas.voxel_mm)
    lobe = np.maximum(trunk.lungs[value] - np.float32(0.5), bumps - plane)
    canvas.fill(canvas.everything(), lobe.astype(np.float32), rng.normal(38, 15), BODY)


_PAINTERS = {
    "collapse": _collapse,
    "effusion": _effusion,
    "pneumothorax": _pneumothorax,
    "resection": _resection,
}
