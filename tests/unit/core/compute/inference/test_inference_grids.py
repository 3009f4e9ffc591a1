"""Resampling equals SimpleITK, streamed labels equal full interpolation, orientations don't matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.bundles.manifest import (
    Clip,
    Conform,
    LabelRule,
    Percentile,
    Postprocessing,
    Preprocessing,
    Round,
    Scale,
    VoiWindow,
    ZScore,
)
from core.compute.inference.grids import ModelGrid, model_grid
from core.compute.inference.intensity import apply_intensity
from core.compute.inference.postprocess import clean_labels
from core.compute.inference.resample import axis_matrix, resample_separable, resize_image, to_model_grid
from core.compute.inference.stream import LabelStream, argmax_labels
from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry, apply_reorientation, undo_reorientation
from core.domain.window import Window

RNG = np.random.default_rng(0)


def rotation(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def geometry(
    shape: tuple = (9, 14, 17), spacing: tuple = (0.8, 1.1, 2.5), degrees: float = 20
) -> VolumeGeometry:
    return VolumeGeometry.from_axes(shape, spacing, rotation(degrees), (-12.0, 5.0, 30.0))


def as_image(array: np.ndarray, grid: VolumeGeometry) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_ijk_mm)
    image.SetDirection(grid.direction_ijk.ravel())
    image.SetOrigin(grid.origin_lps_mm)
    return image


@pytest.mark.parametrize("target", [(1.5, 1.5, 1.5), (0.5, 0.7, 1.0), (3.0, 2.0, 4.0), (0.8, 1.1, 2.5)])
@pytest.mark.parametrize("codes", ["LPS", "RAS", "AIL"])
def test_resampling_equals_simpleitk_inside_the_series(target: tuple, codes: str) -> None:
    source = geometry()
    array = RNG.integers(-1000, 1000, source.shape_kji).astype(np.int16)
    grid = model_grid(source, Preprocessing(orientation=codes, spacing_ijk_mm=target))
    ours = to_model_grid(
        apply_reorientation(array, grid.permutation, grid.flips), grid, fill=0.0, antialias=False
    )
    reference = sitk.Image(list(grid.model.shape_ijk), sitk.sitkFloat32)
    reference.CopyInformation(as_image(np.zeros(grid.model.shape_kji, np.float32), grid.model))
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(
            as_image(array.astype(np.float32), source), reference, sitk.Transform(), sitk.sitkLinear, np.nan
        )
    )
    inside = np.isfinite(theirs)
    assert inside.mean() > 0.5
    assert np.abs(ours - theirs)[inside].max() < 1e-2
    assert np.isfinite(ours).all()


def test_a_conformed_cube_equals_nibabels() -> None:
    import nibabel
    from nibabel.processing import conform

    source = geometry((20, 24, 22), (1.2, 0.9, 1.7), 10)
    array = RNG.random(source.shape_kji, dtype=np.float32)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ source.lps_from_ijk
    image = nibabel.Nifti1Image(np.ascontiguousarray(array.T), ras)
    theirs = conform(image, (32, 32, 32), (1.0, 1.0, 1.0), order=1, cval=0.0, orientation="LIA")
    steps = Preprocessing(orientation="AIL", spacing_ijk_mm=(1.0, 1.0, 1.0), conform=Conform(size=32))
    grid = model_grid(source, steps)
    ours = to_model_grid(
        apply_reorientation(array, grid.permutation, grid.flips), grid, fill=0.0, antialias=False
    )
    expected = np.asarray(theirs.dataobj)
    theirs_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.model.lps_from_ijk
    assert np.allclose(theirs_ras[:, [2, 1, 0, 3]], theirs.affine, atol=1e-6)
    # scipy drops the outermost plane where rounding puts it 1e-15 outside; we keep it.
    seen = expected != 0
    assert np.abs(ours - expected)[seen].max() < 1e-4
    assert seen.sum() > 0.85 * (ours != 0).sum()


def test_resizing_equals_torchs_antialiased_bilinear() -> None:
    image = RNG.random((50, 41), dtype=np.float32)
    for size in ((32, 32), (64, 64), (17, 90), (50, 41)):
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(image)[None, None], size=size, mode="bilinear", antialias=True
        )[0, 0].numpy()
        assert np.abs(resize_image(image, *size) - theirs).max() < 1e-5


@settings(max_examples=50, deadline=None)
@given(length=st.integers(1, 40), first=st.floats(-3, 3), step=st.floats(0.2, 5), count=st.integers(1, 40))
def test_axis_weights_sum_to_one_and_are_never_negative(
    length: int, first: float, step: float, count: int
) -> None:
    index = first + step * np.arange(count)
    for antialias in (False, True):
        weights = axis_matrix(index, length, antialias=antialias)
        assert weights.min() >= 0
        assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)


def test_sheared_series_are_refused() -> None:
    matrix = np.eye(4)
    matrix[1, 2] = 0.35
    with pytest.raises(SafetyError, match="tilt"):
        model_grid(VolumeGeometry((5, 5, 5), matrix), Preprocessing())


def streamed(logits: torch.Tensor, grid: ModelGrid, step: int) -> np.ndarray:
    stream = LabelStream(grid)
    for k in range(0, logits.shape[1], step):
        stream.push(logits[:, k : k + step])
    return stream.finished()


@pytest.mark.parametrize(
    "series_spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 2.5, 1.0), (2.0, 2.0, 2.0)]
)
def test_streamed_labels_equal_full_interpolation(series_spacing: tuple) -> None:
    series = VolumeGeometry.from_axes((13, 21, 18), series_spacing, np.eye(3), (0.0, 0.0, 0.0))
    grid = model_grid(series, Preprocessing(spacing_ijk_mm=(2.0, 2.0, 2.0)))
    logits = torch.randn((5, *grid.model.shape_kji), generator=torch.Generator().manual_seed(0))
    indices = [grid.model_index(axis) for axis in range(3)]
    full = np.stack([resample_separable(channel.numpy(), indices) for channel in logits])
    for step in (1, 3, 100):
        labels = streamed(logits, grid, step)
        assert labels.dtype == np.uint8
        assert (labels == full.argmax(axis=0)).mean() > 0.9999


def test_streamed_labels_equal_torchs_trilinear_interpolation() -> None:
    series = VolumeGeometry((24, 32, 28), np.eye(4))
    grid = model_grid(series, Preprocessing(spacing_ijk_mm=(2.0, 2.0, 2.0)))
    logits = torch.randn((7, 12, 16, 14), generator=torch.Generator().manual_seed(0))
    full = torch.nn.functional.interpolate(logits[None], size=(24, 32, 28), mode="trilinear")[0]
    assert (streamed(logits, grid, 5) == full.argmax(0).numpy()).mean() > 0.9999


def test_outside_a_conformed_cube_there_is_background() -> None:
    series = VolumeGeometry((40, 40, 40), np.eye(4))
    grid = model_grid(
        series, Preprocessing(orientation="LPS", spacing_ijk_mm=(1.0, 1.0, 1.0), conform=Conform(size=20))
    )
    logits = torch.zeros((2, 20, 20, 20))
    logits[1] = 1
    labels = streamed(logits, grid, 20)
    assert labels.sum() == 20**3


def test_argmax_takes_the_first_of_equals() -> None:
    logits = torch.randint(0, 3, (4, 30, 30)).float()
    assert torch.equal(argmax_labels(logits).long(), logits.argmax(0))


ORIENTATIONS = [
    "".join(letters[i] for i, letters in zip(choice, order, strict=True))
    for order in itertools.permutations(["LR", "PA", "SI"])
    for choice in itertools.product((0, 1), repeat=3)
]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_labels_return_to_the_voxels_they_came_from_in_every_orientation(codes: str) -> None:
    upright = VolumeGeometry.from_axes((8, 10, 12), (1.0, 1.5, 2.0), np.eye(3), (3.0, -4.0, 5.0))
    stored, permutation, flips = upright.reoriented(codes)
    truth = RNG.integers(0, 3, upright.shape_kji).astype(np.uint8)
    voxels = np.ascontiguousarray(apply_reorientation(truth, permutation, flips))
    grid = model_grid(stored, Preprocessing(orientation="LPS"))
    seen = apply_reorientation(voxels, grid.permutation, grid.flips)
    assert np.array_equal(seen, truth) and grid.model.same_grid_as(upright)
    logits = torch.from_numpy(np.stack([seen == value for value in range(3)]).astype(np.float32))
    labels = undo_reorientation(streamed(logits, grid, 4), grid.permutation, grid.flips)
    assert np.array_equal(labels, voxels)


def test_intensity_steps_do_what_they_say() -> None:
    values = np.array([-2000, -1000, 0, 500, 3000], np.float32)
    scaled = apply_intensity(values.copy(), (Scale(op="scale", from_low=-1000, from_high=1000),))
    assert np.allclose(scaled, [0, 0, 0.5, 0.75, 1])
    assert np.allclose(
        apply_intensity(values.copy(), (Clip(op="clip", low=-1000, high=1000), Round(op="round"))),
        [-1000, -1000, 0, 500, 1000],
    )
    ramp = np.arange(101, dtype=np.float32)
    stretched = apply_intensity(ramp.copy(), (Percentile(op="percentile", low=5, high=95, clip=False),))
    assert np.allclose(stretched, (ramp - 5) / 90, atol=1e-6)
    assert apply_intensity(np.full(9, 7, np.float32), (Percentile(op="percentile"),)).max() == 0
    whole = np.array([0, 10, 255], np.float32)
    kept = apply_intensity(whole.copy(), (Percentile(op="percentile", high=99.9, unless_8bit=True),))
    assert np.array_equal(kept, whole)
    standard = apply_intensity(ramp.copy(), (ZScore(op="zscore"),))
    assert abs(standard.mean()) < 1e-5 and abs(standard.std() - 1) < 1e-5
    sparse = apply_intensity(np.array([0, 0, 2, 4], np.float32), (ZScore(op="zscore", nonzero=True),))
    assert np.allclose(sparse, [0, 0, -1, 1])
    window = Window(50.5, 101)
    assert np.allclose(apply_intensity(ramp.copy(), (VoiWindow(op="voi"),), window), ramp / 100, atol=1e-6)


def test_clean_up_keeps_what_the_rules_say() -> None:
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[2:8, 2:8, 2:8] = 1
    labels[4:6, 4:6, 4:6] = 0
    labels[2:4, 12:14, 12:14] = 1
    labels[9, 19, 19] = 1
    labels[8:9, 2:4, 15:18] = 2
    rules = Postprocessing(rules=(LabelRule(value=1, fill_holes=True, min_component_ml=0.005),))
    cleaned = clean_labels(labels.copy(), rules, 0.001)
    assert (cleaned == 1).sum() == 6**3 + 8 and (cleaned == 2).sum() == 6
    largest = clean_labels(
        labels.copy(), Postprocessing(rules=(LabelRule(value=1, largest_component=True),)), 0.001
    )
    assert (largest == 1).sum() == 6**3 - 8 and (largest == 2).sum() == 6
    foreground = clean_labels(labels.copy(), Postprocessing(largest_foreground=True), 0.001)
    assert (foreground > 0).sum() == 6**3 - 8
    assert clean_labels(np.zeros((3, 3, 3), np.uint8), rules, 1.0).sum() == 0
