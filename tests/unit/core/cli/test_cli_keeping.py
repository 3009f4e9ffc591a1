"""Removing, retention, backups and checks on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.cli.main import run
from core.services import browse
from core.services.engine import open_engine
from tests.fakes.dicom_files import PATIENT_NAME, write_stack


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, expect: int = 0) -> dict:
    status = run([*(str(a) for a in arguments), "--json"])
    captured = capsys.readouterr()
    assert status == expect, captured.err
    return json.loads(captured.out)


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert run([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def study_uid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    write_stack(tmp_path / "study", np.arange(4 * 8 * 10, dtype=np.int16).reshape(4, 8, 10))
    return answer(capsys, "import", tmp_path / "study", "--copy")["studies"][0]["study_uid"]


def test_a_study_is_backed_up_removed_and_not_brought_back_by_the_backup(
    study_uid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = answer(capsys, "backup", "make", "--folder", tmp_path / "stick")
    assert "key" in made["note"]
    assert answer(capsys, "backup", "list")["backups"] == []
    (listed,) = answer(capsys, "backup", "list", "--folder", tmp_path / "stick")["backups"]
    assert listed["file"] == made["file"]
    assert "manual" in told(capsys, "backup", "list", "--folder", tmp_path / "stick")
    report = answer(capsys, "remove", study_uid, "--reason", "duplicate")
    assert (report["studies"], report["copies_deleted"]) == (1, 4)
    assert answer(capsys, "list")["studies"] == []
    restored = answer(capsys, "backup", "restore", made["file"])
    assert (restored["studies"], restored["removed_again"]) == (0, 1)
    assert Path(restored["replaced"]).exists()
    refused = answer(capsys, "remove", study_uid, "--reason", "duplicate", expect=1)
    assert refused["error"]["code"] == "library.unknown_study"


def test_a_reason_is_required(study_uid: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["remove", study_uid]) == 2
    capsys.readouterr()
    assert len(answer(capsys, "list")["studies"]) == 1


def test_a_rule_is_added_previewed_applied_and_forgotten(
    study_uid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    added = answer(capsys, "retention", "add", "yearly", "--older-than-days", "365", "--any-status")
    assert (added["rule"]["name"], added["rule"]["statuses"], added["studies"]) == ("yearly", [], 0)
    assert answer(capsys, "retention", "preview", "yearly")["studies"] == []
    with open_engine(tmp_path / "home") as engine, engine.unit_of_work() as uow:
        uow.session.connection().exec_driver_sql(
            "UPDATE study SET imported_utc = '2020-01-01T00:00:00.000+00:00'"
        )
        uow.meta.next_revision()
    (study,) = answer(capsys, "retention", "preview", "yearly")["studies"]
    assert (study["study_uid"], study["status"]) == (study_uid, "unread")
    text = told(capsys, "retention", "preview", "yearly") + told(capsys, "retention", "list")
    assert PATIENT_NAME not in text
    assert "yearly: 365 days after the import, any status" in text
    assert answer(capsys, "retention", "apply", "yearly")["studies"] == 1
    assert answer(capsys, "retention", "remove", "yearly") == {"removed": "yearly"}
    assert answer(capsys, "retention", "list") == {"rules": []}
    assert answer(capsys, "retention", "apply", "yearly", expect=1)["error"]["code"] == "retention.unknown"


def test_the_check_answers_with_its_exit_status(
    study_uid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study_uid
    check = answer(capsys, "check", "--full")
    assert check["ok"] is True
    assert [finding["code"] for finding in check["findings"]] == ["check.no_backup"]
    assert answer(capsys, "backup", "make", "--daily")["file"]
    assert answer(capsys, "backup", "make", "--daily")["file"] is None
    assert "all is well" in told(capsys, "check")
    stray = tmp_path / "home" / "instances" / "stray"
    stray.write_bytes(b"x")
    assert answer(capsys, "check")["orphans"] == [str(stray)]
    assert answer(capsys, "check", "--delete-orphans")["orphans"] == []
    copy = next(p for p in (tmp_path / "home" / "instances").rglob("*") if p.is_file())
    copy.unlink()
    failed = answer(capsys, "check", expect=1)
    assert [finding["code"] for finding in failed["findings"]] == ["check.copy_missing"]
    assert failed["missing_files"] == [str(copy)]


def test_a_list_finds_by_tag_and_name_in_any_spelling(
    study_uid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_engine(tmp_path / "home") as engine:
        browse.add_tag(engine, study_uid, "Tumour board")
        browse.set_status(engine, study_uid, "in_progress")
    for query in ("tumour", "TÜMOUR board", "progress", PATIENT_NAME.replace("^", " ").lower()):
        (study,) = answer(capsys, "list", "--query", query)["studies"]
        assert (study["study_uid"], study["status"], study["tags"]) == (
            study_uid,
            "in_progress",
            ["Tumour board"],
        )
    assert answer(capsys, "list", "--query", "tumour nowhere")["studies"] == []
