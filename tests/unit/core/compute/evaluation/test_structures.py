"""Overlap and surface metrics against MONAI, SimpleITK and the published values for two spheres."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK
import torch
from monai.metrics import DiceMetric, compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from core.compute.evaluation import surface
from core.compute.evaluation.structures import aggregate, score_case
from core.compute.evaluation.surface import diagonal_mm, surface_distances
from core.compute.evaluation.surface_elements import element_sizes

SPACING = (2.0, 1.0, 1.0)


def ball(center: tuple[int, ...], radius: float = 15, size: int = 50) -> np.ndarray:
    grid = np.indices((size,) * len(center))
    return sum((g - c) ** 2 for g, c in zip(grid, center, strict=True)) <= radius**2


@pytest.fixture(scope="module")
def spheres() -> tuple[np.ndarray, np.ndarray]:
    return ball((25, 25, 25)), ball((28, 25, 25))


def test_two_spheres_have_the_reference_values_in_both_definitions(spheres: tuple) -> None:
    a, b = spheres
    area, voxel = surface_distances(a, b, SPACING, "area"), surface_distances(a, b, SPACING, "voxel")
    assert area.hausdorff() == voxel.hausdorff() == 6.0
    assert round(area.hausdorff(95), 4) == 4.1231
    assert round(voxel.hausdorff(95), 4) == 4.5826
    assert round(area.surface_dice(1.0), 4) == 0.5721
    assert round(voxel.surface_dice(1.0), 4) == 0.4244
    row = score_case(a.astype(np.uint8), b.astype(np.uint8), {"ball": 1}, SPACING)[0]
    assert round(row.dice, 4) == 0.8513
    assert (row.hd95_mm, row.nsd) == (area.hausdorff(95), area.surface_dice(1.0))
    assert (row.hd95_voxel_mm, row.nsd_voxel) == (voxel.hausdorff(95), voxel.surface_dice(1.0))


def test_the_voxel_definition_equals_monai(spheres: tuple) -> None:
    rng = np.random.default_rng(0)
    a = spheres[0] & (rng.random(spheres[0].shape) < 0.97)
    b = spheres[1]
    mine = surface_distances(a, b, SPACING, "voxel")
    ta, tb = (torch.from_numpy(x[None, None].astype(np.float32)) for x in (a, b))
    for percentile in (100.0, 95.0, 80.0):
        theirs = compute_hausdorff_distance(ta, tb, True, percentile=percentile, spacing=SPACING)
        assert mine.hausdorff(percentile) == pytest.approx(float(theirs), abs=1e-5)
    theirs = compute_surface_dice(ta, tb, [1.0], include_background=True, spacing=SPACING)
    assert mine.surface_dice(1.0) == pytest.approx(float(theirs), abs=1e-6)


def test_hausdorff_equals_simpleitk(spheres: tuple) -> None:
    images = []
    for mask in spheres:
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(SPACING[::-1])
        images.append(image)
    found = SimpleITK.HausdorffDistanceImageFilter()
    found.Execute(*images)
    assert surface_distances(*spheres, SPACING).hausdorff() == pytest.approx(found.GetHausdorffDistance())


def test_surface_elements_have_the_areas_of_marching_cubes() -> None:
    sizes = element_sizes((1.0, 1.0, 1.0))
    corner = 3**0.5 / 8
    assert sizes[0b00000001] == pytest.approx(corner)  # one corner: a triangle between three edge midpoints
    assert sizes[0b00000011] == pytest.approx(2**0.5 / 2)  # an edge: a slanted rectangle
    assert sizes[0b00001111] == pytest.approx(1.0)  # a face: a square
    assert sizes[0b10000001] == pytest.approx(2 * corner)  # opposite corners: two triangles
    assert sizes[0b00010111] == pytest.approx(3 * 3**0.5 / 4)  # a corner and its neighbours: a hexagon
    np.testing.assert_allclose(sizes, sizes[::-1], atol=1e-12)  # a pattern and its complement
    assert sizes[0] == sizes[255] == 0
    stretched = element_sizes((2.0, 1.0, 1.0))
    assert stretched[0b00001111] == pytest.approx(1.0)  # the square across the long axis keeps its size
    assert stretched[0b01010101] == pytest.approx(2.0)  # the one along it doubles


def test_contour_elements_have_the_lengths_of_marching_squares() -> None:
    sizes = element_sizes((3.0, 4.0))
    assert sizes[1] == sizes[2] == sizes[4] == sizes[8] == pytest.approx(2.5)
    assert sizes[0b0110] == pytest.approx(5.0)
    assert sorted({round(float(sizes[c]), 6) for c in (0b0011, 0b0101)}) == [3.0, 4.0]


def test_the_surface_of_a_box_has_its_area_less_the_cut_edges() -> None:
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[2:10, 2:10, 2:10] = True
    found = surface_distances(mask, mask, (1.0, 1.0, 1.0))
    # Six faces of 7 × 7 cells, twelve edges of 7 slanted rectangles, eight corner triangles.
    expected = 6 * 49 + 12 * 7 * 2**0.5 / 2 + 8 * 3**0.5 / 8
    assert found.weight_to_truth.sum() == pytest.approx(expected)


def test_search_tree_and_distance_map_give_the_same_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = ball((25, 25, 25), 6) | ball((8, 9, 10), 4), ball((26, 24, 30), 9)
    spacing = (2.7, 0.7, 0.7)
    found = []
    for below in (0, 10**9):
        monkeypatch.setattr(surface, "_MAP_BELOW", below)
        found.append(surface_distances(a, b, spacing))
    np.testing.assert_allclose(found[0].to_truth, found[1].to_truth, rtol=1e-12)
    np.testing.assert_allclose(found[0].to_predicted, found[1].to_predicted, rtol=1e-12)


def test_two_dimensions_with_uneven_spacing() -> None:
    a, b = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    a[5:10, 5:15], b[7:12, 5:15] = True, True
    for definition in ("area", "voxel"):
        found = surface_distances(a, b, (3.0, 0.5), definition)
        assert found.hausdorff() == pytest.approx(6.0)
        assert surface_distances(a, a, (3.0, 0.5), definition).mean() == 0.0


def test_a_mask_at_the_edge_of_the_image_has_a_surface_there() -> None:
    full = np.ones((6, 6, 6), dtype=bool)
    found = surface_distances(full, full, (1.0, 1.0, 1.0), "voxel")
    assert len(found.to_truth) == 6**3 - 4**3


def test_dice_equals_monai_for_many_labels() -> None:
    rng = np.random.default_rng(1)
    p, t = rng.integers(0, 4, (2, 9, 10, 11)).astype(np.uint8)
    rows = score_case(p, t, {"a": 1, "b": 2, "c": 3}, (1.0, 1.0, 1.0))
    one_hot = [
        torch.from_numpy(np.stack([x == v for v in range(4)])[None].astype(np.float32)) for x in (p, t)
    ]
    theirs = DiceMetric(include_background=False, reduction="none")(*one_hot)[0].numpy()
    np.testing.assert_allclose([r.dice for r in rows], theirs, atol=1e-6)
    row, mask_p, mask_t = rows[1], p == 2, t == 2
    assert row.sensitivity == pytest.approx((mask_p & mask_t).sum() / mask_t.sum())
    assert row.specificity == pytest.approx((~mask_p & ~mask_t).sum() / (~mask_t).sum())
    assert row.precision == pytest.approx((mask_p & mask_t).sum() / mask_p.sum())
    assert row.iou == pytest.approx(row.dice / (2 - row.dice))


def test_volume_error_is_signed_in_ml_and_percent() -> None:
    p, t = np.zeros((2, 10, 10, 10), np.uint8)
    p[:5], t[:4] = 1, 1
    row = score_case(p, t, {"a": 1}, (2.0, 1.0, 1.0))[0]
    assert row.volume_error_ml == pytest.approx(0.2)
    assert row.volume_error_percent == pytest.approx(25.0)


def three_cases() -> list:
    truth, empty = ball((25, 25, 25)).astype(np.uint8), np.zeros((50, 50, 50), np.uint8)
    pairs = [(truth, truth), (empty, truth), (empty, empty)]
    return [
        row for n, (p, t) in enumerate(pairs) for row in score_case(p, t, {"ball": 1}, SPACING, case=f"{n}")
    ]


def test_a_missed_structure_counts_and_never_drops_out() -> None:
    rows = three_cases()
    assert rows[1].missed and rows[1].dice == 0 and rows[1].nsd == 0
    assert rows[1].hd95_mm == rows[1].msd_mm == float("inf")
    found = aggregate(rows[:2], ["ball"], resamples=200)
    ball_metrics = found.per_class["ball"]
    diagonal = diagonal_mm((50, 50, 50), SPACING)
    assert ball_metrics["hd95_mm"].value == pytest.approx(diagonal / 2)
    assert ball_metrics["hd95_diagonal_mean_mm"].n == 2
    assert ball_metrics["hd95_median_mm"].value == float("inf")
    assert ball_metrics["dice"].value == 0.5
    assert (ball_metrics["missed_share"].value, ball_metrics["missed_share"].n) == (0.5, 2)
    assert found.metrics["mean_hd95_mm"].value == pytest.approx(diagonal / 2)
    assert found.counts["ball"]["missed"] == 1


def test_a_structure_in_neither_map_scores_one_and_is_counted() -> None:
    row = three_cases()[2]
    assert row.absent and row.dice == row.iou == row.nsd == 1.0
    assert row.hd95_mm == row.msd_mm == 0.0
    counts = aggregate([row], ["ball"], resamples=10).counts["ball"]
    assert counts == {"cases": 1, "present": 0, "missed": 0, "invented": 0, "absent": 1}


def test_an_invented_structure_has_no_sensitivity_and_dice_zero() -> None:
    truth = np.zeros((50, 50, 50), np.uint8)
    row = score_case(ball((25, 25, 25)).astype(np.uint8), truth, {"ball": 1}, SPACING)[0]
    assert row.invented and row.dice == 0 and row.precision == 0
    assert np.isnan(row.sensitivity) and np.isnan(row.volume_error_percent)
    assert row.hd95_mm == float("inf")


def test_the_rows_are_json_without_nan_in_the_way_of_readers() -> None:
    found = aggregate(three_cases(), ["ball"], resamples=20).as_dict()
    assert found["rows"][1]["hd95_mm"] == "inf"
    assert "Infinity" not in json.dumps(found["rows"])


def test_cases_of_one_patient_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for n in range(40):
        t = np.zeros((8, 8, 8), np.uint8)
        t[2:6, 2:6, 2:6] = 1
        shift = 1 if (n // 10) % 2 else 0
        p = np.roll(t, shift, axis=0)
        p[0, 0, 0] = rng.integers(0, 2)
        rows += score_case(p, t, {"a": 1}, (1.0, 1.0, 1.0), case=str(n))
    alone = aggregate(rows, ["a"], resamples=500).per_class["a"]["dice"]
    who = {str(n): str(n // 10) for n in range(40)}
    together = aggregate(rows, ["a"], patients=who, resamples=500).per_class["a"]["dice"]
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="don't fit"):
        score_case(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), {"a": 1}, (1.0, 1.0))
    with pytest.raises(ValueError, match="don't fit"):
        surface_distances(np.zeros((2, 2), bool), np.zeros((2, 2), bool), (1.0, 1.0, 1.0))
