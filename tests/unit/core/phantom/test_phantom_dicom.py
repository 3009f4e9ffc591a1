"""Phantoms as DICOM: valid, placed, reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.phantom.acquisition import Acquisition, cr_acquisition, ct_acquisition, mr_acquisition
from core.phantom.dicom import PhantomSubject, write_study
from core.services.make_phantom import make_phantom
from tests.fakes.marked_phantom import grid, write_marked
from tests.fakes.validators import dciodvfy_errors

SMALL = {"matrix": 48, "slice_thickness_mm": 30, "vessel_count": 4, "nodules": 1}


@pytest.mark.parametrize(
    "acquisition",
    [ct_acquisition("sharp", "venous"), mr_acquisition(), cr_acquisition(), cr_acquisition("LAT")],
)
def test_each_modality_is_valid(tmp_path: Path, acquisition: Acquisition) -> None:
    geometry = VolumeGeometry.from_axes((1, 7, 5), (0.8, 0.9, 2.0), np.eye(3), (1.0, 2.0, 3.0))
    study = write_study(
        np.full((1, 7, 5), 40), geometry, acquisition, PhantomSubject(), key="k", out=tmp_path
    )
    assert dciodvfy_errors(study.files[0]) == []
    dataset = dcmread(study.files[0])
    assert dataset.QualityControlSubject == "YES" and study.files[0].read_bytes()[:128] == b"\0" * 128


def test_place_and_values_come_back(tmp_path: Path) -> None:
    phantom = write_marked(tmp_path, grid(tilt_deg=12.0))
    for k, file in enumerate(phantom.study.files):
        dataset = dcmread(file)
        assert np.allclose(
            np.array(dataset.ImagePositionPatient, float), phantom.geometry.lps_of([[0, 0, k]])[0], atol=1e-4
        )
        values = dataset.pixel_array.astype(int) * dataset.RescaleSlope + dataset.RescaleIntercept
        assert np.array_equal(values, phantom.voxels[k])
    assert float(dataset.SliceThickness) == pytest.approx(2.1, abs=1e-6), "measured along the normal"


def test_the_same_key_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_marked(tmp_path / "a"), write_marked(tmp_path / "b")
    assert [f.read_bytes() for f in first.study.files] == [f.read_bytes() for f in second.study.files]
    assert write_marked(tmp_path / "c", key="other").study.study_uid != first.study.study_uid


def test_a_name_beyond_latin_needs_utf_8(tmp_path: Path) -> None:
    subject = PhantomSubject(patient_name="Ψυχή^Άννα")
    study = write_marked(tmp_path, subject=subject).study
    dataset = dcmread(study.files[0])
    assert dataset.SpecificCharacterSet == "ISO_IR 192" and str(dataset.PatientName) == subject.patient_name


def test_a_thorax_with_its_truth(tmp_path: Path) -> None:
    document = make_phantom("ct-thorax", tmp_path, seed=3, **SMALL, patient_name="SAMPLE^ONE")
    assert document["shape_kji"][1:] == [48, 48] and document["spacing_mm"] == [30.0, 8.0, 8.0]
    assert len(document["files"]) == document["shape_kji"][0]
    assert str(dcmread(document["files"][0]).PatientName) == "SAMPLE^ONE"
    assert 3500 < document["segments"]["Left lung"] + document["segments"]["Right lung"] < 8000
    seg = Path(document["seg_file"])
    assert dciodvfy_errors(seg) == [] and dciodvfy_errors(Path(document["files"][2])) == []
    assert dcmread(seg).SOPInstanceUID == document["seg_sop_instance_uid"]
    again = make_phantom("ct-thorax", tmp_path / "again", seed=3, **SMALL, patient_name="SAMPLE^ONE")
    assert again["seg_sop_instance_uid"] == document["seg_sop_instance_uid"]
    other = make_phantom("ct-thorax", tmp_path / "other", seed=4, **SMALL)
    assert other["study_uid"] != document["study_uid"]


def test_a_radiograph_of_a_person_of_choice(tmp_path: Path) -> None:
    document = make_phantom("cxr", tmp_path, seed=1, matrix=64, habitus=0.8, vessel_count=4, view="LAT")
    dataset = dcmread(document["files"][0])
    assert document["modality"] == "CR" and list(dataset.PatientOrientation) == ["P", "F"]
    assert document["seg_file"] is None and document["shape_kji"] == [1, 64, 64]
    assert dciodvfy_errors(Path(document["files"][0])) == []


def test_a_brain(tmp_path: Path) -> None:
    document = make_phantom("mr-brain", tmp_path, seed=1, matrix=40, slice_thickness_mm=12)
    assert document["modality"] == "MR" and dciodvfy_errors(Path(document["files"][4])) == []
    assert dciodvfy_errors(Path(document["seg_file"])) == []


@pytest.mark.parametrize(
    ("kind", "settings", "code"),
    [
        ("ct-knee", {}, "phantom.kind"),
        ("ct-thorax", {"colour": "blue"}, "phantom.setting"),
        ("ct-thorax", {"slice_thickness_mm": 0}, "phantom.setting"),
        ("ct-thorax", {"matrix": "wide"}, "phantom.setting"),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path: Path, kind: str, settings: dict, code: str) -> None:
    with pytest.raises(InputError) as error:
        make_phantom(kind, tmp_path, **settings)
    assert error.value.code == code and error.value.remedy
    assert list(tmp_path.iterdir()) == []
