"""Distances, tubes, partial volume and random fields."""

from __future__ import annotations

import numpy as np

from core.phantom.airways import grow_tree
from core.phantom.canvas import Canvas
from core.phantom.shapes import Profile, ellipsoid, random_field, superellipse, tube


def canvas(n: int = 40, mm: float = 1.0) -> Canvas:
    matrix = np.zeros((3, 4))
    for axis, kji in enumerate((2, 1, 0)):
        matrix[axis, kji] = mm
        matrix[axis, 3] = -(n - 1) / 2 * mm
    return Canvas((n, n, n), matrix)


def test_a_ball_has_its_volume_with_partial_volume() -> None:
    c = canvas()
    c.fill(c.everything(), ellipsoid(c.everything(), (0, 0, 0), (10, 10, 10)), 0.0, 3)
    share = (c.hu + 1000.0) / 1000.0
    assert abs(float(share.sum()) / (4 / 3 * np.pi * 1000) - 1) < 0.02
    assert abs(int((c.labels == 3).sum()) / (4 / 3 * np.pi * 1000) - 1) < 0.03


def test_a_thin_tube_contributes_by_its_cross_section() -> None:
    c = canvas(mm=3.0)
    found = tube(c, np.array([(-30.0, 0.7, 0.4), (30.0, 0.7, 0.4)]), 0.8)
    assert found is not None
    alpha = c.coverage(found[1], 0.8)
    per_mm = float(alpha.sum()) * 27.0 / 60.0
    assert 0.4 * np.pi * 0.64 < per_mm < 1.8 * np.pi * 0.64


def test_superellipse_is_zero_on_its_outline() -> None:
    angle = np.linspace(0, 2 * np.pi, 50)
    x = 30 * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / 2.5)
    y = 20 * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / 2.5)
    distance = superellipse(x.astype(np.float32), y.astype(np.float32), 30.0, 20.0, 2.5)
    assert np.abs(distance).max() < 0.01


def test_shapes_outside_the_grid_are_skipped() -> None:
    c = canvas()
    assert c.region((500, 0, 0), (510, 5, 5)) is None
    assert tube(c, np.array([(500.0, 0, 0), (510.0, 0, 0)]), 2.0) is None


def test_profiles_interpolate_their_knots() -> None:
    profile = Profile({0.0: (10.0,), 100.0: (20.0,)}, smooth_mm=1.0)
    assert abs(float(profile.at(50.0)[0]) - 15.0) < 0.2
    assert float(profile.at(1000.0)[0]) == np.float32(20.0)


def test_random_fields_have_unit_deviation_and_repeat() -> None:
    one = random_field((40, 50, 60), np.random.default_rng(1), 5.0)
    two = random_field((40, 50, 60), np.random.default_rng(1), 5.0)
    assert np.array_equal(one, two)
    assert 0.4 < one.std() < 1.4
    assert np.abs(np.diff(one, axis=0)).max() < one.std() * 1.5


def test_trees_reach_all_targets_and_thin_out() -> None:
    targets = np.random.default_rng(0).uniform(-50, 50, (30, 3))
    branches = grow_tree(np.zeros(3), targets)
    ends = np.array([b for _, b, _ in branches])
    for target in targets:
        assert np.abs(ends - target).sum(axis=1).min() < 1e-9
    assert max(r for _, _, r in branches) <= 1.0
    assert min(r for _, _, r in branches) < 0.5
