"""What a written SEG holds, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from core.domain.errors import InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.result import Verdict
from core.domain.segmentation import Segmentation
from core.export.seg import SegmentAuthor, WrittenSeg, write_seg
from core.export.source import read_source
from core.formats.nifti import write_nifti
from core.phantom.acquisition import mr_acquisition
from core.phantom.dicom import PhantomSubject
from tests.fakes.data import data_path
from tests.fakes.marked_phantom import MODEL, SEGMENTS, MarkedPhantom, grid, write_marked
from tests.fakes.validators import dciodvfy_errors


@pytest.fixture
def phantom(tmp_path: Path) -> MarkedPhantom:
    return write_marked(tmp_path / "ct")


def written(phantom: MarkedPhantom, out: Path, **options) -> WrittenSeg:
    source = read_source(phantom.study.files, phantom.geometry)
    options = {"result_id": "r", "author": SegmentAuthor(MODEL), **options}
    return write_seg(options.pop("segmentation", phantom.segmentation), source, out, **options)


def test_a_seg_is_valid_and_loads(phantom: MarkedPhantom, tmp_path: Path) -> None:
    seg = written(phantom, tmp_path)
    assert dciodvfy_errors(seg.file.path) == []
    loaded = hd.seg.segread(seg.file.path)
    volume = loaded.get_volume(combine_segments=True, allow_missing_positions=True)
    assert {int(v) for v in np.unique(volume.array)} == {0, 1, 2}
    assert seg.file.verified and seg.file.sop_instance_uid == loaded.SOPInstanceUID


def test_it_says_what_was_segmented_and_by_which_model(phantom: MarkedPhantom, tmp_path: Path) -> None:
    seg = written(phantom, tmp_path, verdicts={2: Verdict.UNSURE})
    liver, spleen = dcmread(seg.file.path).SegmentSequence
    assert (liver.SegmentLabel, spleen.SegmentLabel) == ("Liver", "Spleen")
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert liver.SegmentAlgorithmType == "AUTOMATIC" and liver.SegmentAlgorithmName == "Thorax CT"
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmVersion == "1.0.0" and MODEL.sha256 in algorithm.AlgorithmParameters
    assert "nsure" in liver.SegmentDescription and "SegmentDescription" not in spleen
    assert liver.TrackingUID != spleen.TrackingUID and "RecommendedDisplayCIELabValue" in liver


@pytest.mark.parametrize(("rejected", "kept"), [(SEGMENTS[1].value, "Liver"), (SEGMENTS[0].value, "Spleen")])
def test_a_rejected_segment_does_not_go_back_to_the_archive(
    phantom: MarkedPhantom, tmp_path: Path, rejected: int, kept: str
) -> None:
    seg = written(phantom, tmp_path, verdicts={rejected: Verdict.REJECT})
    dataset = dcmread(seg.file.path)
    assert [s.SegmentLabel for s in dataset.SegmentSequence] == [kept]
    assert any("rejected segments left out" in note for note in seg.file.notes)
    assert dciodvfy_errors(seg.file.path) == []


def test_a_result_that_was_rejected_whole_gives_no_seg(phantom: MarkedPhantom, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rejected"):
        written(phantom, tmp_path, verdicts={s.value: Verdict.REJECT for s in SEGMENTS})


def test_empty_segments_and_frames_are_left_out(phantom: MarkedPhantom, tmp_path: Path) -> None:
    seg = written(phantom, tmp_path)
    assert seg.file.notes == ("empty segments left out: Kidney",)
    assert seg.segment_numbers == {2: 1, 5: 2}
    assert int(dcmread(seg.file.path).NumberOfFrames) == 4


def test_a_single_segment(phantom: MarkedPhantom, tmp_path: Path) -> None:
    only = Segmentation(
        phantom.geometry, np.where(phantom.segmentation.labels == 5, 5, 0).astype(np.uint16), SEGMENTS
    )
    seg = written(phantom, tmp_path, segmentation=only)
    assert dciodvfy_errors(seg.file.path) == [] and seg.segment_numbers == {5: 1}


def test_identity_is_the_source_s_and_the_file_name_is_free_of_it(tmp_path: Path) -> None:
    subject = PhantomSubject(patient_name="山田^太郎=やまだ^たろう", patient_id="ID-77")
    phantom = write_marked(tmp_path / "mr", acquisition=mr_acquisition(), subject=subject)
    seg = written(phantom, tmp_path, author=SegmentAuthor(MODEL, reader="Ångström^Åsa"))
    dataset = dcmread(seg.file.path)
    assert str(dataset.PatientName) == subject.patient_name and dataset.PatientID == "ID-77"
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert str(dataset.ContentCreatorName) == "Ångström^Åsa"
    assert dataset.StudyInstanceUID == phantom.study.study_uid
    assert "77" not in seg.file.path.stem.replace(seg.file.path.stem.split("_")[1], "")
    assert dciodvfy_errors(seg.file.path) == []
    assert seg.file.path.read_bytes()[:128] == b"\0" * 128


def test_positions_decide_not_the_order_of_files(phantom: MarkedPhantom) -> None:
    forward = read_source(phantom.study.files, phantom.geometry)
    backward = read_source(phantom.study.files[::-1], phantom.geometry)
    assert [h.SOPInstanceUID for h in forward.headers] == [h.SOPInstanceUID for h in backward.headers]
    assert [str(h.SOPInstanceUID) for h in forward.headers] == list(phantom.study.sop_instance_uids)


@pytest.mark.parametrize("case", ["flipped", "shifted", "missing"])
def test_a_grid_that_is_not_the_images_grid_is_refused(phantom: MarkedPhantom, case: str) -> None:
    matrix, files = phantom.geometry.lps_from_ijk.copy(), phantom.study.files
    if case == "flipped":
        matrix[:3, 0] *= -1
    elif case == "shifted":
        matrix[:3, 3] += 0.6 * matrix[:3, 0]
    else:
        files = files[1:]
    with pytest.raises(SafetyError) as error:
        read_source(files, VolumeGeometry(phantom.geometry.shape_kji, matrix))
    assert error.value.code in ("export.grid_differs", "export.slice_missing")


def test_two_images_at_one_place_are_refused(phantom: MarkedPhantom, tmp_path: Path) -> None:
    twin = write_marked(tmp_path / "twin").study.files[2]
    dataset = dcmread(twin)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
    dataset.save_as(twin)
    with pytest.raises(SafetyError, match="slice 3"):
        read_source([*phantom.study.files, twin], phantom.geometry)


def test_a_mixture_of_patients_is_refused(phantom: MarkedPhantom) -> None:
    dataset = dcmread(phantom.study.files[0])
    dataset.PatientID = "SOMEBODY-ELSE"
    dataset.save_as(phantom.study.files[0])
    with pytest.raises(SafetyError) as error:
        read_source(phantom.study.files, phantom.geometry)
    assert error.value.code == "export.mixed_patients" and "SOMEBODY" not in str(error.value)


def test_a_source_without_dicom_names_what_is_possible(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "t1.nii.gz", grid(), np.zeros(grid().shape_kji, np.int16))
    with pytest.raises(InputError) as error:
        read_source([file], grid())
    assert "nifti" in error.value.remedy


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_blank_identifiers_are_refused(phantom: MarkedPhantom, keyword: str) -> None:
    dataset = dcmread(phantom.study.files[0])
    setattr(dataset, keyword, "")
    dataset.save_as(phantom.study.files[0], enforce_file_format=False)
    with pytest.raises(InputError, match=keyword):
        read_source(phantom.study.files, phantom.geometry)


def test_an_empty_map_and_an_undefined_value_are_refused(phantom: MarkedPhantom, tmp_path: Path) -> None:
    empty = Segmentation(phantom.geometry, np.zeros(phantom.geometry.shape_kji, np.uint8), SEGMENTS)
    with pytest.raises(InputError, match="empty"):
        written(phantom, tmp_path, segmentation=empty)
    with pytest.raises(InputError, match="value 2"):
        written(phantom, tmp_path, segmentation=replace(phantom.segmentation, segments=SEGMENTS[1:]))


@pytest.mark.parametrize(
    "fault", ["bit", "position", "segment", "patient", "reference", "frame of reference"]
)
def test_a_file_that_differs_from_the_map_does_not_stay(
    phantom: MarkedPhantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    real = hd.seg.Segmentation.save_as

    def damaged(dataset, path, **options) -> None:
        first = dataset.PerFrameFunctionalGroupsSequence[0]
        if fault == "bit":
            dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]
        elif fault == "position":
            first.PlanePositionSequence[0].ImagePositionPatient = [-31.0, 17.0, 53.5]
        elif fault == "segment":
            first.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2
        elif fault == "patient":
            dataset.PatientID = "OTHER"
        elif fault == "reference":
            first.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "2.25.1"
        else:
            dataset.FrameOfReferenceUID = "2.25.2"
        real(dataset, path, **options)

    monkeypatch.setattr(hd.seg.Segmentation, "save_as", damaged)
    out = tmp_path / "out"
    with pytest.raises(SafetyError) as error:
        written(phantom, out)
    assert error.value.code == "export.read_back"
    assert list(out.iterdir()) == []


def test_a_mirrored_writer_is_found_by_the_centroid(
    phantom: MarkedPhantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hd.seg.Segmentation.save_as

    def mirrored(dataset, path, **options) -> None:
        orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        orientation.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
        real(dataset, path, **options)

    monkeypatch.setattr(hd.seg.Segmentation, "save_as", mirrored)
    with pytest.raises(SafetyError, match="centroid"):
        written(phantom, tmp_path / "out")


def test_a_multi_frame_source_is_referred_to_by_frame(phantom: MarkedPhantom, tmp_path: Path) -> None:
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        [dcmread(file) for file in phantom.study.files[::-1]], "2.25.11", 3, "2.25.12", 1
    )
    enhanced.save_as(tmp_path / "enhanced.dcm")
    source = read_source([tmp_path / "enhanced.dcm"], phantom.geometry)
    assert source.is_multiframe and sorted(source.frame_of_slice) == [0, 1, 2, 3, 4]
    seg = write_seg(phantom.segmentation, source, tmp_path, result_id="r", author=SegmentAuthor(MODEL))
    assert seg.file.verified and dciodvfy_errors(seg.file.path) == []


@pytest.mark.data
def test_a_seg_on_a_real_chest_ct(tmp_path: Path) -> None:
    files = sorted(p for p in data_path("core/dicom/ct-chest-lidc0314-10slices").iterdir() if p.is_file())
    headers = sorted(
        (dcmread(f, stop_before_pixels=True) for f in files), key=lambda h: h.ImagePositionPatient[2]
    )
    row_mm, column_mm = (float(v) for v in headers[0].PixelSpacing)
    x, y, z = (float(v) for v in headers[0].ImagePositionPatient)
    geometry = VolumeGeometry.from_axes((10, 512, 512), (column_mm, row_mm, 1.0), np.eye(3), (x, y, z))
    labels = np.zeros((10, 512, 512), np.uint8)
    labels[2:8, 100:300, 50:200] = 2
    labels[0:3, 310:400, 250:481] = 5
    source = read_source(files, geometry)
    seg = write_seg(
        Segmentation(geometry, labels, SEGMENTS), source, tmp_path, result_id="r", author=SegmentAuthor(MODEL)
    )
    assert seg.file.verified and dciodvfy_errors(seg.file.path) == []
    assert dcmread(seg.file.path).PatientID == headers[0].PatientID
