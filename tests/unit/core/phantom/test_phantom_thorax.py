"""The thorax phantom is reproducible and its anatomy stands where it does in a person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.domain.errors import InputError
from core.phantom.labels import AIRWAY, BODY, BONES, HEART, LEFT_LUNG, LIVER, RIGHT_LUNG, THORAX_SEGMENTS
from core.phantom.population import random_spec
from core.phantom.spec import Phantom, ThoraxSpec
from core.phantom.thorax import make_thorax

SPEC = ThoraxSpec(seed=3, shape_kji=(96, 90, 100), spacing_kji_mm=(4.5, 4.0, 4.0), center_mm=(0.0, 4.0, 20.0))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_thorax(SPEC)


def centroid(phantom: Phantom, value: int) -> np.ndarray:
    kji = np.argwhere(phantom.labels == value)
    return phantom.geometry.lps_of([kji.mean(axis=0)[::-1]])[0]


def volume_ml(phantom: Phantom, value: int) -> float:
    return float((phantom.labels == value).sum() * phantom.geometry.voxel_volume_ml)


def test_the_same_spec_gives_the_same_voxels(phantom: Phantom) -> None:
    again = make_thorax(SPEC)
    assert np.array_equal(again.hu, phantom.hu)
    assert np.array_equal(again.labels, phantom.labels)


def test_another_seed_gives_another_person(phantom: Phantom) -> None:
    other = make_thorax(replace(SPEC, seed=4))
    assert (other.labels != phantom.labels).mean() > 0.01


def test_shape_types_and_orientation(phantom: Phantom) -> None:
    assert phantom.hu.shape == phantom.labels.shape == SPEC.shape_kji
    assert phantom.hu.dtype == np.int16
    assert phantom.labels.dtype == np.uint8
    assert phantom.geometry.axis_codes() == "LPS"
    assert set(np.unique(phantom.labels)) == set(range(8))
    assert [s.value for s in phantom.segments] == list(range(1, 8))


def test_left_is_plus_x_and_right_is_minus_x(phantom: Phantom) -> None:
    assert centroid(phantom, LEFT_LUNG)[0] > 40
    assert centroid(phantom, RIGHT_LUNG)[0] < -40
    assert centroid(phantom, LIVER)[0] < -20
    assert centroid(phantom, HEART)[0] > 5


def test_organs_stand_above_and_before_one_another(phantom: Phantom) -> None:
    lung_z = (centroid(phantom, LEFT_LUNG)[2] + centroid(phantom, RIGHT_LUNG)[2]) / 2
    assert centroid(phantom, LIVER)[2] < centroid(phantom, HEART)[2] < centroid(phantom, AIRWAY)[2]
    assert lung_z > centroid(phantom, LIVER)[2] + 60
    assert centroid(phantom, HEART)[1] < centroid(phantom, AIRWAY)[1]


def test_volumes_are_those_of_an_adult(phantom: Phantom) -> None:
    assert 1000 < volume_ml(phantom, LEFT_LUNG) < 3600
    assert 1200 < volume_ml(phantom, RIGHT_LUNG) < 4000
    assert 350 < volume_ml(phantom, HEART) < 1100
    assert 800 < volume_ml(phantom, LIVER) < 2600
    assert 20 < volume_ml(phantom, AIRWAY) < 120
    assert 600 < volume_ml(phantom, BONES) < 3500


def test_tissues_have_their_hounsfield_units(phantom: Phantom) -> None:
    median = {value: float(np.median(phantom.hu[phantom.labels == value])) for value in range(8)}
    assert -950 < median[LEFT_LUNG] < -700
    assert abs(median[LEFT_LUNG] - median[RIGHT_LUNG]) < 60
    assert median[AIRWAY] < -850
    assert 20 < median[HEART] < 80
    assert 20 < median[LIVER] < 90
    assert median[BONES] > 130
    assert median[0] < -950
    assert np.percentile(phantom.hu[phantom.labels == BODY], 10) < -80


def test_everything_inside_is_surrounded_by_body(phantom: Phantom) -> None:
    """Between the outside and any organ there is skin: no organ voxel touches the outside in its slice."""
    from scipy import ndimage

    outside = phantom.labels == 0
    near = ndimage.binary_dilation(outside, structure=np.ones((1, 3, 3)))
    for value in (LEFT_LUNG, RIGHT_LUNG, HEART, LIVER):
        touching = near & (phantom.labels == value)
        assert touching.sum() < 0.001 * (phantom.labels == value).sum()


def test_contrast_medium_brightens_blood(phantom: Phantom) -> None:
    bright = make_thorax(replace(SPEC, contrast="arterial"))
    heart = (phantom.labels == HEART) & (bright.labels == HEART)
    assert np.median(bright.hu[heart]) > np.median(phantom.hu[heart]) + 40


def test_a_resected_lung_is_gone_and_the_other_stays() -> None:
    small = replace(SPEC, shape_kji=(50, 60, 66), spacing_kji_mm=(6.0, 6.0, 6.0), missing=("resection_left",))
    labels = make_thorax(small).labels
    assert (labels == LEFT_LUNG).sum() < 0.05 * (labels == RIGHT_LUNG).sum()


def test_noise_and_kernel_change_the_picture_not_the_truth() -> None:
    small = replace(SPEC, shape_kji=(20, 64, 70), spacing_kji_mm=(5.0, 5.5, 5.5), table=False)
    quiet, loud = make_thorax(replace(small, noise_hu=2.0)), make_thorax(replace(small, noise_hu=40.0))
    assert np.array_equal(quiet.labels, loud.labels)
    liver = quiet.labels == LIVER
    assert loud.hu[liver].std() > quiet.hu[liver].std() + 10


def test_thick_slices_are_averages() -> None:
    thick = make_thorax(replace(SPEC, shape_kji=(12, 64, 70), spacing_kji_mm=(10.0, 3.0, 3.0)))
    assert thick.hu.shape == thick.labels.shape == (12, 64, 70)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_random_people_are_whole(seed: int) -> None:
    spec = random_spec(seed, spacing_mm=6.0)
    phantom = make_thorax(spec)
    assert phantom.hu.shape == spec.shape_kji
    assert (phantom.labels == BODY).sum() > 0.02 * phantom.labels.size
    assert phantom.hu.min() >= -1024


def test_random_specs_repeat() -> None:
    assert random_spec(5) == random_spec(5)
    assert random_spec(5) != random_spec(6)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        make_thorax(replace(SPEC, shape_kji=(0, 10, 10)))
    assert caught.value.code == "phantom.spec"


def test_codes_are_snomed() -> None:
    from pydicom.sr._concepts_dict import concepts

    known = {code for names in concepts["SCT"].values() for code in names}
    # Left and right lung structure are SNOMED CT concepts that pydicom's excerpt lacks.
    for segment in THORAX_SEGMENTS:
        assert segment.code.scheme == "SCT"
        assert segment.code.value in known | {"44029006", "3341006"}
