"""The source of heads under random contrasts."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from core.domain.errors import InputError
from core.phantom.brain import BrainSpec
from core.phantom.contrasts import draw_signals
from core.phantom.head import LESION_VOLUME, VENTRICLE_VOLUME, Structure, Tissue, drawn_head
from core.phantom.head_lesions import LesionKind
from core.recipes.cases import CaseData, Part
from core.recipes.sources.brain_contrasts import BrainContrastsSource
from core.recipes.sources.registry import list_cases
from core.recipes.sources_schema import BrainContrasts, RealHead

CHANNELS = ("T1", "T2", "FLAIR")
DRAWN = BrainContrasts(name="brain_contrasts", count=60, holdout=20, size=40, spacing_mm=5.0)


def test_seeds_make_cases_of_all_classes_that_train_or_are_tested() -> None:
    cases = list_cases(DRAWN, None, CHANNELS)
    assert [case.part for case in cases] == [Part.TRAIN] * 60 + [Part.TEST] * 20
    assert {case.label for case in cases} == {0, 1, 2}
    assert {case.attributes["head"] for case in cases} == {"drawn"}
    shown = [case.attributes["contrasts"] for case in cases]
    assert 0.25 < sum(names == "T1" for names in shown) / len(shown) < 0.65
    assert "T1 T2 FLAIR" in shown
    assert all(names for names in shown)
    assert [case.id for case in cases] == [case.id for case in list_cases(DRAWN, None, CHANNELS)]


def test_a_case_holds_only_the_contrasts_that_it_shows_and_says_what_it_measures() -> None:
    cases = BrainContrastsSource().cases(DRAWN, Path(), CHANNELS)
    for case in cases[:4]:
        read = BrainContrastsSource().read(case, DRAWN, CHANNELS)
        assert set(read.volumes) == set(case.attributes["contrasts"].split())
        assert read.label == case.label
        assert read.labels is not None
        voxel_ml = 5.0**3 / 1000
        for name, structure in (
            (VENTRICLE_VOLUME, Structure.LATERAL_VENTRICLES),
            (LESION_VOLUME, Structure.LESION),
        ):
            assert read.values[name] == pytest.approx((read.labels == structure).sum() * voxel_ml)
        assert (case.label == LesionKind.NONE) == (read.values[LESION_VOLUME] == 0) or case.label == 2
        first = next(iter(read.volumes.values()))
        assert first.geometry.shape_kji == (40, 40, 40)
        assert first.geometry.spacing_ijk_mm == pytest.approx((5.0, 5.0, 5.0))
        again = BrainContrastsSource().read(case, DRAWN, CHANNELS)
        assert np.array_equal(again.volumes[next(iter(again.volumes))].voxels, first.voxels)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A reference on disk with axes L, I, A, as conformed series have them."""
    head = drawn_head(BrainSpec(seed=3, shape_kji=(50, 56, 46), spacing_kji_mm=(4.0, 4.0, 4.0)))
    signals = draw_signals("T1", np.random.default_rng(1))
    classes = np.where(head.tissue <= Tissue.VENTRAL, head.tissue, 0).astype(np.uint8)
    arrays = {
        "t1": np.clip(signals[head.tissue] * 126, 0, 255).astype(np.uint8),
        "classes": classes,
        "envelope": ((classes > 0) | (head.tissue == Tissue.FLUID)).astype(np.uint8),
    }
    affine = np.array([[-4.0, 0, 0, 90], [0, 0, 4.0, -110], [0, -4.0, 0, 100], [0, 0, 0, 1]])
    for name, array in arrays.items():
        # (k, j, i) towards S, P, L becomes (L, I, A).
        laid = array.transpose(2, 0, 1)[:, ::-1, ::-1]
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(laid), affine), tmp_path / f"{name}.nii.gz")
    return tmp_path


def _settings(**more: object) -> BrainContrasts:
    files = RealHead(t1="t1.nii.gz", classes="classes.nii.gz", envelope="envelope.nii.gz")
    fields = {
        "name": "brain_contrasts", "count": 8, "holdout": 2, "size": 40, "spacing_mm": 5.0, "real_head": 1.0,
        "reference": files,
    }  # fmt: skip
    return BrainContrasts.model_validate(fields | more)


def test_a_real_head_is_turned_upright_whatever_its_axes(reference: Path) -> None:
    settings = _settings()
    cases = list_cases(settings, reference, CHANNELS)
    assert all(len(case.files) == 3 * len(case.images) for case in cases)
    # The cerebellum lies low and behind, the cortex reaches higher and further forward.
    read: CaseData = BrainContrastsSource().read(cases[0], settings, CHANNELS)
    assert read.labels is not None
    low = np.argwhere(read.labels == Structure.CEREBELLUM).mean(axis=0)
    high = np.argwhere(read.labels == Structure.CORTEX).mean(axis=0)
    assert low[0] < high[0]
    assert low[1] > high[1]


def test_what_is_missing_or_elsewhere_is_named(reference: Path) -> None:
    with pytest.raises(InputError, match="needs a data folder"):
        list_cases(_settings(), None, CHANNELS)
    with pytest.raises(InputError, match="PD"):
        list_cases(DRAWN, None, ("T1", "PD"))
    with pytest.raises(InputError, match="outside"):
        list_cases(_settings(reference=RealHead(folder="../elsewhere")), reference, CHANNELS)
    (reference / "classes.nii.gz").unlink()
    with pytest.raises(InputError, match=r"classes\.nii\.gz"):
        list_cases(_settings(), reference, CHANNELS)
