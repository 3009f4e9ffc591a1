"""The two shipped bundles: signed, small, reproducing their reference, as good as their cards say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.bundles.bundle import Bundle, read_bundle
from core.compute.evaluation.reference_ct import compare
from core.compute.evaluation.segmentation import dice_over_cases
from core.compute.inference.loaded import ModelCache
from core.compute.inference.run import run_bundle
from core.compute.selftest import run_selftest
from core.compute.training.publish import phantom_volume
from core.config.resources import shipped_bundles_dir
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.phantom.labels import THORAX_SEGMENTS
from core.phantom.population import random_spec
from core.phantom.thorax import make_thorax
from tests.fakes.data import data_path
from tests.fakes.mednist_split import read_pictures, split_pictures

LIMIT_BYTES = 15_000_000
# A little under what was measured when the weights were made (see the card).
FLOORS_REAL = {"Left lung": 0.65, "Right lung": 0.92, "Liver": 0.81, "Bones": 0.7}


@pytest.fixture(scope="module")
def thorax() -> Bundle:
    return read_bundle(shipped_bundles_dir() / "thorax-ct")


@pytest.fixture(scope="module")
def mednist() -> Bundle:
    return read_bundle(shipped_bundles_dir() / "mednist")


@pytest.mark.parametrize("name", ["thorax-ct", "mednist"])
def test_a_shipped_bundle_is_signed_small_and_reproduces_its_reference(name: str) -> None:
    folder = shipped_bundles_dir() / name
    bundle = read_bundle(folder)
    assert bundle.verification == "signed"
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= LIMIT_BYTES
    assert run_selftest(bundle, "cpu").passed
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "not for primary diagnosis" in card
    assert "95 % interval" in card
    assert "{{" not in card


def test_the_thorax_labels_are_those_of_the_phantom(thorax: Bundle) -> None:
    mine = [
        (label.value, label.name, label.code.value if label.code else "") for label in thorax.manifest.labels
    ]
    assert mine == [(s.value, s.label, s.code.value) for s in THORAX_SEGMENTS]


def test_the_thorax_network_segments_phantoms_it_never_saw(thorax: Bundle) -> None:
    cache = ModelCache()
    cases = []
    for seed in (700_001,):
        phantom = make_thorax(random_spec(seed))
        labels = run_bundle(thorax, phantom_volume(phantom.hu, 3.0), cache=cache, backend="exact").labels
        assert labels is not None
        cases.append((labels, phantom.labels))
    found = dice_over_cases(cases, [s.label for s in THORAX_SEGMENTS], min_truth_voxels=500)
    for name, least in (("Left lung", 0.9), ("Right lung", 0.9), ("Liver", 0.75), ("Bones", 0.75)):
        value = found[name].value
        assert np.isnan(value) or value >= least, (name, value)


@pytest.mark.data
def test_the_thorax_network_segments_a_real_ct(thorax: Bundle) -> None:
    folder = data_path("core/nifti/ct-totalseg-small")
    class_map = json.loads((folder / "truth_labels_volumes.json").read_text(encoding="utf-8"))[
        "class_map_total"
    ]
    reference = folder / "example_seg_fast_force_split.nii.gz"
    found = compare(thorax, folder / "example_ct.nii.gz", reference, class_map)
    for name, least in FLOORS_REAL.items():
        assert found[name].value >= least, (name, found[name])


@pytest.mark.data
def test_the_classifier_names_held_out_pictures(mednist: Bundle) -> None:
    folder = data_path("core/images2d/mednist")
    pictures = read_pictures(folder)
    split = split_pictures(pictures)
    cache = ModelCache()
    right = 0
    names = {label.value: label.name for label in mednist.manifest.labels}
    for index in split.test:
        pixels = np.ascontiguousarray(pictures.pixels[index][None])
        volume = Volume(VolumeGeometry((1, 64, 64), np.eye(4)), pixels, "OT", f"1.2.{index}")
        answer = run_bundle(mednist, volume, cache=cache, backend="exact")
        right += answer.classes[0].label == names[int(pictures.labels[index])]
    assert right / len(split.test) >= 0.97
    assert Path(folder).is_dir()
