"""The shipped model of structures on brain MR: signed, small, reproducing its reference, as good as its card says."""

from __future__ import annotations

import numpy as np
import pytest

from core.bundles.bundle import Bundle, read_bundle
from core.compute.inference.run import run_bundle
from core.compute.selftest import run_selftest
from core.config.resources import shipped_bundles_dir
from core.formats.nifti import read_nifti
from core.phantom.head import PARENCHYMAL_FRACTION, STRUCTURE_OF, VENTRICLE_VOLUME, Structure
from tests.fakes.data import data_path

LIMIT_BYTES = 15_000_000
# A little under what was measured when the weights were made (see the card); this head is the one of the training.
FLOORS = {
    Structure.CORTEX: 0.73,
    Structure.WHITE_MATTER: 0.78,
    Structure.LATERAL_VENTRICLES: 0.8,
    Structure.DEEP_GREY: 0.8,
    Structure.CEREBELLUM: 0.91,
    Structure.BRAIN_STEM: 0.88,
}


@pytest.fixture(scope="module")
def brain() -> Bundle:
    return read_bundle(shipped_bundles_dir() / "brain-mr")


def test_the_bundle_is_signed_small_and_reproduces_its_reference(brain: Bundle) -> None:
    folder = shipped_bundles_dir() / "brain-mr"
    assert brain.verification == "signed"
    assert max(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= LIMIT_BYTES
    assert run_selftest(brain, "cpu").passed
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "not for primary diagnosis" in card and "95 % interval" in card and "{{" not in card


def test_it_claims_nothing_of_lesions(brain: Bundle) -> None:
    manifest = brain.manifest
    assert [label.value for label in manifest.labels] == [
        s.value for s in Structure if 0 < s < Structure.LESION
    ]
    assert manifest.classes == ()
    assert [m.name for m in manifest.measurements] == [VENTRICLE_VOLUME, PARENCHYMAL_FRACTION]
    assert manifest.inputs == ("T1", "T2", "FLAIR") and manifest.missing_inputs == "zeros"
    assert "It does not look for lesions" in brain.card


@pytest.mark.data
def test_structures_of_a_real_head_are_found_on_its_t1_alone(brain: Bundle) -> None:
    folder = data_path("core/nifti/brain-t1-brainchop")
    t1 = read_nifti(folder / "t1_crop.nii.gz")
    reference = STRUCTURE_OF[read_nifti(folder / "expected_meshnet30_18cls.nii.gz").voxels]
    answer = run_bundle(brain, {"T1": t1}, backend="exact")
    assert answer.labels is not None
    for structure, least in FLOORS.items():
        found, wanted = answer.labels == structure, reference == structure
        dice = 2 * np.sum(found & wanted) / (found.sum() + wanted.sum())
        assert dice >= least, (structure, dice)
    values = {m.name: m.value for m in answer.measurements}
    assert 10 < values[VENTRICLE_VOLUME] < 35
    assert answer.missing_inputs == ("T2", "FLAIR")
