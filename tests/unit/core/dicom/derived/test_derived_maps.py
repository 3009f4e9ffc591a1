"""Parametric maps keep values and places; encapsulated documents are drawn in a process of their own."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from reportlab.pdfgen import canvas

from core.dicom.derived import page_process
from core.dicom.derived.document import draw_page, read_document
from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.page_pool import PagePool
from core.dicom.derived.pm import read_parametric_map
from core.domain.errors import InputError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.export.pm import write_parametric_map
from core.export.source import read_source
from tests.fakes.data import data_path
from tests.fakes.derived_files import code, grid_of, seg_dataset
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save
from tests.fakes.marked_phantom import MODEL, grid, orientations, write_marked

ZOO = "core/dicom/pydicom-data-zoo"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


@pytest.mark.parametrize("name", ["parametric_map_float", "parametric_map_double_float"])
def test_real_maps(name: str) -> None:
    path = data_path(f"{ZOO}/{name}.dcm")
    found = read_parametric_map(path)
    stored = dcmread(path).pixel_array.reshape(1, 128, 128)
    assert np.allclose(found.values, stored, rtol=0, atol=1e-6) and found.values.dtype == np.float32
    assert found.quantity == "feature_001" and found.unit == ""
    assert found.geometry.spacing_ijk_mm == pytest.approx((0.661468, 0.661468, 5.0))
    assert found.geometry.origin_lps_mm == pytest.approx((-158.135803, -179.035797, -75.699997))


@pytest.mark.parametrize("index", range(0, 24, 5))
def test_our_own_map_is_read_back_onto_its_source(tmp_path: Path, index: int) -> None:
    phantom = write_marked(tmp_path / "ct", grid(orientations()[index], tilt_deg=12.0))
    source = read_source(phantom.study.files, phantom.geometry)
    heat = np.random.default_rng(index).random(phantom.geometry.shape_kji, dtype=np.float32)
    explanation = Explanation(phantom.geometry, heat, "gradcam", "Spleen", "layer", (2.0, 2.0, 2.0))
    path = write_parametric_map(explanation, source, tmp_path, model=MODEL).path
    target = grid_of(phantom.study.files)
    found = read_parametric_map(path, target)
    k = [
        round(h) for h in phantom.geometry.ijk_of(target.geometry.lps_of([(0, 0, n) for n in range(5)]))[:, 2]
    ]
    assert np.array_equal(found.values, heat[k]) and found.quantity == "Saliency"
    assert found.header.issues == () and not found.values.flags.writeable


def map_of_integers(**mapping: object) -> Dataset:
    own = grid()
    values = np.arange(99, dtype=np.uint16).reshape(9, 11)
    data = seg_dataset([(1, values + 100 * k, own, k) for k in (0, 1, 3)], (1,), kind="MAP", bits=16)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = PARAMETRIC_MAP
    real = Dataset()
    real.LUTLabel, real.LUTExplanation = "ADC", "Diffusion"
    real.MeasurementUnitsCodeSequence = Items([code("um2/s", "UCUM", "um2/s")])
    for keyword, value in mapping.items():
        setattr(real, keyword, value)
    data.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = Items([real])
    return data


def test_integers_are_mapped_to_the_real_world_and_gaps_stay_empty(tmp_path: Path) -> None:
    data = map_of_integers(RealWorldValueSlope=0.5, RealWorldValueIntercept=-3.0)
    found = read_parametric_map(save(data, tmp_path / "pm.dcm"))
    assert (found.quantity, found.unit) == ("Diffusion", "um2/s") and found.values.shape == (4, 9, 11)
    assert found.values[1, 0, 2] == 102 * 0.5 - 3 and np.isnan(found.values[2]).all()


def test_integers_may_be_mapped_by_a_table(tmp_path: Path) -> None:
    data = map_of_integers(
        RealWorldValueLUTData=[float(n * n) for n in range(50)],
        RealWorldValueFirstValueMapped=10, RealWorldValueLastValueMapped=59,
    )  # fmt: skip
    found = read_parametric_map(save(data, tmp_path / "pm.dcm"))
    assert found.values[0, 0, 10] == 0 and found.values[0, 1, 1] == 4.0
    assert np.isnan(found.values[0, 0, 9]) and np.isnan(found.values[1]).all()


def test_a_map_on_another_grid_shows_the_nearest_value(tmp_path: Path) -> None:
    data = map_of_integers(RealWorldValueSlope=1.0, RealWorldValueIntercept=0.0)
    own = grid()
    target = TargetGrid(VolumeGeometry(own.shape_kji, own.lps_from_ijk).resampled_to((0.45, 0.65, 2.1)))
    found = read_parametric_map(save(data, tmp_path / "pm.dcm"), target)
    assert [issue.code for issue in found.header.issues] == ["derived.resampled"]
    assert found.values[0, 0].tolist()[:6] == [0, 0, 1, 1, 2, 2] and np.isnan(found.values[2]).all()


def test_a_second_quantity_is_left_out_and_told(tmp_path: Path) -> None:
    data = map_of_integers(RealWorldValueSlope=1.0, RealWorldValueIntercept=0.0)
    other = Dataset()
    other.LUTLabel, other.RealWorldValueSlope, other.RealWorldValueIntercept = "T2", 1.0, 0.0
    data.PerFrameFunctionalGroupsSequence[2].RealWorldValueMappingSequence = Items([other])
    found = read_parametric_map(save(data, tmp_path / "pm.dcm"))
    assert [issue.code for issue in found.header.issues] == ["pm.several_maps"]


@pytest.mark.parametrize("mapping", [{"RealWorldValueSlope": 0.0, "RealWorldValueIntercept": 1.0}, {}])
def test_a_mapping_that_means_nothing_is_refused(tmp_path: Path, mapping: dict) -> None:
    with pytest.raises(InputError, match="slope"):
        read_parametric_map(save(map_of_integers(**mapping), tmp_path / "pm.dcm"))


def pdf() -> bytes:
    stream = io.BytesIO()
    drawing = canvas.Canvas(stream, pagesize=(400, 600))
    drawing.drawString(100, 500, "first page")
    drawing.showPage()
    drawing.setFillColorRGB(1, 0, 0)
    drawing.rect(0, 300, 400, 300, fill=1)
    drawing.showPage()
    drawing.save()
    return stream.getvalue()


def document(
    tmp_path: Path, content: bytes, media_type: str = "application/pdf", sop_class: str = PDF
) -> Path:
    data = empty_dataset(sop_class, f"{UID_ROOT}.12.1")
    data.Modality, data.DocumentTitle, data.MIMETypeOfEncapsulatedDocument = "DOC", "Letter", media_type
    data.EncapsulatedDocumentLength = len(content)
    data.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return save(data, tmp_path / "document.dcm")


def test_pages_of_a_document_are_counted_and_drawn(tmp_path: Path) -> None:
    path = document(tmp_path, pdf())
    found = read_document(path)
    assert (found.title, found.pages, found.media_type) == ("Letter", 2, "application/pdf")
    page = draw_page(path, 1, 200)
    assert page.shape == (300, 200, 3) and not page.flags.writeable
    assert page[10, 10].tolist() == [255, 0, 0] and page[290, 10].tolist() == [255, 255, 255]
    assert (draw_page(path, 0, 400) < 128).any()
    with pytest.raises(InputError, match="2 pages"):
        draw_page(path, 2, 200)


def test_other_documents_are_named_but_not_shown(tmp_path: Path) -> None:
    path = document(tmp_path, b"<ClinicalDocument/>", "text/XML", "1.2.840.10008.5.1.4.1.1.104.2")
    found = read_document(path)
    assert found.pages == 0 and "CDA" in found.header.issues[0].message
    with pytest.raises(InputError, match="Only PDF"):
        draw_page(path, 0, 200)


@pytest.mark.parametrize(
    "content", [b"no pdf at all!", b"%PDF-1.4\n" + b"[" * 50_000, pdf()[: len(pdf()) // 2]]
)
def test_a_broken_document_has_no_pages_but_a_reason(tmp_path: Path, content: bytes) -> None:
    found = read_document(document(tmp_path, content))
    assert found.pages == 0 and found.header.issues[0].code == "document.unreadable"


def objects(*bodies: bytes) -> bytes:
    """A PDF of these objects; the first one is its catalogue."""
    out, places = b"%PDF-1.5\n", []
    for number, body in enumerate(bodies, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(bodies) + 1
    head = b"xref\n0 %d\n0000000000 65535 f \n" % size
    return out + head + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (size, len(out))


def test_a_document_that_draws_itself_without_end_costs_its_process_only() -> None:
    resources = b"/BBox[0 0 1 1]/Resources<</XObject<</F 5 0 R>>>>"
    again = b"<</Type/XObject/Subtype/Form" + resources + b"/Length 11>>stream\n/F Do /F Do\nendstream"
    endless = objects(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>",
        b"<</Length 5>>stream\n/F Do\nendstream",
        again,
    )
    pool = PagePool()
    try:
        with pytest.raises(InputError, match="can't be drawn"):
            pool.draw(endless, 0, 200)
        assert pool.count(pdf()) == 2
    finally:
        pool.close()


def test_a_drawing_process_that_dies_is_replaced() -> None:
    pool = PagePool()
    try:
        assert pool.count(pdf()) == 2
        assert pool._child is not None
        os.kill(pool._child.pid, signal.SIGKILL)
        pool._child.wait()
        assert pool.draw(pdf(), 1, 100).shape == (150, 100, 3)
    finally:
        pool.close()


def test_a_page_that_takes_too_long_ends_its_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The child with a limit of a moment, and a parser that doesn't come back."""
    stuck = tmp_path / "stuck.py"
    stuck.write_text(
        "import core.dicom.derived.page_process as p, time, sys\n"
        "p.PAGE_LIMIT_S = 0.2\n"
        "p._drawn = lambda *a: time.sleep(60)\n"
        "sys.exit(p.main())\n",
        encoding="utf-8",
    )
    monkeypatch.setattr("core.dicom.derived.page_pool.page_command", lambda: [sys.executable, str(stuck)])
    pool = PagePool()
    try:
        with pytest.raises(InputError, match="took too long"):
            pool.count(pdf())
    finally:
        pool.close()
    assert page_process.PAGE_LIMIT_S == 10.0
