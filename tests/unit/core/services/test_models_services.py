"""The catalogue as the reader sees it: added, listed with reasons, removed, all of it recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.bundles.catalogue import Catalogue
from core.bundles.writer import pack_bundle
from core.compute.inference.run import run_bundle
from core.domain.errors import AppError, InputError, SafetyError
from core.services import list_models as models
from core.services import manage_models
from core.services.engine import Engine
from core.services.manage_models import add_model, remove_model
from core.services.verify_audit import list_events, verify
from tests.fakes.bundles import expected_labels, make_segmentation_bundle, make_volume, threshold_onnx
from tests.fakes.data import data_path
from tests.fakes.engines import insert_study, make_engine

pytestmark = pytest.mark.expects_logs  # without a keyring the engine says where its key lies


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    none = tmp_path / "shipped"
    for module in (models,):
        monkeypatch.setattr(module, "shipped_bundles_dir", lambda: none)
    opened = make_engine(tmp_path)
    yield opened
    opened.close()


def codes(engine: Engine) -> list[str]:
    return [record.event_code for record in list_events(engine)]


def write_onnx(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    card = {
        "title": "Thresholds",
        "labels": [{"value": 1, "name": "Soft"}, {"value": 2, "name": "Hard"}],
        "preprocessing": {
            "spacing_ijk_mm": [2.0, 2.0, 2.0],
            "intensity": [{"op": "scale", "from_low": -1000.0, "from_high": 1000.0}],
        },
        "inference": {"patch_kji": [16, 16, 16]},
        "requirements": {"modalities": ["CT"]},
    }
    (folder / "my_net.onnx").write_bytes(threshold_onnx())
    (folder / "my_net.json").write_text(json.dumps({**card, **changes}))
    return folder / "my_net.onnx"


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_bundle_is_added_listed_and_removed(engine: Engine, tmp_path: Path, form: str) -> None:
    path = make_segmentation_bundle(tmp_path / "maker" / "b").path
    if form == "zip":
        path = pack_bundle(path, tmp_path / "b.zip")
    assert add_model(engine, path)["id"] == "fake-threshold"
    (row,) = models.list_models(engine)
    assert (row.id, row.verified, row.fits) == ("fake-threshold", "unsigned", None)
    assert row.labels == ("Soft tissue", "Bone") and row.card.startswith("# Fake")
    with pytest.raises(InputError, match="already"):
        add_model(engine, path)
    assert remove_model(engine, "fake-threshold") == {"id": "fake-threshold", "removed": True}
    assert models.list_models(engine) == []
    assert "model-added" in codes(engine) and "model-removed" in codes(engine) and verify(engine).ok
    assert not [entry for entry in engine.paths.bundles.iterdir() if entry.name.startswith(".")]


def test_models_that_do_not_fit_come_last_with_the_reason(engine: Engine, tmp_path: Path) -> None:
    add_model(engine, make_segmentation_bundle(tmp_path / "maker" / "b").path)
    summary = insert_study(engine)
    (row,) = models.list_models(engine, summary.key)
    assert row.fits is False and "3 slices" in row.why


def test_an_onnx_file_with_a_card_becomes_a_bundle_that_runs(engine: Engine, tmp_path: Path) -> None:
    added = add_model(engine, write_onnx(tmp_path / "net"), "my-own")
    assert added["id"] == "my-own" and added["verified"] == "unsigned"
    volume = make_volume()
    output = run_bundle(Catalogue([engine.paths.bundles]).get("my-own"), volume)
    assert np.array_equal(output.labels, expected_labels(volume.voxels))
    assert add_model(engine, tmp_path / "net")["id"] == "my-net"


def test_what_cannot_be_added_is_told_with_what_can(engine: Engine, tmp_path: Path) -> None:
    monai = tmp_path / "monai"
    (monai / "configs").mkdir(parents=True)
    (monai / "configs" / "metadata.json").write_text("{}")
    nnunet = tmp_path / "nnunet"
    nnunet.mkdir()
    (nnunet / "plans.json").write_text("{}")
    script = tmp_path / "model.pt"
    script.write_bytes(b"PK")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "x.onnx").write_bytes(threshold_onnx())
    for path, word in (
        (monai, "MONAI"),
        (nnunet, "nnU-Net"),
        (script, "PyTorch"),
        (alone, "without a JSON card"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            add_model(engine, path)
        assert "ONNX file with a JSON card" in caught.value.remedy
    assert models.list_models(engine) == []


def test_altered_networks_and_foreign_names_are_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(SafetyError, match="sha256"):
        add_model(engine, write_onnx(tmp_path / "a", sha256="0" * 64))
    with pytest.raises(InputError, match="named"):
        add_model(engine, make_segmentation_bundle(tmp_path / "maker" / "b").path, "another")
    with pytest.raises(InputError):
        add_model(engine, write_onnx(tmp_path / "c"), "../../escape")
    with pytest.raises(InputError, match="no model"):
        remove_model(engine, "nothing")
    assert models.list_models(engine) == []


def test_without_an_audit_record_nothing_is_added_or_removed(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_segmentation_bundle(tmp_path / "maker" / "b").path

    def refuse(*args: object) -> None:
        raise AppError("audit.failed", "The audit trail can't be written.")

    with monkeypatch.context() as patch:
        patch.setattr(manage_models, "_record", refuse)
        with pytest.raises(AppError, match="audit"):
            add_model(engine, bundle)
    assert models.list_models(engine) == []
    add_model(engine, bundle)
    monkeypatch.setattr(manage_models, "_record", refuse)
    with pytest.raises(AppError, match="audit"):
        remove_model(engine, "fake-threshold")
    assert [row.id for row in models.list_models(engine)] == ["fake-threshold"]


@pytest.mark.data
@pytest.mark.slow
def test_the_meshnet_network_reproduces_its_expected_label_map(engine: Engine) -> None:
    from core.compute.inference.gate import lowest_dice
    from core.formats.nifti import read_nifti

    added = add_model(engine, data_path("core/models/meshnet-brainchop/model5_gw_ae.onnx"))
    bundle = Catalogue([engine.paths.bundles]).get(added["id"])
    volume = read_nifti(data_path("core/nifti/brain-t1-brainchop/t1_crop.nii.gz"))
    expected = read_nifti(data_path("core/nifti/brain-t1-brainchop/expected_meshnet5_gwm.nii.gz"))
    output = run_bundle(bundle, volume)
    assert output.labels is not None
    assert lowest_dice(output.labels, expected.voxels) >= 0.99
