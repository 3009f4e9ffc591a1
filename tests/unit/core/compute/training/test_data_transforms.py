import albumentations
import numpy as np
import pytest
import torch
from monai import transforms as monai_transforms

from core.compute.training.data.catalogue import NAMED
from core.compute.training.data.passthrough import ALBUMENTATIONS, MONAI_INTENSITY, MONAI_SPATIAL
from core.compute.training.data.prepare import Sample
from core.compute.training.data.transforms import Pipeline, build_transforms, transform_names
from core.domain.errors import InputError
from core.recipes.cases import Part
from tests.fakes.training_cases import ball_and_slab, picture_recipe, volume_recipe

SEED = (5, 0, 3, 0)
_SPATIAL = ["rand_affine", "rand_elastic", "rand_flip", "rand_rotate", "rand_rotate90", "rand_zoom"]
_EVIDENT = {"rand_zoom": {"low": 0.5, "high": 0.7}}
_ANYWHERE = sorted(set(NAMED) - {"rand_contrast_agent", "rand_picture", "rand_thorax_appearance", "resize"})


def pipeline(*entries: tuple[str, dict], dims: int = 3, part: Part = Part.TRAIN) -> Pipeline:
    chosen = {part.value: [{"name": name, "params": params} for name, params in entries]}
    make = volume_recipe if dims == 3 else picture_recipe
    return build_transforms(make(transforms=chosen), part)


def volume(shape: tuple[int, int, int] = (24, 24, 24), seed: int = 1) -> Sample:
    hu, labels = ball_and_slab(shape, seed)
    return Sample(torch.from_numpy(hu.astype(np.float32) / 1000)[None], torch.from_numpy(labels), "one")


def coded(shape: tuple[int, int, int] = (32, 32, 32)) -> Sample:
    """A volume whose image says the label: 0, 10 or 30."""
    _, labels = ball_and_slab(shape, 2)
    return Sample(torch.from_numpy(labels * np.float32(10))[None], torch.from_numpy(labels), "coded")


def picture(size: int = 32) -> Sample:
    return Sample(torch.rand(1, size, size, generator=torch.Generator().manual_seed(1)), 2, "picture")


@pytest.mark.parametrize("name", _ANYWHERE)
@pytest.mark.parametrize("dims", [2, 3])
def test_a_transform_is_a_pure_function_of_sample_and_seed(name, dims):
    params = {"probability": 1.0, **_EVIDENT.get(name, {})}
    change = pipeline((name, params), dims=dims)
    sample = volume() if dims == 3 else picture()
    before = sample.image.clone()
    np.random.seed(1)
    torch.manual_seed(1)
    first = change(sample, SEED)
    np.random.seed(2)
    torch.manual_seed(2)
    change(sample, (5, 0, 9, 0))
    again = pipeline((name, params), dims=dims)(sample, SEED)
    assert torch.equal(first.image, again.image)
    assert torch.equal(sample.image, before)
    assert not torch.equal(first.image, before)
    assert first.image.dtype == torch.float32
    assert type(first.image) is torch.Tensor
    if dims == 3:
        assert torch.equal(first.target, again.target)
        assert first.target.dtype == torch.uint8
    else:
        assert first.target == 2


@pytest.mark.parametrize("name", sorted(set(_ANYWHERE) - {"clahe"}))
def test_another_seed_gives_another_result(name):
    change = pipeline((name, {"probability": 1.0, **_EVIDENT.get(name, {})}))
    results = [change(volume(), (5, 0, number, 0)).image for number in range(4)]
    assert any(not torch.equal(results[0], other) for other in results[1:]) or name == "rand_flip"


def test_a_transform_does_not_move_the_random_numbers_of_others():
    change = pipeline(("rand_affine", {}), ("rand_noise", {}))
    np.random.seed(4)
    torch.manual_seed(4)
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    change(volume(), SEED)
    assert np.array_equal(np.random.get_state()[1], numpy_before)
    assert torch.equal(torch.get_rng_state(), torch_before)


@pytest.mark.parametrize("name", _SPATIAL)
def test_image_and_label_map_move_together_and_no_label_is_invented(name):
    change = pipeline((name, {"probability": 1.0}))
    for number in range(3):
        sample = change(coded(), (1, 0, number, 0))
        assert set(sample.target.unique().tolist()) <= {0, 1, 3}
        near = (sample.image[0] / 10 - sample.target).abs() < 0.5
        assert float(near.float().mean()) > 0.93  # voxels at surfaces are between two labels
        assert int((sample.target == 1).sum()) > 500


