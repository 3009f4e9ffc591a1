"""The PDF report and its DICOM wrapping; tables."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread

from core.domain.errors import SafetyError
from core.domain.result import Decision, Verdict
from core.export import encapsulated_pdf
from core.export.csv_table import write_csv
from core.export.encapsulated_pdf import write_encapsulated_pdf
from core.export.pdf import KeyPicture, ReportHead, build_pdf, write_pdf
from core.export.source import read_source
from tests.fakes.marked_phantom import facts, write_marked
from tests.fakes.validators import dciodvfy_errors

HEAD = ReportHead("P-1", "Chest CT", "2026-01", "Thorax", "CT", 5, "2026-01-02T03:04:05+00:00", 7, "ab" * 32)


def test_a_report_with_pictures_and_many_scripts(tmp_path: Path) -> None:
    phantom = write_marked(tmp_path / "ct")
    png = io.BytesIO()
    Image.new("RGB", (64, 40), "navy").save(png, "PNG")
    reason = "Größe 肺 < 3 & ό, Ж, ひ, 한"
    decision = Decision("d", "result-1", "f2", Verdict.UNSURE, "Rita", "2026-01-02", reason)
    stated = facts(phantom, decisions={"f2": decision})
    file = write_pdf(stated, replace(HEAD, pictures=(KeyPicture(png.getvalue(), "Liver"),)), tmp_path)
    content = file.path.read_bytes()
    assert file.verified and content.startswith(b"%PDF-") and b"%%EOF" in content[-16:]
    assert b"PHANTOM" not in content


def test_the_wrapped_report_is_valid_and_carries_the_source_s_identity(tmp_path: Path) -> None:
    phantom = write_marked(tmp_path / "ct")
    source = read_source(phantom.study.files, None)
    content = build_pdf(facts(phantom), HEAD)
    file = write_encapsulated_pdf(content, source, tmp_path, serial="7")
    dataset = dcmread(file.path)
    assert dciodvfy_errors(file.path) == [] and file.verified
    assert dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength] == content
    assert (
        str(dataset.PatientName) == "PHANTOM^THORAX" and dataset.StudyInstanceUID == phantom.study.study_uid
    )
    assert len(dataset.SourceInstanceSequence) == 5


def test_a_wrapped_report_that_differs_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = write_marked(tmp_path / "ct")
    source = read_source(phantom.study.files, None)
    real = encapsulated_pdf._dataset

    def damaged(content: bytes, *rest):
        return real(content[:-2] + b"xx", *rest)

    monkeypatch.setattr(encapsulated_pdf, "_dataset", damaged)
    with pytest.raises(SafetyError):
        write_encapsulated_pdf(b"%PDF-1.4 abcd", source, tmp_path / "out", serial="7")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_label_that_a_spreadsheet_would_execute_is_defused(tmp_path: Path) -> None:
    stated = facts(write_marked(tmp_path / "ct"))
    first, *rest = stated.result.findings
    result = replace(stated.result, findings=(replace(first, label="=cmd()"), *rest))
    file = write_csv(replace(stated, result=result), "P-1", tmp_path)
    with file.path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["label"] == "'=cmd()" and float(rows[0]["x_mm"]) < 0
