from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
import torch

from core.compute.inference.grids import model_grid
from core.compute.inference.prepare import prepare_image, prepare_volume
from core.compute.training.data.prepare import labels_on_model_grid, preparation_manifest, prepare_case
from core.domain.errors import InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.recipes.cases import Case
from core.recipes.reading import read_case
from tests.fakes.training_cases import (
    ball_and_slab,
    picture_recipe,
    volume_recipe,
    write_pictures,
    write_volume,
)


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"spacing_ijk_mm": [2.0, 2.0, 2.0], "intensity": [{"op": "zscore"}]},
        {"orientation": "RAS", "antialias": True, "spacing_ijk_mm": [3.0, 3.0, 4.0]},
        {
            "conform": {"size": 32, "fill": -1000.0},
            "intensity": [{"op": "clip", "low": -1000.0, "high": 400.0}],
        },
    ],
)
def test_a_volume_is_prepared_bit_for_bit_as_the_application_does(tmp_path, preprocessing):
    case = write_volume(tmp_path, "one")
    recipe = volume_recipe(preprocessing=preprocessing)
    sample = prepare_case(case, recipe)
    volume = read_case(case, recipe.data).volumes["image"]
    expected = prepare_volume(volume, preparation_manifest(recipe))
    assert torch.equal(sample.image, expected.tensor)
    assert sample.image.dtype == torch.float32
    assert sample.target.shape == sample.image.shape[1:]
    assert sample.spacing_mm == pytest.approx(expected.grid.model.spacing_kji_mm)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_prepared_bit_for_bit_as_the_application_does(tmp_path, channels):
    case = write_pictures(tmp_path)[0]
    recipe = picture_recipe(preprocessing={"channels": channels})
    sample = prepare_case(case, recipe)
    volume = read_case(case, recipe.data).volumes["image"]
    assert torch.equal(sample.image, prepare_image(volume, preparation_manifest(recipe))[0])
    assert sample.image.shape == (channels, 24, 24)
    assert sample.target == 0


def test_labels_follow_the_image_as_simpleitk_resamples_them_by_the_nearest_voxel():
    _, labels = ball_and_slab((20, 24, 28), 3)
    geometry = VolumeGeometry.from_axes(
        shape_kji=labels.shape,
        spacing_ijk_mm=(1.5, 1.5, 3.0),
        direction_ijk=np.eye(3),
        origin_lps_mm=(3.0, -4.0, 9.0),
    )
    recipe = volume_recipe(preprocessing={"spacing_ijk_mm": [2.1, 1.9, 2.3]})
    grid = model_grid(geometry, recipe.preprocessing)
    ours = labels_on_model_grid(labels, grid)
    image = SimpleITK.GetImageFromArray(labels)
    image.SetSpacing((1.5, 1.5, 3.0))
    image.SetOrigin((3.0, -4.0, 9.0))
    like = SimpleITK.Image([int(n) for n in grid.model.shape_ijk], SimpleITK.sitkUInt8)
    like.SetSpacing([float(n) for n in grid.model.spacing_ijk_mm])
    like.SetOrigin([float(n) for n in grid.model.origin_lps_mm])
    theirs = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(image, like, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 255.0)
    )
    inside = theirs != 255  # SimpleITK ends half a voxel before the edge; ours continues it
    assert inside.mean() > 0.8
    assert np.array_equal(ours[inside], theirs[inside])
    assert set(np.unique(ours)) <= set(np.unique(labels))


def test_label_and_image_stay_together_when_axes_are_turned(tmp_path):
    case = write_volume(tmp_path, "one")
    recipe = volume_recipe(preprocessing={"orientation": "IPR", "spacing_ijk_mm": None, "intensity": []})
    sample = prepare_case(case, recipe)
    bright = sample.image[0] > 230
    assert float((bright == (sample.target == 3)).float().mean()) > 0.999


def test_outside_of_a_conformed_series_is_background(tmp_path):
    case = write_volume(tmp_path, "one")
    recipe = volume_recipe(
        preprocessing={
            "conform": {"size": 48, "fill": -3000.0},
            "spacing_ijk_mm": [2.0, 2.0, 2.0],
            "intensity": [],
        }
    )
    sample = prepare_case(case, recipe)
    outside = sample.image[0] == -3000
    assert outside.any()
    assert not sample.target[outside].any()


def test_contrasts_are_stacked_in_the_order_of_the_recipe(tmp_path):
    a, b = write_volume(tmp_path, "a", seed=1), write_volume(tmp_path, "b", seed=2)
    case = replace(a, images={"t1": a.images["image"], "t2": b.images["image"]})
    first = prepare_case(case, volume_recipe(data={"channels": ["t1", "t2"]}))
    second = prepare_case(case, volume_recipe(data={"channels": ["t2", "t1"]}))
    assert first.image.shape[0] == 2
    assert torch.equal(first.image, second.image.flip(0))


def test_a_missing_contrast_is_refused_or_zero_for_the_network(tmp_path):
    case = write_volume(tmp_path, "a", channel="t2")
    sample = prepare_case(case, volume_recipe(data={"channels": ["t1", "t2"], "missing": "zeros"}))
    assert not sample.image[0].any()
    assert sample.image[1].any()
    with pytest.raises(InputError, match="t1"):
        prepare_case(case, volume_recipe(data={"channels": ["t1", "t2"]}))


def test_a_label_that_the_recipe_does_not_name_is_refused(tmp_path):
    case = write_volume(tmp_path, "a")
    recipe = volume_recipe(bundle={"labels": [{"value": 1, "name": "ball"}]})
    with pytest.raises(InputError, match="value 3") as refused:
        prepare_case(case, recipe)
    assert refused.value.code == "training.target"


def test_a_class_that_the_recipe_does_not_name_is_refused(tmp_path):
    case = replace(write_pictures(tmp_path)[0], label=7)
    with pytest.raises(InputError, match="class 7"):
        prepare_case(case, picture_recipe())


def test_what_the_application_refuses_is_not_trained_on(tmp_path):
    import nibabel

    path = tmp_path / "nan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((8, 8, 8), np.nan, dtype=np.float32), np.eye(4)), path)
    case = replace(write_volume(tmp_path, "a", (8, 8, 8)), images={"image": (path,)})
    with pytest.raises((SafetyError, InputError)):
        prepare_case(case, volume_recipe())


def test_a_phantom_needs_no_files():
    recipe = volume_recipe(
        data={"source": {"name": "phantoms", "count": 1, "holdout": 0, "spacing_mm": 12.0}},
        bundle={"labels": [{"value": n, "name": f"n{n}"} for n in range(1, 8)]},
        preprocessing={"spacing_ijk_mm": None},
    )
    sample = prepare_case(Case("phantom-00000", "p", seed=0), recipe)
    assert sample.image.shape[1:] == sample.target.shape
    assert int(sample.target.max()) == 7