@pytest.mark.parametrize(
    ("axes", "array_axes"), [(["i"], (2,)), (["j"], (1,)), (["k"], (0,)), (["k", "i"], (0, 2))]
)
def test_a_flip_mirrors_the_array_along_the_named_axes(axes, array_axes):
    sample = volume()
    flipped = pipeline(("rand_flip", {"probability": 1.0, "axes": axes}))(sample, SEED)
    assert np.array_equal(flipped.image[0], np.flip(sample.image[0].numpy(), array_axes))
    assert np.array_equal(flipped.target, np.flip(sample.target.numpy(), array_axes))


def test_a_flip_happens_as_often_as_its_probability_says():
    change = pipeline(("rand_flip", {"probability": 0.25}), dims=2)
    sample = picture()
    flips = sum(
        not torch.equal(change(sample, (5, 0, number, 0)).image, sample.image) for number in range(400)
    )
    assert 70 < flips < 130


def test_a_rotation_in_the_plane_keeps_each_slice_by_itself():
    sample = coded()
    image = torch.zeros_like(sample.image)
    image[0, 12] = sample.image[0, 12]
    turned = pipeline(("rand_rotate", {"probability": 1.0, "degrees": 30.0}))(
        Sample(image, sample.target), SEED
    )
    others = torch.arange(32) != 12
    assert float(turned.image[0, others].abs().max()) < 1e-3
    assert not torch.allclose(turned.image[0, 12], image[0, 12])


@pytest.mark.parametrize("dims", [2, 3])
def test_an_elastic_displacement_is_as_large_as_its_magnitude_says(dims):
    size = (48,) * dims
    ramp = torch.arange(48, dtype=torch.float32).expand(1, *size)
    label = torch.zeros(size, dtype=torch.uint8)
    sample = Sample(ramp, label if dims == 3 else 0)
    change = pipeline(("rand_elastic", {"probability": 1.0, "magnitude": 4.0, "smoothness": 8.0}), dims=dims)
    inner = (slice(None),) + (slice(12, 36),) * dims
    spread = [
        float((change(sample, (1, 0, n, 0)).image - ramp)[inner].std())
        for n in range(24 if dims == 2 else 10)
    ]
    assert 1.2 < max(spread) < 3.0  # half of the magnitude at most, less by interpolation
    assert max(spread) > 3 * min(spread) or min(spread) < 1.0


@pytest.mark.parametrize("dims", [2, 3])
def test_clahe_of_an_8_bit_slice_is_near_that_of_albumentations(dims):
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    pixels[:32] //= 4
    pixels[0, 1] = 255
    reference = albumentations.Compose([albumentations.CLAHE(clip_limit=(2.0, 2.0), p=1.0)])(image=pixels)[
        "image"
    ]
    image = torch.from_numpy(pixels.astype(np.float32) / 255)
    sample = (
        Sample(image[None], 0)
        if dims == 2
        else Sample(image[None, None], torch.zeros(1, 64, 64, dtype=torch.uint8))
    )
    ours = (
        pipeline(("clahe", {"clip": [2.0, 2.0]}), dims=dims)(sample, SEED).image.reshape(64, 64).numpy() * 255
    )
    assert np.corrcoef(ours.ravel(), reference.ravel())[0, 1] > 0.97
    assert np.abs(ours - reference).mean() < 20


def test_a_step_of_monai_equals_monai_with_the_same_random_state():
    sample = volume()
    change = pipeline(("monai.RandAdjustContrastd", {"prob": 1.0, "gamma": [0.5, 2.0]}))
    state = np.random.RandomState(int(np.random.SeedSequence((*SEED, 0)).generate_state(1)[0]))
    theirs = monai_transforms.RandAdjustContrastd("image", prob=1.0, gamma=(0.5, 2.0))
    theirs.set_random_state(state=state)
    assert torch.equal(
        change(sample, SEED).image, torch.as_tensor(theirs({"image": sample.image.clone()})["image"])
    )


@pytest.mark.parametrize(
    "name", ["RandAffined", "RandRotated", "RandZoomd", "Rand3DElasticd", "RandGridDistortiond"]
)
def test_labels_stay_labels_under_spatial_transforms_of_monai(name):
    extra = {"sigma_range": [3, 5], "magnitude_range": [50, 100]} if name == "Rand3DElasticd" else {}
    if name in ("RandAffined", "RandRotated"):
        extra = {"rotate_range": 0.5} if name == "RandAffined" else {"range_x": 0.5}
    changed = pipeline((f"monai.{name}", {"prob": 1.0, **extra}))(coded(), SEED)
    assert set(changed.target.unique().tolist()) <= {0, 1, 3}
    assert float(((changed.image[0] / 10 - changed.target).abs() < 0.5).float().mean()) > 0.9


