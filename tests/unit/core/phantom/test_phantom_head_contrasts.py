"""Heads under random contrasts: physics of the signals, lesions, label maps and what is measured on them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from core.phantom.brain import BrainSpec
from core.phantom.contrasts import CONTRASTS, Contrast, acquire, draw_signals
from core.phantom.head import (
    LESION_VOLUME,
    PARENCHYMAL_FRACTION,
    STRUCTURE_OF,
    VENTRICLE_VOLUME,
    Head,
    Structure,
    Tissue,
    drawn_head,
    head_from_reference,
    measurements,
)
from core.phantom.head_case import make_head_case
from core.phantom.head_lesions import LesionKind, with_lesions

SPACING_MM = 4.0


@pytest.fixture(scope="module")
def head() -> Head:
    return drawn_head(BrainSpec(seed=3, shape_kji=(56, 56, 50), spacing_kji_mm=(4.0, 4.0, 4.0), atrophy=0.6))


@pytest.fixture(scope="module")
def real(head: Head) -> Head:
    """The drawn head, seen as if it were a real series with its segmentation."""
    signals = draw_signals("T1", np.random.default_rng(1))
    t1 = np.clip(signals[head.tissue] * 126, 0, 255).astype(np.uint8)
    classes = np.where(head.tissue <= Tissue.VENTRAL, head.tissue, 0).astype(np.uint8)
    envelope = ((classes > 0) | (head.tissue == Tissue.FLUID)).astype(np.uint8)
    return head_from_reference(t1, classes, envelope, SPACING_MM)


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_signals_is_what_makes_a_contrast(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t1, t2, flair = (draw_signals(contrast, rng) for contrast in CONTRASTS)
    white, grey, fluid, lesion = Tissue.WHITE, Tissue.CORTEX, Tissue.LATERAL_VENTRICLE, Tissue.LESION
    assert t1[white] > t1[grey] > t1[fluid]
    assert t2[fluid] > t2[grey] > t2[white]
    assert flair[grey] > flair[white] > flair[fluid]
    assert t1[lesion] < t1[white]
    assert t2[lesion] > t2[grey]
    assert flair[lesion] > flair[grey]
    assert flair[Tissue.OEDEMA] > flair[grey]
    assert (t1 >= 0).all()


def test_contrasts_differ_from_drawing_to_drawing() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_signals("T1", rng)[Tissue.CORTEX] for _ in range(50)])
    assert drawn.std() > 0.04


def test_measurements_are_what_the_label_map_says() -> None:
    labels = np.zeros((10, 10, 10), dtype=np.uint8)
    labels[:4] = Structure.WHITE_MATTER
    labels[4, :5] = Structure.LATERAL_VENTRICLES
    labels[5, :2] = Structure.OTHER_FLUID
    labels[6, :3] = Structure.LESION
    found = measurements(labels, 8.0)
    assert found[VENTRICLE_VOLUME] == pytest.approx(50 * 8 / 1000)
    assert found[LESION_VOLUME] == pytest.approx(30 * 8 / 1000)
    assert found[PARENCHYMAL_FRACTION] == pytest.approx(100 * 430 / (430 + 50 + 20))
    assert measurements(np.zeros((4, 4, 4), np.uint8), 1.0)[PARENCHYMAL_FRACTION] == 0


def test_every_tissue_of_the_brain_belongs_to_a_structure() -> None:
    assert set(STRUCTURE_OF[1:19]) == set(range(1, 9))
    assert set(STRUCTURE_OF[Tissue.LESION_CORE :]) == {Structure.LESION}
    assert not STRUCTURE_OF[
        [Tissue.AIR, Tissue.MENINGES, Tissue.BONE, Tissue.MUSCLE, Tissue.FAT, Tissue.EYE]
    ].any()


def test_a_drawn_head_has_all_structures_and_larger_ventricles_with_atrophy(head: Head) -> None:
    assert set(np.unique(STRUCTURE_OF[head.tissue])) == set(range(9))
    small = drawn_head(BrainSpec(seed=3, shape_kji=(56, 56, 50), spacing_kji_mm=(4.0, 4.0, 4.0), atrophy=0.0))
    assert (head.tissue == Tissue.LATERAL_VENTRICLE).sum() > 1.3 * (
        small.tissue == Tissue.LATERAL_VENTRICLE
    ).sum()


@pytest.mark.parametrize("seed", range(6))
def test_a_mass_is_one_lesion_and_small_lesions_lie_in_white_matter(head: Head, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert np.array_equal(with_lesions(head, LesionKind.NONE, rng), head.tissue)
    mass = np.isin(
        with_lesions(head, LesionKind.MASS, rng), (Tissue.LESION, Tissue.LESION_CORE, Tissue.OEDEMA)
    )
    assert mass.any()
    where = np.argwhere(mass) * SPACING_MM
    assert np.ptp(where, axis=0).max() <= 2 * 22 * 1.9 * 1.5 + 2 * SPACING_MM
    small = with_lesions(head, LesionKind.WHITE_MATTER, rng)
    assert (head.tissue[small == Tissue.LESION] == Tissue.WHITE).all()
    assert not np.isin(small, (Tissue.LESION_CORE, Tissue.OEDEMA)).any()


@pytest.mark.parametrize("kind", LesionKind)
def test_a_case_measures_its_own_label_map_and_is_repeated_by_its_seed(head: Head, kind: LesionKind) -> None:
    first, second = (
        make_head_case(head, kind, CONTRASTS, np.random.default_rng(5), size=48, spacing_mm=4.5)
        for _ in range(2)
    )
    assert first.values == measurements(first.labels, 4.5**3)
    assert (first.values[LESION_VOLUME] > 0) == (kind is not LesionKind.NONE)
    assert np.array_equal(first.labels, second.labels)
    for contrast in CONTRASTS:
        assert np.array_equal(first.contrasts[contrast], second.contrasts[contrast])
        assert first.contrasts[contrast].min() >= 0
    other = make_head_case(head, kind, CONTRASTS, np.random.default_rng(6), size=48, spacing_mm=4.5)
    assert not np.array_equal(first.labels, other.labels)


@pytest.mark.parametrize(("contrast", "brighter"), [("T1", False), ("T2", True), ("FLAIR", False)])
def test_ventricles_stand_out_of_white_matter_as_the_contrast_says(
    head: Head, contrast: Contrast, brighter: bool
) -> None:
    votes = []
    for seed in range(5):
        made = make_head_case(
            head, LesionKind.NONE, (contrast,), np.random.default_rng(seed), size=48, spacing_mm=4.5
        )
        inner = ndimage.binary_erosion(made.labels == Structure.LATERAL_VENTRICLES)
        white = ndimage.binary_erosion(made.labels == Structure.WHITE_MATTER)
        if inner.sum() > 3 and white.sum() > 3:
            picture = made.contrasts[contrast]
            votes.append(picture[inner].mean() > picture[white].mean())
    assert len(votes) >= 3
    assert sum(vote == brighter for vote in votes) >= len(votes) - 1


def test_a_reference_becomes_a_head_with_its_own_texture(real: Head, head: Head) -> None:
    assert real.real is not None
    assert real.texture is not None
    assert np.median(real.real[real.tissue == Tissue.WHITE]) == pytest.approx(1.0, abs=1e-3)
    for tissue in (Tissue.WHITE, Tissue.CORTEX, Tissue.LATERAL_VENTRICLE, Tissue.STEM):
        assert (real.tissue == tissue).sum() == (head.tissue == tissue).sum()
        assert abs(float(np.median(real.texture[real.tissue == tissue]))) < 1e-3
    assert Tissue.FLUID in real.tissue
    assert Tissue.FAT in real.tissue


def test_ventricles_of_a_real_head_are_widened_and_narrowed(real: Head) -> None:
    volumes = [
        make_head_case(
            real, LesionKind.NONE, (), np.random.default_rng(seed), size=56, spacing_mm=4.0
        ).values[VENTRICLE_VOLUME]
        for seed in range(12)
    ]
    own = float((real.tissue == Tissue.LATERAL_VENTRICLE).sum()) * SPACING_MM**3 / 1000
    assert max(volumes) > 1.4 * own
    assert min(volumes) < 1.1 * own


def test_noise_is_never_negative_and_thick_slices_blur(head: Head) -> None:
    image = draw_signals("T1", np.random.default_rng(0))[head.tissue]
    scanned = acquire(image, SPACING_MM, np.random.default_rng(2))
    assert scanned.dtype == np.int16
    assert scanned.min() >= 0
    assert np.corrcoef(scanned.ravel(), image.ravel())[0, 1] > 0.6
