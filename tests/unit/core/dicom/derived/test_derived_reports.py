"""Reports, key images and presentation states say what their authors said, and where."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes

from core.dicom.derived import content
from core.dicom.derived.gsps import read_presentation
from core.dicom.derived.sr import read_key_objects, read_report
from core.domain.study import ObjectKind
from core.export.kos import write_kos
from core.export.seg import SegmentAuthor, write_seg
from core.export.source import read_source
from core.export.sr import write_sr
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save
from tests.fakes.marked_phantom import MODEL, MarkedPhantom, facts, write_marked

REPORT = "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture
def phantom(tmp_path: Path) -> MarkedPhantom:
    return write_marked(tmp_path / "ct")


def test_our_own_report_is_read_back(phantom: MarkedPhantom, tmp_path: Path) -> None:
    source = read_source(phantom.study.files, phantom.geometry)
    stated = facts(phantom)
    seg = write_seg(
        phantom.segmentation, source, tmp_path, result_id="result-1", author=SegmentAuthor(MODEL),
        tracking_keys=stated.tracking_keys(),
    )  # fmt: skip
    report = read_report(write_sr(stated, source, tmp_path, seg=seg).path)
    assert report.header.kind is ObjectKind.REPORT and report.template == "1500"
    assert report.title == "Imaging Measurement Report" and not report.verified
    assert report.header.source_series[0] == phantom.study.series_uid
    by_name = {(m.finding, m.name): m for m in report.measurements}
    liver = by_name["Liver", "Volume"]
    assert liver.value == pytest.approx(stated.result.findings[0].volume_ml, abs=1e-4) and liver.unit == "ml"
    assert liver.tracking_id == "Liver"
    assert by_name["Spleen", "Attenuation Coefficient (Mean)"].unit == "HU"
    points = {item.places[0].points_lps_mm for item in report.items if item.value_type == "SCOORD3D"}
    for finding in stated.result.findings:
        assert any(np.allclose(p[0], finding.centroid_lps_mm, atol=1e-4) for p in points)
    assert any(item.value == "segment 1" and item.images for item in report.items)
    assert any(item.value == "Rejected by the reader" for item in report.items)


def test_our_own_key_images_are_read_back(phantom: MarkedPhantom, tmp_path: Path) -> None:
    source = read_source(phantom.study.files, phantom.geometry)
    path = write_kos(facts(phantom), source, tmp_path).path
    selection = read_key_objects(path)
    wanted = [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in dcmread(path).ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert [image.sop_instance_uid for image in selection.images] == wanted
    assert selection.title == "Of Interest" and "thorax-ct" in selection.description
    assert selection.header.kind is ObjectKind.KEY_OBJECTS


def test_a_report_of_another_template_becomes_lines() -> None:
    path = get_testdata_file("test-SR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom brings no test-SR.dcm")
    report = read_report(Path(str(path)))
    assert [(m.name, m.value) for m in report.measurements] == [("Diameter", 3.0)] * 2
    assert any(item.value == "see item 1.3.2" for item in report.items)
    circle = next(item for item in report.items if item.value_type == "SCOORD")
    assert circle.places[0].shape == "circle" and circle.value == "circle, 2 points"
    frames = next(item for item in report.items if item.value == "frames 5, 2")
    assert frames.images[0].frames == (5, 2)


def concept(value: str, scheme: str, meaning: str) -> Items:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Items([item])


def content_item(kind: str, name: Items | None = None, children: list[Dataset] | None = None) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    if name is not None:
        item.ConceptNameCodeSequence = name
    if children:
        item.ContentSequence = Items(children)
    return item


def number(value: str, unit: str, children: list[Dataset]) -> Dataset:
    item = content_item("NUM", concept("103339001", "SCT", "Long Axis"), children)
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = concept(unit, "UCUM", unit)
    item.MeasuredValueSequence = Items([measured])
    return item


def test_a_length_on_an_image_is_placed_in_pixels_from_the_centre_of_the_first(tmp_path: Path) -> None:
    image = content_item("IMAGE")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    reference.ReferencedFrameNumber = 4
    image.ReferencedSOPSequence = Items([reference])
    line = content_item("SCOORD", None, [image])
    line.GraphicType, line.GraphicData = "POLYLINE", [10.5, 20.5, 30.0, 40.0]
    site = content_item("CODE", concept("363698007", "SCT", "Finding Site"))
    site.ConceptCodeSequence = concept("10200004", "SCT", "Liver")
    side = content_item("CODE", concept("272741003", "SCT", "Laterality"))
    side.ConceptCodeSequence = concept("24028007", "SCT", "Right")
    site.ContentSequence = Items([side])
    tracking = content_item("TEXT", concept("112039", "DCM", "Tracking Identifier"))
    tracking.TextValue = "Lesion 1"
    group = content_item(
        "CONTAINER",
        concept("125007", "DCM", "Measurement Group"),
        [tracking, site, number("12.5", "mm", [line])],
    )
    data = empty_dataset(REPORT, f"{UID_ROOT}.10.1")
    data.Modality, data.ValueType = "SR", "CONTAINER"
    data.ConceptNameCodeSequence = concept("126000", "DCM", "Imaging Measurement Report")
    data.CompletionFlag, data.VerificationFlag = "COMPLETE", "VERIFIED"
    data.ContentSequence = Items([group])
    report = read_report(save(data, tmp_path / "sr.dcm"))
    (measured,) = report.measurements
    assert (measured.name, measured.value, measured.unit) == ("Long Axis", 12.5, "mm")
    assert (measured.site, measured.tracking_id) == ("Liver (Right)", "Lesion 1")
    (place,) = measured.places
    assert place.image is not None and place.image.frames == (4,) and place.shape == "polyline"
    assert place.points_ij == ((10.0, 20.0), (29.5, 39.5))
    assert report.complete and report.verified


def test_a_report_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_NODES", 10)
    data = empty_dataset(REPORT, f"{UID_ROOT}.10.1")
    data.ContentSequence = Items([content_item("TEXT") for _ in range(50)])
    report = read_report(save(data, tmp_path / "sr.dcm"))
    assert len(report.items) == 10 and [i.code for i in report.header.issues] == ["sr.cut"]


def test_texts_are_decoded_in_their_character_set_at_any_depth(tmp_path: Path) -> None:
    text = content_item("TEXT", concept("121071", "DCM", "所見"))
    text.TextValue = "右肺に結節\u0007"
    data = empty_dataset(REPORT, f"{UID_ROOT}.10.1")
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ContentSequence = Items([content_item("CONTAINER", None, [text])])
    report = read_report(save(data, tmp_path / "sr.dcm"))
    assert (report.items[1].name, report.items[1].value) == ("所見", "右肺に結節")


def presentation(phantom: MarkedPhantom, **more: object) -> hd.pr.GrayscaleSoftcopyPresentationState:
    images = [dcmread(file) for file in phantom.study.files]
    points = np.array([[1.5, 2.5], [5.0, 6.0]])
    graphic = hd.pr.GraphicObject(
        graphic_type=hd.pr.GraphicTypeValues.POLYLINE, graphic_data=points, units="PIXEL"
    )
    text = hd.pr.TextObject(text_value="Look here", units="PIXEL", anchor_point=(3.5, 4.5))
    layer = hd.pr.GraphicLayer("MARKS", order=1)
    annotation = hd.pr.GraphicAnnotation(
        referenced_images=images[:1], graphic_layer=layer, graphic_objects=[graphic], text_objects=[text]
    )
    return hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        series_instance_uid=f"{UID_ROOT}.11",
        series_number=1,
        sop_instance_uid=f"{UID_ROOT}.11.1",
        instance_number=1,
        manufacturer="Maker",
        manufacturer_model_name="Model",
        software_versions="1",
        device_serial_number="1",
        content_label="LOOK",
        graphic_layers=[layer],
        graphic_annotations=[annotation],
        voi_lut_transformations=[hd.pr.SoftcopyVOILUTTransformation(window_center=40.0, window_width=400.0)],
        presentation_lut_transformation=hd.PresentationLUTTransformation(presentation_lut_shape="INVERSE"),
        concept_name=codes.DCM.BestIllustrationOfFinding,
        **more,
    )


def test_a_presentation_state_of_highdicom(phantom: MarkedPhantom, tmp_path: Path) -> None:
    path = tmp_path / "gsps.dcm"
    presentation(phantom).save_as(path)
    state = read_presentation(path)
    first = str(dcmread(phantom.study.files[0]).SOPInstanceUID)
    assert [(a.shape, a.points_ij, a.text, a.layer) for a in state.annotations] == [
        ("polyline", ((1.0, 2.0), (4.5, 5.5)), "", "MARKS"),
        ("text", ((3.0, 4.0),), "Look here", "MARKS"),
    ]
    assert {a.image.sop_instance_uid for a in state.annotations} == {first}
    assert (state.windows[""].center, state.windows[""].width) == (40.0, 400.0)
    assert state.inverted and state.rotation_deg == 0 and not state.flipped
    assert len(state.images) == 5 and state.header.source_series == (phantom.study.series_uid,)
    assert state.header.label == "LOOK" and state.unsupported == ()


@pytest.mark.parametrize(
    "rotation, corner, low, high, wanted",
    [
        (0, (0.0, 0.0), (1, 1), (10, 20), (-0.5, -0.5)),
        (0, (1.0, 1.0), (1, 1), (10, 20), (9.5, 19.5)),
        (0, (0.5, 0.25), (3, 5), (6, 8), (3.5, 4.5)),
        (0, (0.0, 0.0), (10, 1), (1, 20), (9.5, -0.5)),  # flipped: the left of the screen is the last column
        (90, (0.0, 0.0), (1, 20), (10, 1), (-0.5, 19.5)),  # turned clockwise: the lower left corner comes up
        (90, (1.0, 0.0), (1, 20), (10, 1), (-0.5, -0.5)),
        (180, (0.0, 0.0), (10, 20), (1, 1), (9.5, 19.5)),
        (270, (1.0, 1.0), (10, 1), (1, 20), (-0.5, 19.5)),
    ],
)
def test_display_units_follow_the_displayed_area(
    phantom: MarkedPhantom,
    tmp_path: Path,
    rotation: int,
    corner: tuple,
    low: tuple,
    high: tuple,
    wanted: tuple,
) -> None:
    data = presentation(phantom)
    data.ImageRotation, data.ImageHorizontalFlip = rotation, "Y" if low[0] > high[0] and not rotation else "N"
    for area in data.DisplayedAreaSelectionSequence:
        area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = list(low), list(high)
    (text,) = data.GraphicAnnotationSequence[0].TextObjectSequence
    text.AnchorPointAnnotationUnits, text.AnchorPoint = "DISPLAY", list(corner)
    data.save_as(tmp_path / "gsps.dcm")
    state = read_presentation(tmp_path / "gsps.dcm")
    note = next(a for a in state.annotations if a.shape == "text")
    assert note.points_ij[0] == pytest.approx(wanted) and state.rotation_deg == rotation
    area = next(iter(state.displayed_areas.values()))
    assert area == (min(low[0], high[0]) - 1, min(low[1], high[1]) - 1, max(low[0], high[0]) - 1,
                    max(low[1], high[1]) - 1)  # fmt: skip


def test_what_is_not_done_of_a_presentation_state_is_said(phantom: MarkedPhantom, tmp_path: Path) -> None:
    data = presentation(phantom)
    data.ShutterShape, data.ImageRotation = "RECTANGULAR", 45
    data.PresentationLUTSequence = Items([Dataset()])
    (text,) = data.GraphicAnnotationSequence[0].TextObjectSequence
    del text.AnchorPoint
    data.save_as(tmp_path / "gsps.dcm")
    state = read_presentation(tmp_path / "gsps.dcm")
    assert set(state.unsupported) == {
        "display shutter", "presentation look-up table", "rotation by 45 degrees", "text without a place",
    }  # fmt: skip
    assert [issue.code for issue in state.header.issues] == ["gsps.incomplete"]
