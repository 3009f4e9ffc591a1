"""The demonstration does the main job, and what it writes stands up to others' eyes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.fakes.command_line import dicom_errors, overread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("demo")
    return overread("demo", "--out", out / "out", home=out / "home", timeout=800)


def files(demo: dict[str, Any], kind: str) -> list[Path]:
    return [Path(f["path"]) for f in demo["files"] if f["kind"] == kind]


def test_it_says_that_all_is_well_and_the_chain_verifies(demo: dict[str, Any]) -> None:
    assert demo["ok"]
    audit = overread("audit", "verify", home=Path(demo["home"]))
    assert audit["ok"]
    assert audit["events"] >= demo["audit"]["events"] > 10
    assert audit["first_bad_seq"] is None


def test_it_trains_a_classifier_of_pictures_and_reports(demo: dict[str, Any]) -> None:
    training = demo["training"]
    assert training["done"], training["summary"]
    assert training["network"] == "image_text"
    assert training["metrics"]["accuracy"] > 0.7
    assert (Path(training["bundle"]) / "text" / "vocab.txt").is_file()
    assert any(step["step"] == "train" and "picture and report" in step["summary"] for step in demo["steps"])


def test_every_object_was_read_back(demo: dict[str, Any]) -> None:
    exported = [f for f in demo["files"] if "verified" in f]
    assert {f["kind"] for f in exported} >= {"seg", "sr", "pm", "nifti", "pdf"}
    assert all(f["verified"] and Path(f["path"]).exists() for f in exported)


def test_dicom_objects_have_no_errors_in_dciodvfy(demo: dict[str, Any]) -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools)")
    objects = [p for kind in ("seg", "sr", "pm") for p in files(demo, kind)]
    assert objects
    assert {str(p): dicom_errors(p) for p in objects} == {str(p): [] for p in objects}


def test_the_segmentation_overlays_its_source_to_half_a_voxel(demo: dict[str, Any]) -> None:
    segmentation = hd.seg.segread(files(demo, "seg")[0])
    sample = next(Path(f["path"]) for f in demo["files"] if f["kind"] == "sample")
    sources = {}
    for file in sample.rglob("*.dcm"):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if header.Modality == "CT":
            sources[header.SOPInstanceUID] = header
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        referenced = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        source = np.array(sources[referenced].ImagePositionPatient, dtype=float)
        assert np.abs(position - source).max() < 0.5
    assert segmentation.Rows == next(iter(sources.values())).Rows


def test_the_structured_report_opens_in_highdicom(demo: dict[str, Any]) -> None:
    for file in files(demo, "sr"):
        report = hd.sr.srread(file)
        assert report.content.get_image_measurement_groups() is not None


def test_the_pictures_show_something(demo: dict[str, Any]) -> None:
    pictures = files(demo, "picture")
    assert len(pictures) >= 4
    for picture in pictures:
        pixels = np.asarray(Image.open(picture).convert("L"), dtype=float)
        assert pixels.std() > 10, picture