@pytest.mark.parametrize(
    "name", ["ElasticTransform", "ShiftScaleRotate", "GridDistortion", "HorizontalFlip", "Affine"]
)
@pytest.mark.filterwarnings("ignore")
def test_albumentations_moves_the_slices_and_labels_of_a_volume_alike(name):
    flat = coded()
    sample = Sample(
        flat.image[:, 10:11].expand(1, 4, 32, 32).contiguous(), flat.target[10:11].expand(4, 32, 32)
    )
    changed = pipeline((f"alb.{name}", {"p": 1.0}))(sample, SEED)
    assert changed.image.shape == sample.image.shape
    for k in range(1, 4):
        assert torch.equal(changed.image[0, k], changed.image[0, 0])
        assert torch.equal(changed.target[k], changed.target[0])
    assert set(changed.target.unique().tolist()) <= {0, 1, 3}
    assert float(((changed.image[0] / 10 - changed.target).abs() < 0.6).float().mean()) > 0.85
    again = pipeline((f"alb.{name}", {"p": 1.0}))(sample, SEED)
    assert torch.equal(again.image, changed.image)


@pytest.mark.parametrize(
    "name", ["CLAHE", "RandomBrightnessContrast", "GaussNoise", "GridDropout", "CoarseDropout", "Resize"]
)
def test_albumentations_changes_pictures_reproducibly(name):
    params = {"height": 20, "width": 28} if name == "Resize" else {}
    change = pipeline((f"alb.{name}", {"p": 1.0, **params}), dims=2)
    first, again = change(picture(), SEED), change(picture(), SEED)
    assert torch.equal(first.image, again.image)
    assert first.image.shape == ((1, 20, 28) if name == "Resize" else (1, 32, 32))
    assert not torch.equal(first.image, picture().image)


def test_every_listed_name_exists_in_its_library():
    assert all(hasattr(monai_transforms, name) for name in MONAI_SPATIAL | MONAI_INTENSITY)
    assert all(hasattr(albumentations, name) for name in ALBUMENTATIONS)
    assert not MONAI_SPATIAL & MONAI_INTENSITY
    assert len(transform_names()) == len(NAMED) + len(MONAI_SPATIAL | MONAI_INTENSITY) + len(ALBUMENTATIONS)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rand_flp", "rand_flip"),
        ("monai.RandFlip", "monai.RandFlipd"),
        ("alb.Clahe", "alb.CLAHE"),
        ("monai.Lambdad", None),
        ("monai.LoadImaged", None),
        ("monai.RandTorchIOd", None),
        ("alb.Lambda", None),
        ("monai.__builtins__", None),
    ],
)
def test_a_name_that_is_not_listed_is_refused_with_the_nearest(name, remedy):
    if "__" in name:
        with pytest.raises(ValueError):
            pipeline((name, {}))
        return
    with pytest.raises(InputError) as refused:
        pipeline((name, {}), dims=2)
    assert refused.value.code == "training.transform"
    assert f"“{name}”" in refused.value.user_message
    assert "transforms.train.0" in refused.value.user_message
    if remedy:
        assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("rand_flip", {"probabilty": 0.5}, ["rand_flip", "“probabilty”"]),
        ("rand_flip", {"probability": 1.5}, ["rand_flip.probability", "less than or equal to 1"]),
        ("rand_flip", {"axes": ["z"]}, ["rand_flip.axes"]),
        ("rand_zoom", {"low": 1.2, "high": 0.8}, ["rand_zoom", "low"]),
        ("rand_affine", {"scale": "much"}, ["rand_affine.scale"]),
        ("resize", {"size": [4, 4]}, ["resize", "3 positive numbers"]),
        ("rand_picture", {}, ["rand_picture", "classification"]),
        ("monai.RandFlipd", {"keys": ["label"]}, ["monai.RandFlipd", "“keys”"]),
        ("monai.RandZoomd", {"min_zom": 1}, ["monai.RandZoomd", "“min_zom”"]),
        ("monai.RandAdjustContrastd", {"gamma": -1.0}, ["monai.RandAdjustContrastd", "gamma"]),
        ("alb.CLAHE", {"clip": 3}, ["alb.CLAHE", "“clip”"]),
        ("alb.CLAHE", {"clip_limit": "x"}, ["alb.CLAHE", "clip_limit"]),
    ],
)
def test_a_wrong_parameter_is_refused_when_it_is_built_and_named(name, params, words):
    with pytest.raises(InputError) as refused:
        pipeline((name, params))
    assert refused.value.code == "training.transform"
    assert all(word in refused.value.user_message for word in words)
    assert refused.value.remedy


