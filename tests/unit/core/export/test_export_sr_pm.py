"""Structured reports and Parametric Maps: content, validity, read-back."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from core.domain.errors import InputError, SafetyError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.result import ClassProbability, Decision, Finding, ModelResult, Verdict
from core.export.pm import write_parametric_map
from core.export.report_facts import ReportFacts
from core.export.seg import SegmentAuthor, write_seg
from core.export.source import SourceSeries, read_source
from core.export.sr import write_sr
from core.phantom.acquisition import cr_acquisition
from core.phantom.dicom import PhantomSubject, write_study
from tests.fakes.marked_phantom import MODEL, MarkedPhantom, facts, write_marked
from tests.fakes.validators import dciodvfy_errors


@pytest.fixture
def phantom(tmp_path: Path) -> MarkedPhantom:
    return write_marked(tmp_path / "ct")


@pytest.fixture
def source(phantom: MarkedPhantom) -> SourceSeries:
    return read_source(phantom.study.files, phantom.geometry)


def radiograph(folder: Path) -> tuple[SourceSeries, VolumeGeometry]:
    geometry = VolumeGeometry.from_axes((1, 12, 10), (0.8, 0.8, 0.8), np.eye(3), (0.0, 0.0, 0.0))
    pixels = np.arange(120, dtype=np.int16).reshape(1, 12, 10)
    study = write_study(pixels, geometry, cr_acquisition(), PhantomSubject(), key="cr", out=folder)
    return read_source(study.files, geometry), geometry


def classification() -> ReportFacts:
    result = ModelResult(
        "result-2", "study", "series", MODEL, "classification", "cpu",
        classes=(ClassProbability("CXR", 0.90625), ClassProbability("Hand", 0.09375)),
        findings=(Finding("c1", "CXR", "class", score=0.90625),), prediction_set=("CXR",),
    )  # fmt: skip
    accepted = Decision("d", "result-2", "c1", Verdict.ACCEPT, "Anna", "2026-01-02T03:04:05")
    return ReportFacts(result, reader="Anna", decisions={"c1": accepted})


def test_a_report_states_measures_verdicts_and_segments(
    phantom: MarkedPhantom, source: SourceSeries, tmp_path: Path
) -> None:
    stated = facts(phantom)
    seg = write_seg(
        phantom.segmentation, source, tmp_path, result_id="result-1", author=SegmentAuthor(MODEL),
        tracking_keys=stated.tracking_keys(),
    )  # fmt: skip
    file = write_sr(stated, source, tmp_path, seg=seg)
    assert file.verified and dciodvfy_errors(file.path) == []
    report = hd.sr.srread(file.path)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [g.finding_type.meaning for g in groups] == ["Liver", "Spleen"]
    liver = {m.name.meaning: (m.value, m.unit.value) for m in groups[0].get_measurements()}
    assert liver["Volume"] == (pytest.approx(stated.result.findings[0].volume_ml, abs=1e-4), "ml")
    assert liver["Diameter"] == (4.25, "mm") and liver["Attenuation Coefficient"][1] == "[hnsf'U]"
    verdicts = [{e.name.value: e.value.value for e in g.get_qualitative_evaluations()} for g in groups]
    assert [v["VERDICT"] for v in verdicts] == ["REJECTED", "NOTREVIEWED"]
    uids = {int(s.SegmentNumber): s.TrackingUID for s in seg.header.SegmentSequence}
    assert [g.tracking_uid for g in groups] == [uids[1], uids[2]], "SEG and SR track the same findings"
    named = dcmread(file.path).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert sum(len(s.ReferencedSOPSequence) for s in named) == len(phantom.study.files) + 1


def test_a_report_names_its_observers_and_its_limits(
    phantom: MarkedPhantom, source: SourceSeries, tmp_path: Path
) -> None:
    file = write_sr(facts(phantom, reader="Łukasz"), source, tmp_path)
    dataset = dcmread(file.path)
    text = file.path.read_bytes().decode("utf-8", "replace")
    for stated in ("Łukasz", "Overread", "Not for primary diagnosis", MODEL.sha256, "1.0.0"):
        assert stated in text
    assert dataset.SpecificCharacterSet == "ISO_IR 192" and dciodvfy_errors(file.path) == []
    assert dataset.PreliminaryFlag == "PRELIMINARY" and dataset.VerificationFlag == "UNVERIFIED"


def test_without_a_seg_the_measures_stand_at_the_centroid(
    phantom: MarkedPhantom, source: SourceSeries, tmp_path: Path
) -> None:
    report = hd.sr.srread(write_sr(facts(phantom), source, tmp_path).path)
    assert report.content.get_volumetric_roi_measurement_groups() == []
    points = report.content.get_planar_roi_measurement_groups()
    assert [len(g.get_measurements()) for g in points] == [3, 3]


def test_a_classification_of_a_radiograph(tmp_path: Path) -> None:
    source, _ = radiograph(tmp_path / "cr")
    file = write_sr(classification(), source, tmp_path)
    assert file.verified and dciodvfy_errors(file.path) == []
    groups = hd.sr.srread(file.path).content.get_image_measurement_groups()
    values = [[m.value for m in g.get_measurements()] for g in groups]
    assert values == [[0.9062], [0.0938]]
    verdicts = {e.name.value: e.value.value for e in groups[0].get_qualitative_evaluations()}
    assert verdicts["VERDICT"] == "ACCEPTED"


def test_a_report_of_nothing_is_refused(source: SourceSeries, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        write_sr(ReportFacts(ModelResult("r", "s", "u", MODEL, "segmentation", "cpu")), source, tmp_path)
    assert error.value.code == "export.nothing_to_report"


def test_a_report_that_reads_back_differently_does_not_stay(
    phantom: MarkedPhantom, source: SourceSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hd.sr.Comprehensive3DSR.save_as

    def damaged(dataset, path, **options) -> None:
        for element in dataset.iterall():
            if element.keyword == "NumericValue":
                element.value = "12345.0"
                break
        real(dataset, path, **options)

    monkeypatch.setattr(hd.sr.Comprehensive3DSR, "save_as", damaged)
    with pytest.raises(SafetyError, match="measurements of Liver"):
        write_sr(facts(phantom), source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def heat_on(geometry: VolumeGeometry) -> Explanation:
    heat = np.random.default_rng(1).random(geometry.shape_kji, dtype=np.float32)
    return Explanation(geometry, heat, "gradcam", "Spleen", "layer4", (8.0, 8.0, 6.0), 0.1, True)


def test_a_heat_map_is_valid_and_says_how_fine_it_is(
    phantom: MarkedPhantom, source: SourceSeries, tmp_path: Path
) -> None:
    explanation = heat_on(phantom.geometry)
    file = write_parametric_map(explanation, source, tmp_path, model=MODEL)
    assert file.verified and dciodvfy_errors(file.path) == []
    dataset = dcmread(file.path)
    stored = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(explanation.heat.shape)
    heights = [
        float(g.PlanePositionSequence[0].ImagePositionPatient[2])
        for g in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert np.array_equal(stored[np.argsort(heights)], explanation.heat)
    assert "8.0 x 8.0 x 6.0 mm" in dataset.ImageComments and "passed" in dataset.ImageComments
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == "Saliency"


def test_a_source_without_body_part_still_gives_a_valid_map(phantom: MarkedPhantom, tmp_path: Path) -> None:
    for file in phantom.study.files:
        dataset = dcmread(file)
        del dataset.BodyPartExamined
        dataset.Laterality = ""
        dataset.save_as(file)
    source = read_source(phantom.study.files, phantom.geometry)
    assert (
        dciodvfy_errors(write_parametric_map(heat_on(phantom.geometry), source, tmp_path, model=MODEL).path)
        == []
    )


def test_a_heat_map_of_a_radiograph_has_coordinates_of_its_own(tmp_path: Path) -> None:
    source, geometry = radiograph(tmp_path / "cr")
    file = write_parametric_map(heat_on(geometry), source, tmp_path, model=MODEL)
    dataset = dcmread(file.path)
    assert file.verified and dciodvfy_errors(file.path) == []
    orientation = (
        dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    )
    assert list(orientation) == [1, 0, 0, 0, 0, -1], "Patient Orientation of the radiograph is L\\F"
    assert "local to the image" in dataset.ImageComments


def test_a_map_that_reads_back_differently_does_not_stay(
    phantom: MarkedPhantom, source: SourceSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hd.pm.ParametricMap.save_as

    def damaged(dataset, path, **options) -> None:
        dataset.FloatPixelData = np.frombuffer(dataset.FloatPixelData, "<f4")[::-1].tobytes()
        real(dataset, path, **options)

    monkeypatch.setattr(hd.pm.ParametricMap, "save_as", damaged)
    with pytest.raises(SafetyError, match="values"):
        write_parametric_map(heat_on(phantom.geometry), source, tmp_path / "out", model=MODEL)
    assert list((tmp_path / "out").iterdir()) == []
