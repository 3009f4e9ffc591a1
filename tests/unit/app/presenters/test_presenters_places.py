"""Jumping to a finding leads into it."""

from __future__ import annotations

import numpy as np
import pytest

from app.presenters.finding_places import places_of
from core.domain.geometry import VolumeGeometry
from core.domain.result import Finding
from core.domain.segmentation import Segmentation

SHAPE = (9, 21, 21)
# Oblique, so that indices and millimetres can't be mistaken for each other.
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
GEOMETRY = VolumeGeometry.from_axes(SHAPE, (0.5, 2.0, 5.0), TURN, (-10.0, 4.0, 100.0))


def finding(mask: np.ndarray, value: int = 1) -> Finding:
    """Return a finding of a mask, with its centroid."""
    k, j, i = (float(axis.mean()) for axis in np.nonzero(mask))
    return Finding("f1", "x", "segment", tuple(GEOMETRY.lps_of([[i, j, k]])[0]), segment_value=value)


def place_of(mask: np.ndarray) -> tuple[int, int, int]:
    """Return the index (k, j, i) that a finding of the mask leads to."""
    labels = mask.astype(np.uint8)
    places = places_of([finding(mask)], Segmentation(GEOMETRY, labels, ()))
    i, j, k = np.rint(GEOMETRY.ijk_of([places["f1"]])[0]).astype(int)
    return int(k), int(j), int(i)


def test_a_compact_segment_keeps_its_centroid() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:5, 4:9, 6:11] = True
    assert place_of(mask) == (3, 6, 8)


def test_a_ring_leads_to_its_nearest_voxel_in_millimetres() -> None:
    k, j, i = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ring = np.hypot(j - 10, i - 10)
    mask = (ring > 4) & (ring < 7) & (k >= 0)
    at = place_of(mask)
    assert mask[at]
    # Columns are four times as narrow as rows are apart: the way along a row is the shorter one.
    assert at[0] == 4 and at[1] == 10 and abs(at[2] - 10) == 5


def test_a_pair_in_other_slices_leads_into_the_nearer_one() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 3:6, 3:6] = True
    mask[7, 3:6, 3:6] = True
    assert mask[place_of(mask)]


@pytest.mark.parametrize("value", [None, 5])
def test_what_has_no_voxel_keeps_the_centroid_it_states(value: int | None) -> None:
    found = Finding("f1", "x", "class", (1.0, 2.0, 3.0), segment_value=value)
    empty = Segmentation(GEOMETRY, np.zeros(SHAPE, dtype=np.uint8), ())
    assert places_of([found], empty) == {"f1": (1.0, 2.0, 3.0)}
    assert places_of([Finding("f2", "x", "class", None)], None) == {}