def test_pictures_have_no_k_axis():
    with pytest.raises(InputError, match="axes j, i"):
        pipeline(("rand_flip", {"axes": ["k"]}), dims=2)


def test_a_transform_that_fails_on_an_image_is_named_with_the_case():
    change = pipeline(
        ("monai.RandSpatialCropd", {"roi_size": [64, 64, 64], "random_size": False}),
        ("monai.Rotate90d", {"spatial_axes": [0, 5]}),
    )
    with pytest.raises(InputError) as refused:
        change(volume(), SEED)
    assert "monai.Rotate90d" in refused.value.user_message
    assert "one" in refused.value.user_message


def test_each_phase_has_its_own_transforms():
    recipe = picture_recipe(transforms={"train": [{"name": "rand_noise"}], "test": [{"name": "clahe"}]})
    assert build_transforms(recipe, Part.TRAIN).names == ("rand_noise",)
    assert build_transforms(recipe, Part.TEST).names == ("clahe",)
    assert not build_transforms(recipe, Part.VALIDATION)


def test_a_varied_picture_stays_within_0_and_1():
    change = pipeline(("rand_picture", {}), dims=2)
    for number in range(20):
        image = change(picture(), (1, 0, number, 0)).image
        assert float(image.min()) == 0
        assert float(image.max()) <= 1 + 1e-6


def test_a_varied_thorax_keeps_its_labels_except_where_the_field_of_view_ends():
    from core.phantom.population import random_spec
    from core.phantom.thorax import make_thorax

    phantom = make_thorax(random_spec(3, 8.0))
    image = torch.from_numpy((np.clip(phantom.hu, -1000, 600).astype(np.float32) + 1000) / 800 - 1)[None]
    sample = Sample(image, torch.from_numpy(phantom.labels), "phantom")
    change = pipeline(("rand_thorax_appearance", {}))
    for number in range(4):
        changed = change(sample, (1, 0, number, 0))
        assert float(changed.image.min()) >= -1
        assert float(changed.image.max()) <= 1
        kept = changed.target == sample.target
        assert bool((changed.target[~kept] == 0).all())
        assert not torch.equal(changed.image, sample.image)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_turned_window_shows_what_lies_beside_it(dims):
    size = 24
    params = {"probability": 1.0, "degrees": 20.0, "scale": 0.1, "shift": 3.0}
    params |= {"tilt_degrees": 10.0} if dims == 3 else {}
    recipe = volume_recipe(
        spatial_dims=dims,
        data={"sampling": {"patch_kji": [size] * 3}},
        transforms={"train": [{"name": "rand_flip"}, {"name": "rand_affine", "params": params}]},
    )
    change = build_transforms(recipe, Part.TRAIN)
    wide = [size + 2 * m for m in change.margin]
    # The distance from the middle: an affine map of it has no repeated edge, and no value beyond the piece's own.
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in wide], indexing="ij")
    ramp = torch.from_numpy(np.stack(axes).astype(np.float32))
    label = torch.zeros(wide, dtype=torch.uint8)
    for number in range(6):
        changed = change(Sample(ramp, label), (1, 0, number, 0))
        assert changed.image.shape == (dims, *[size] * dims)
        assert changed.target.shape == (size,) * dims
        for axis in range(dims):
            steps = changed.image.diff(dim=axis + 1)
            # Coordinates of an affine map rise by the same step everywhere: nothing was clipped at an edge.
            assert float((steps - steps.mean(dim=tuple(range(1, dims + 1)), keepdim=True)).abs().max()) < 1e-3
            assert float(changed.image[axis].abs().max()) <= wide[axis] / 2


def test_without_windows_or_without_turning_nothing_is_cut_wider():
    turning = {"train": [{"name": "rand_affine"}], "validation": [{"name": "rand_affine"}]}
    windows = {"sampling": {"patch_kji": [16, 16, 16]}}
    assert build_transforms(volume_recipe(transforms=turning), Part.TRAIN).margin == ()
    assert build_transforms(volume_recipe(data=windows, transforms=turning), Part.VALIDATION).margin == ()
    noise = {"train": [{"name": "rand_noise"}]}
    assert build_transforms(volume_recipe(data=windows, transforms=noise), Part.TRAIN).margin == ()
    assert build_transforms(volume_recipe(data=windows, transforms=turning), Part.TRAIN).margin == (0, 2, 2)
