"""What services answer, in the rows that presenters know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.bridge.gateway import EngineGateway
from app.bridge.translation import audit_row, detail_in_words, job_row, model_offer
from core.domain.audit import AuditRecord
from core.domain.browse import StudyFilter
from core.domain.errors import EnvironmentFault
from core.jobs.queue import JobView
from core.services.list_models import ModelRow


def test_audit_records_are_said_in_words() -> None:
    detail = json.dumps({"model_id": "thorax-ct", "output_sha256": "ab" * 32})
    record = AuditRecord(
        7, "2026-01-02T03:04:05Z", 0, "b", "A. B.", "os", "reader", "s", "h", "0.1", "p", "decision", "", "C",
        "result", "r1", 1, detail, 0, "",
    )  # fmt: skip
    row = audit_row(record)
    assert (row.event, row.outcome, row.actor) == ("Verdict", "done", "A. B.")
    assert row.detail == "model id thorax-ct, output sha256 abababababab…"
    assert detail_in_words("") == ""


def test_jobs_know_their_series_and_model() -> None:
    row = job_row(JobView("j1", "run", "Thorax", "running", fraction=0.5), {"j1": ("s1", "thorax-ct")})
    assert (row.series_key, row.model_id, row.fraction, row.result_id) == ("s1", "thorax-ct", 0.5, "")
    assert job_row(JobView("j2", "run", "Thorax", "queued"), {}).series_key == ""


def test_models_are_offered_with_their_reasons() -> None:
    row = ModelRow(
        "m", "1.0.0", "segmentation", "M", ("a",), False, "It needs CT.", "signed", "MIT", "# Card"
    )
    offer = model_offer(row)
    assert (offer.fits, offer.why, offer.verified, offer.labels) == (False, "It needs CT.", "signed", ("a",))


def test_a_library_that_does_not_open_refuses_everything_and_still_closes(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    gateway = EngineGateway(blocked / "home", lambda _: None)
    with pytest.raises(EnvironmentFault):
        gateway.open()
    with pytest.raises(EnvironmentFault):
        gateway.study_lines(StudyFilter())
    assert gateway.reader == ""
    gateway.save_layout("{}", "dark")
    gateway.close()
