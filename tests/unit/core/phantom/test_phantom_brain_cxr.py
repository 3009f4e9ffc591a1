"""Head and radiograph phantoms."""

from __future__ import annotations

import numpy as np
import pytest

from core.phantom.brain import FLUID, GREY_MATTER, SKULL, VENTRICLES, WHITE_MATTER, BrainSpec, make_brain
from core.phantom.cxr import CxrSpec, make_cxr
from core.phantom.labels import HEART, LEFT_LUNG, RIGHT_LUNG
from core.phantom.spec import Phantom, ThoraxSpec

SMALL = BrainSpec(seed=2, shape_kji=(64, 84, 72), spacing_kji_mm=(2.8, 2.8, 2.8))


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_brain(SMALL)


@pytest.fixture(scope="module")
def film() -> Phantom:
    return make_cxr(CxrSpec(seed=2, thorax=ThoraxSpec(vessel_count=40), pixels=(96, 96), pixel_mm=4.2))


def test_the_same_head_again(head: Phantom) -> None:
    assert np.array_equal(make_brain(SMALL).hu, head.hu)


def test_signals_are_ordered_as_on_t1(head: Phantom) -> None:
    median = {
        v: float(np.median(head.hu[head.labels == v])) for v in (GREY_MATTER, WHITE_MATTER, VENTRICLES, SKULL)
    }
    assert median[WHITE_MATTER] > median[GREY_MATTER] > median[VENTRICLES]
    assert median[SKULL] < median[GREY_MATTER]


def test_brain_volumes_are_human(head: Phantom) -> None:
    ml = head.geometry.voxel_volume_ml
    grey, white = ((head.labels == v).sum() * ml for v in (GREY_MATTER, WHITE_MATTER))
    assert 300 < grey < 900
    assert 250 < white < 800
    assert (head.labels == FLUID).any()


def test_ventricles_lie_in_the_middle(head: Phantom) -> None:
    kji = np.argwhere(head.labels == VENTRICLES)
    x, y, _ = head.geometry.lps_of([kji.mean(axis=0)[::-1]])[0]
    assert abs(x) < 8
    assert abs(y) < 30


def test_the_film_shows_the_heart_on_the_patients_left(film: Phantom) -> None:
    assert film.hu.shape == film.labels.shape == (1, 96, 96)
    places = {}
    for value in (LEFT_LUNG, RIGHT_LUNG, HEART):
        kji = np.argwhere(film.labels == value)
        places[value] = film.geometry.lps_of([kji.mean(axis=0)[::-1]])[0]
    assert places[LEFT_LUNG][0] > 0 > places[RIGHT_LUNG][0]
    assert places[HEART][0] > 0
    assert film.geometry.axis_codes()[:2] == "LI"


def test_lungs_are_darker_than_the_mediastinum(film: Phantom) -> None:
    lung = np.isin(film.labels, (LEFT_LUNG, RIGHT_LUNG))
    assert np.median(film.hu[lung]) < np.median(film.hu[film.labels == HEART])
    assert film.hu.min() >= 0
    assert film.hu.max() < 2**12
