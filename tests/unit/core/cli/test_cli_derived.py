"""``overread derived``: what was made from a series, and one object of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.cli.main import run
from tests.fakes.data import data_path

SERIES = "1.2.392.200103.20080913.113635.1.2009.6.22.21.43.10.23430.1"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, expect: int = 0) -> dict:
    status = run([*(str(a) for a in arguments), "--json"])
    captured = capsys.readouterr()
    assert status == expect, captured.err
    return json.loads(captured.out)


def test_objects_of_a_series_are_listed_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_path("core/dicom/seg-liver-dcmqi")
    answer(capsys, "import", folder / "ct-3slice", folder / "liver.dcm")
    (listed,) = answer(capsys, "derived", SERIES)["objects"]
    assert (listed["kind"], listed["source_series"]) == ("seg", [SERIES])
    uid = listed["sop_instance_uid"]
    shown = answer(capsys, "derived", "show", uid, "--out", tmp_path / "out")
    (segment,) = shown["layers"][0]["segments"]
    assert (segment["label"], segment["voxels"]) == ("Liver", 107098)
    assert all(Path(file).is_file() for file in shown["files"])
    assert run(["derived", "show", uid, "--over", SERIES]) == 0
    assert "Liver: 107098 voxels, 70.36 ml" in capsys.readouterr().out
    assert run(["derived", SERIES]) == 0
    assert uid in capsys.readouterr().out


def test_what_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "derived", "show", "1.2.3", expect=1)["error"]["code"] == "derived.unknown"
    for words in (("1.2", "3.4"), ("show",), ("1.2", "--over", "3.4")):
        assert answer(capsys, "derived", *words, expect=1)["error"]["code"] == "cli.usage"
