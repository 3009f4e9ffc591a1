"""Classes and measurements of a model of several tasks, in the report, the table and the PDF."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import pytest

from core.domain.coding import CodedConcept
from core.domain.errors import SafetyError
from core.domain.result import ClassProbability, Finding, MeasuredValue
from core.export import pdf
from core.export.csv_table import write_csv
from core.export.pdf import ReportHead, build_pdf
from core.export.report_facts import ReportFacts
from core.export.source import SourceSeries, read_source
from core.export.sr import write_sr
from tests.fakes.marked_phantom import MarkedPhantom, facts, write_marked
from tests.fakes.validators import dciodvfy_errors

MEASURED = (
    MeasuredValue("Brain volume", 1423.456789, "mL", CodedConcept("118565006", "SCT", "Volume")),
    MeasuredValue("Lesion volume", 0.00123456789, "mL", CodedConcept("118565006", "SCT", "Volume")),
    MeasuredValue("Age", 61.5, "a"),
)


@pytest.fixture
def phantom(tmp_path: Path) -> MarkedPhantom:
    return write_marked(tmp_path / "ct")


def several(phantom: MarkedPhantom) -> tuple[ReportFacts, SourceSeries]:
    stated = facts(phantom)
    result = replace(
        stated.result,
        task="multitask",
        classes=(ClassProbability("Glioma", 0.75), ClassProbability("None", 0.25)),
        prediction_set=("Glioma",),
        findings=(*stated.result.findings, Finding("c1", "Glioma", "class", score=0.75)),
        measurements=MEASURED,
        inputs={"T1": "1.2.3", "FLAIR": ""},
    )
    return replace(stated, result=result), read_source(phantom.study.files, phantom.geometry)


def test_measurements_stand_in_groups_of_their_own_with_ucum_units(
    phantom: MarkedPhantom, tmp_path: Path
) -> None:
    stated, source = several(phantom)
    file = write_sr(stated, source, tmp_path)
    assert file.verified and dciodvfy_errors(file.path) == []
    groups = hd.sr.srread(file.path).content.get_image_measurement_groups()
    found = {
        group.tracking_identifier: [
            (m.name.value, m.value, m.unit.value, m.unit.scheme_designator) for m in group.get_measurements()
        ]
        for group in groups
    }
    assert found["Brain volume"] == [("118565006", 1423.46, "mL", "UCUM")]
    assert found["Lesion volume"] == [("118565006", 0.00123457, "mL", "UCUM")]
    assert found["Age"][0][1:] == (61.5, "a", "UCUM")
    assert found["Glioma"][0][1] == 0.75


def test_a_measurement_that_reads_back_in_another_unit_does_not_stay(
    phantom: MarkedPhantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated, source = several(phantom)
    real = hd.sr.Comprehensive3DSR.save_as

    def damaged(dataset, path, **options) -> None:
        for element in dataset.iterall():
            if element.keyword == "CodeValue" and element.value == "a":
                element.value = "mo"
        real(dataset, path, **options)

    monkeypatch.setattr(hd.sr.Comprehensive3DSR, "save_as", damaged)
    with pytest.raises(SafetyError, match="the measurement Age"):
        write_sr(stated, source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_the_table_has_a_row_per_measurement(phantom: MarkedPhantom, tmp_path: Path) -> None:
    stated, _ = several(phantom)
    file = write_csv(stated, "P-1", tmp_path)
    with file.path.open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] == "measurement"]
    assert [(row["label"], row["value"], row["unit"]) for row in rows] == [
        ("Brain volume", "1423.456789", "mL"),
        ("Lesion volume", "0.00123456789", "mL"),
        ("Age", "61.5", "a"),
    ]
    assert rows[0]["code"] == "118565006" and not rows[0]["volume_ml"]


def test_the_pdf_shows_classes_measurements_and_contrasts(
    phantom: MarkedPhantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = pdf._text
    monkeypatch.setattr(pdf, "_text", lambda text, style="body": written.append(text) or real(text, style))
    stated, _ = several(phantom)
    head = ReportHead("P-1", "Brain", "2026-01", "T1", "MR", 5, "2026-01-02T03:04:05+00:00", 7, "ab" * 32)
    assert build_pdf(stated, head).startswith(b"%PDF-")
    assert {"Measurements of the whole image", "Brain volume", "1423", "mL", "years", "Glioma"} <= set(
        written
    )
    assert "Contrasts used: T1; missing: FLAIR" in written
    assert "Prediction set: Glioma" in written
