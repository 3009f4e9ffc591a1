"""The manifest is strict, and a model fits only what it was made for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from core.bundles.catalogue import Catalogue, Version, read_pointers, write_pointers
from core.bundles.digest import bundle_digest
from core.bundles.estimate import count_windows, estimate_seconds
from core.bundles.fit import fit
from core.bundles.manifest import Inference, Requirements, parse_manifest
from core.domain.errors import InputError, SafetyError
from core.domain.study import SeriesKind, SeriesSummary
from core.domain.volume import SeriesIssue
from tests.fakes.bundles import (
    classification_manifest,
    make_classification_bundle,
    make_segmentation_bundle,
    segmentation_manifest,
)


def series(**changes: Any) -> SeriesSummary:
    whole = SeriesSummary(
        key="1.2",
        series_uid="1.2",
        study_uid="1",
        modality="CT",
        description="",
        body_part="CHEST",
        instances=100,
        frames=100,
        kind=SeriesKind.VOLUME,
        shape_kji=(100, 256, 256),
        spacing_kji_mm=(2.0, 1.0, 1.0),
        regular=True,
    )
    return dataclasses.replace(whole, **changes)


THORAX = segmentation_manifest(
    requirements=Requirements(
        modalities=("CT",),
        body_parts=("CHEST", "THORAX"),
        max_spacing_mm=5.0,
        min_spacing_mm=0.3,
        min_slices=20,
        min_extent_mm=100.0,
    )
)


def test_manifests_survive_json() -> None:
    for manifest in (segmentation_manifest(), classification_manifest(), THORAX):
        assert parse_manifest(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("surprise",), 1),
        (("schema_version",), 2),
        (("id",), "../evil"),
        (("version",), "1"),
        (("task",), "exec"),
        (("labels", 0, "value"), "1"),
        (("labels", 0, "color_rgb"), [1, 2, 300]),
        (("weights", 0, "file"), "../../etc/passwd"),
        (("weights", 0, "file"), "/abs"),
        (("weights", 0, "format"), "pickle"),
        (("preprocessing", "orientation"), "LLS"),
        (("preprocessing", "orientation"), "XYZ"),
        (("preprocessing", "spacing_ijk_mm"), [0, 1, 1]),
        (("preprocessing", "intensity", 0, "op"), "$import os"),
        (("preprocessing", "intensity", 0, "from_high"), -5000.0),
        (("network",), {"name": "os.system", "params": {}}),
        (("inference", "overlap"), 1.5),
        (("postprocessing", "rules", 0, "value"), 9),
        (("requirements", "kind"), "anything"),
    ],
)
def test_anything_unknown_or_out_of_range_is_refused_by_name(path: tuple, value: Any) -> None:
    document = json.loads(segmentation_manifest().to_json())
    place = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(InputError) as caught:
        parse_manifest(json.dumps(document).encode())
    assert caught.value.code == "bundle.manifest"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": NaN}', b"[" * 100_000])
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_manifest(data)


def test_a_thorax_ct_fits() -> None:
    answer = fit(THORAX, series())
    assert answer.fits and answer.why.startswith("Made for CT volumes of the chest")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modality": "MR"}, "this series is MR"),
        ({"body_part": "BRAIN"}, "shows brain"),
        ({"kind": SeriesKind.IMAGE}, "Made for volumes"),
        ({"shape_kji": (10, 256, 256)}, "10 slices"),
        ({"spacing_kji_mm": (8.0, 1.0, 1.0)}, "8 mm"),
        ({"spacing_kji_mm": (2.0, 0.1, 0.1)}, "0.1 mm"),
        ({"spacing_kji_mm": (2.0, 0.35, 0.35)}, "covers only 90 mm"),
        ({"regular": False}, "not evenly spaced"),
        ({"issues": (SeriesIssue("gap", "A slice is missing.", True),)}, "A slice is missing"),
    ],
)
def test_what_does_not_fit_is_told_with_the_reason(changes: dict, words: str) -> None:
    answer = fit(THORAX, series(**changes))
    assert not answer.fits and words in answer.why


def test_a_brain_mr_gets_no_thorax_model() -> None:
    answer = fit(THORAX, series(modality="MR", body_part="BRAIN"))
    assert not answer.fits
    assert answer.why == "Made for CT volumes of the chest, thorax; this series is MR."


def test_unknown_body_part_and_modality_dont_exclude_but_are_told() -> None:
    assert fit(THORAX, series(body_part="")).fits
    answer = fit(THORAX, series(modality="OT"))
    assert answer.fits and "not known" in answer.why


def test_image_models_take_single_images_only() -> None:
    manifest = classification_manifest()
    assert fit(manifest, series(kind=SeriesKind.IMAGE, shape_kji=(1, 64, 64), spacing_kji_mm=None)).fits
    assert not fit(manifest, series()).fits


def test_the_catalogue_lists_usable_bundles_and_names_the_others(tmp_path: Path) -> None:
    make_segmentation_bundle(tmp_path / "a" / "fake-threshold")
    make_classification_bundle(tmp_path / "b" / "fake-brightness")
    (tmp_path / "b" / "fake-brightness" / "LICENSE").write_text("altered")
    catalogue = Catalogue([tmp_path / "a", tmp_path / "b", tmp_path / "absent"])
    assert [bundle.id for bundle in catalogue.list()] == ["fake-threshold"]
    assert catalogue.get("fake-threshold").manifest.title == "Fake tissue thresholds"
    with pytest.raises(InputError, match="altered"):
        catalogue.get("fake-brightness")
    with pytest.raises(InputError, match="There is no model"):
        catalogue.get("nothing")


def test_windows_are_counted_for_the_time_estimate(tmp_path: Path) -> None:
    assert count_windows((128, 160, 160), Inference(patch_kji=(96, 96, 96))) == 2 * 3 * 3
    assert count_windows((10, 10, 10), Inference(patch_kji=(96, 96, 96))) == 1
    bundle = make_segmentation_bundle(tmp_path / "bundle")
    assert estimate_seconds(bundle, series(), tmp_path) is None
    name = f"{bundle.identity.sha256[:16]}-0.json"
    (tmp_path / name).write_text(json.dumps({"chosen": "torch", "call_seconds": 4.0}))
    windows = count_windows((100, 128, 128), bundle.manifest.inference)
    assert estimate_seconds(bundle, series(), tmp_path) == pytest.approx(4.0 / 2 * windows)


def test_a_promoted_version_stands_in_for_its_model_and_an_altered_one_for_nothing(tmp_path: Path) -> None:
    added = make_segmentation_bundle(tmp_path / "bundles" / "fake")
    version = make_segmentation_bundle(tmp_path / "versions" / "fake" / "1.1.0", version="1.1.0")
    digest = bundle_digest(version)
    assert digest != bundle_digest(added)
    write_pointers(tmp_path / "versions" / "current.json", {added.id: Version(version.path, digest)})
    pointers = read_pointers(tmp_path / "versions" / "current.json")
    assert Catalogue([tmp_path / "bundles"], pointers).get(added.id).manifest.version == "1.1.0"
    assert Catalogue([tmp_path / "bundles"]).get(added.id).manifest.version == "1.0.0"
    wrong = {added.id: Version(version.path, bundle_digest(added))}
    with pytest.raises(InputError) as caught:
        Catalogue([tmp_path / "bundles"], wrong).get(added.id)
    assert caught.value.code == "bundle.not_the_promoted"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 1}', '{"a": {"folder": "../../x", "sha256": ""}}', '{"a": {"folder": "x"}}']
)
def test_a_pointer_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "current.json").write_text(text)
    with pytest.raises(SafetyError) as caught:
        read_pointers(tmp_path / "current.json")
    assert caught.value.code == "bundle.pointers"
