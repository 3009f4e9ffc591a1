"""Exporting a result: all or nothing, audited, free of identity in names."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.explanation import Explanation
from core.domain.result import Finding, ModelResult
from core.domain.segmentation import Segmentation
from core.formats.nifti import read_nifti, write_nifti
from core.phantom.dicom import PhantomSubject
from core.services.engine import Engine, open_engine
from core.services.export_result import KINDS, export_explanation_nifti, export_result
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from core.services.measure import measure_segments
from core.services.record_decision import record_decision
from core.services.results import store_explanation, store_result
from core.services.verify_audit import list_events, verify
from tests.fakes.marked_phantom import MODEL, SEGMENTS, MarkedPhantom, labels, write_marked
from tests.fakes.validators import dciodvfy_errors

NAME = "PLANTED^MARKER"


@dataclass
class Case:
    engine: Engine
    phantom: MarkedPhantom
    series_uid: str
    out: Path

    def files(self) -> list[str]:
        return sorted(p.name for p in self.out.iterdir()) if self.out.exists() else []


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    phantom = write_marked(tmp_path / "ct", subject=PhantomSubject(patient_name=NAME, patient_id="PID-4711"))
    with open_engine(tmp_path / "home", actor="Rita") as engine:
        series = import_paths(engine, [tmp_path / "ct"]).studies[0].series[0]
        volume = load_volume(engine, series.key)
        truth = Segmentation(volume.geometry, labels(), SEGMENTS)
        measures = measure_segments(volume, truth)
        findings = tuple(
            Finding(f"f{m.value}", m.label, "segment", m.centroid_lps_mm, 5.0, m.volume_ml, None, m.value)
            for m in measures
            if m.voxels
        )
        result = ModelResult(
            "r1", phantom.study.study_uid, series.series_uid, MODEL, "segmentation", "cpu",
            segments=measures, findings=findings,
        )  # fmt: skip
        store_result(engine, result, truth)
        heat = (labels() == 2).astype(np.float32)
        store_explanation(
            engine, "r1", Explanation(volume.geometry, heat, "gradcam", "Liver", "layer", (2.0, 2.0, 2.0))
        )
        record_decision(engine, "r1", "f2", "accept")
        yield Case(engine, phantom, series.key, tmp_path / "out")


def test_every_kind_is_written_verified_and_valid(case: Case) -> None:
    files = export_result(case.engine, "r1", list(KINDS), case.out)
    assert [f.kind for f in files] == [
        "seg", "sr", "pm", "kos", "nifti", "nifti", "pdf", "encapsulated-pdf", "csv",
    ]  # fmt: skip
    assert all(f.verified and f.path.is_file() for f in files)
    assert case.files() == sorted(f.path.name for f in files)
    for file in files:
        if file.path.suffix == ".dcm":
            assert dciodvfy_errors(file.path) == []
            dataset = dcmread(file.path)
            assert str(dataset.PatientName) == NAME and dataset.SOPInstanceUID == file.sop_instance_uid
        assert "PLANTED" not in file.path.name and "4711" not in file.path.name


def test_the_report_refers_to_the_segmentation_of_the_same_export(case: Case) -> None:
    seg, sr = export_result(case.engine, "r1", ["sr", "seg"], case.out)
    assert seg.kind == "seg" and str(seg.sop_instance_uid) in str(dcmread(sr.path))


def test_only_dicom_objects_carry_identity(case: Case) -> None:
    for file in export_result(case.engine, "r1", ["pdf", "csv", "nifti"], case.out):
        if file.path.suffix != ".dcm":
            assert b"PLANTED" not in file.path.read_bytes() and b"4711" not in file.path.read_bytes()


def test_the_table_holds_verdict_model_and_measures(case: Case) -> None:
    (file,) = export_result(case.engine, "r1", ["csv"], case.out)
    with file.path.open(encoding="utf-8-sig", newline="") as stream:
        liver, spleen = csv.DictReader(stream)
    assert (liver["label"], liver["verdict"], spleen["verdict"]) == ("Liver", "accept", "")
    assert liver["weights_sha256"] == MODEL.sha256 and float(liver["volume_ml"]) > 0
    assert liver["code"] == "10200004"


def test_an_export_is_in_the_audit_trail(case: Case) -> None:
    before = len(list(list_events(case.engine)))
    export_result(case.engine, "r1", ["csv"], case.out)
    assert len(list(list_events(case.engine))) == before + 1
    assert verify(case.engine).ok


def test_no_file_without_an_audit_record(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **options) -> None:
        raise EnvironmentFault("audit.unwritable", "The audit trail cannot be written.")

    with monkeypatch.context() as patch, pytest.raises(EnvironmentFault):
        patch.setattr(case.engine, "record", refuse)
        export_result(case.engine, "r1", ["seg", "csv"], case.out)
    assert case.files() == []


def test_one_impossible_kind_means_no_file_at_all(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.services.export_result.load_explanations", lambda engine, result_id: [])
    with pytest.raises(InputError) as error:
        export_result(case.engine, "r1", ["seg", "pm"], case.out)
    assert error.value.code == "export.no_explanation" and case.files() == []


@pytest.mark.parametrize("kinds", [["seg", "rtstruct"], []])
def test_unknown_kinds_are_refused_with_the_known_ones(case: Case, kinds: list[str]) -> None:
    with pytest.raises(InputError) as error:
        export_result(case.engine, "r1", kinds, case.out)
    assert error.value.code == "export.kind" and "nifti" in error.value.remedy


def test_an_edited_segment_is_exported_as_the_reader_left_it(case: Case, tmp_path: Path) -> None:
    mask = np.zeros(labels().shape, np.uint8)
    mask[3, 2:5, 6:10] = 1
    file = write_nifti(tmp_path / "mask.nii.gz", case.phantom.geometry, mask)
    record_decision(case.engine, "r1", "f5", "edit", mask_file=file)
    seg, nifti, _heat, table = export_result(case.engine, "r1", ["seg", "nifti", "csv"], case.out)
    assert np.array_equal(read_nifti(nifti.path).voxels == 5, mask == 1)
    spleen = dcmread(seg.path).SegmentSequence[1]
    assert (
        spleen.SegmentAlgorithmType == "SEMIAUTOMATIC" and spleen.SegmentDescription == "Edited by the reader"
    )
    with table.path.open(encoding="utf-8-sig", newline="") as stream:
        row = list(csv.DictReader(stream))[1]
    assert float(row["volume_ml"]) == pytest.approx(12 * case.phantom.geometry.voxel_volume_ml, abs=1e-4)
    assert row["diameter_mm"] == ""


def test_a_mask_on_another_grid_is_refused(case: Case, tmp_path: Path) -> None:
    moved = case.phantom.geometry.cropped((0, 0, 1), case.phantom.geometry.shape_kji)
    file = write_nifti(tmp_path / "mask.nii.gz", moved, np.ones(labels().shape, np.uint8))
    record_decision(case.engine, "r1", "f5", "edit", mask_file=file)
    with pytest.raises(SafetyError) as error:
        export_result(case.engine, "r1", ["seg"], case.out)
    assert error.value.code == "export.mask_grid" and case.files() == []


def test_a_source_that_was_replaced_since_is_refused(case: Case) -> None:
    file = case.phantom.study.files[1]
    dataset = dcmread(file)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    dataset.save_as(file)
    with pytest.raises(SafetyError) as error:
        export_result(case.engine, "r1", ["sr"], case.out)
    assert error.value.code == "export.source_changed"


def test_key_images_show_what_was_not_rejected(case: Case) -> None:
    record_decision(case.engine, "r1", "f5", "reject")
    (file,) = export_result(case.engine, "r1", ["kos"], case.out)
    assert dciodvfy_errors(file.path) == []
    images = [i for i in dcmread(file.path).ContentSequence if i.ValueType == "IMAGE"]
    named = [str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in images]
    assert named == [case.phantom.study.sop_instance_uids[1]], "the liver's mark lies in the first two slices"
    record_decision(case.engine, "r1", "f2", "reject")
    with pytest.raises(InputError) as error:
        export_result(case.engine, "r1", ["kos"], case.out)
    assert error.value.code == "export.no_key_images"


def test_one_heat_map_as_nifti(case: Case) -> None:
    heat = (labels() == 5).astype(np.float32)
    explanation = Explanation(case.phantom.geometry, heat, "ig", "Spleen", "", (2.0, 2.0, 2.0))
    path = export_explanation_nifti(case.engine, "r1", explanation, case.out)
    assert case.files() == [path.name] and np.array_equal(read_nifti(path).voxels, heat)


def test_a_folder_that_cannot_be_made_is_said(case: Case) -> None:
    case.out.write_text("a file, not a folder")
    with pytest.raises(EnvironmentFault) as error:
        export_result(case.engine, "r1", ["csv"], case.out)
    assert error.value.code == "export.unwritable"
