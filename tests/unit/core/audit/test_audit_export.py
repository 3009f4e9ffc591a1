from __future__ import annotations

import csv
import io
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.audit.export import harmless, message, to_csv, to_xml
from core.domain.audit import AuditCode, AuditRecord
from core.domain.errors import EnvironmentFault, InputError
from core.services import verify_audit
from tests.fakes.engines import STUDY_UID, make_engine

RECORD = AuditRecord(
    1, "2026-01-02T03:04:05.678901+00:00", 1, "boot", "reader", "account", "reader", "s", "host", "0.1.0", "p:1",
    "110107", "import", "C", "study", "ab" * 16, 3, "{}", 0, "",
)  # fmt: skip


@pytest.mark.parametrize("code", list(AuditCode))
def test_every_kind_of_event_makes_a_message_with_the_required_parts(code: AuditCode) -> None:
    root = message(replace(RECORD, event_code=str(code)), "overread-1")
    event = root.find("EventIdentification")
    assert event is not None
    assert event.attrib["EventActionCode"] in "CRUDE"
    assert event.attrib["EventOutcomeIndicator"] in ("0", "4", "8", "12")
    coded = event.find("EventID")
    assert coded is not None
    assert set(coded.attrib) == {"csd-code", "codeSystemName", "originalText"}
    assert coded.attrib["codeSystemName"] == ("DCM" if code[0].isdigit() else "99OVERREAD")
    requestors = [p.attrib["UserIsRequestor"] for p in root.findall("ActiveParticipant")]
    assert requestors == ["true", "false"]
    source = root.find("AuditSourceIdentification")
    assert source is not None
    assert source.attrib["AuditSourceID"] == "overread-1"


def test_start_is_a_type_of_application_activity() -> None:
    root = message(replace(RECORD, event_code="110120"), "x")
    assert root.find("EventIdentification/EventID").attrib["csd-code"] == "110100"  # type: ignore[union-attr]
    assert root.find("EventIdentification/EventTypeCode").attrib["csd-code"] == "110120"  # type: ignore[union-attr]


def test_a_study_is_named_by_its_keyed_hash_as_a_study_object() -> None:
    found = message(RECORD, "x").find("ParticipantObjectIdentification")
    assert found is not None
    assert found.attrib["ParticipantObjectID"] == "ab" * 16
    assert (found.attrib["ParticipantObjectTypeCode"], found.attrib["ParticipantObjectTypeCodeRole"]) == (
        "2",
        "3",
    )


def test_the_document_is_xml_and_keeps_hostile_text_as_text() -> None:
    hostile = replace(RECORD, user_id='<script>"&', reason="a<b")
    root = ElementTree.fromstring(to_xml([hostile, RECORD], "x"))
    assert len(root) == 2
    participant = root.find("AuditMessage/ActiveParticipant")
    assert participant is not None
    assert participant.attrib["UserID"] == '<script>"&'


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\r=1"])
def test_a_cell_that_a_spreadsheet_would_calculate_is_quoted(cell: str) -> None:
    assert harmless(cell) == "'" + cell
    rows = list(csv.reader(io.StringIO(to_csv([replace(RECORD, user_id=cell)]), newline="")))
    assert rows[1][4] == "'" + cell


def test_the_table_has_a_column_for_each_field() -> None:
    rows = list(csv.reader(io.StringIO(to_csv([RECORD]), newline="")))
    assert rows[0] == [f.name for f in fields(AuditRecord)]
    assert rows[1][0] == "1"
    assert harmless(-5) == -5


@pytest.mark.parametrize("kind", ["xml", "csv"])
def test_an_export_is_itself_recorded_and_contains_its_own_record(tmp_path: Path, kind: str) -> None:
    with make_engine(tmp_path) as engine:
        engine.record(AuditCode.EXPORT, object_kind="study", object_ref=STUDY_UID)
        count = verify_audit.export_events(engine, kind, tmp_path / f"out.{kind}")
        assert count == 3
        text = (tmp_path / f"out.{kind}").read_text("utf-8")
        assert "110101" in text
        assert STUDY_UID not in text


def test_an_export_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        (tmp_path / "file").touch()
        with pytest.raises(EnvironmentFault):
            verify_audit.export_events(engine, "csv", tmp_path / "file" / "out.csv")
        with pytest.raises(InputError):
            verify_audit.export_events(engine, "pdf", tmp_path / "out.pdf")
