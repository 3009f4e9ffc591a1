"""``import`` with a password, and ``watch``."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from core.cli.main import run
from core.services import import_study
from tests.fakes.dicom_files import write_stack

VOXELS = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)


def test_watch_takes_what_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stack(tmp_path / "in", VOXELS)
    assert run(["watch", str(tmp_path / "in"), "--once", "--interval", "0.1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["studies"][0]["series"][0]["instances"] == 4


def test_watch_refuses_what_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", str(tmp_path / "none"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "watch.not_a_folder"


@pytest.mark.parametrize(("given", "passed"), [("-", "from stdin"), ("plain", "plain"), (None, None)])
def test_the_password_reaches_the_import(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    passed: str | None,
) -> None:
    write_stack(tmp_path / "in", VOXELS)
    seen = []
    real = import_study.import_paths

    def import_paths(*args: object, **options: object) -> object:
        seen.append(options["password"])
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(import_study, "import_paths", import_paths)
    monkeypatch.setattr(sys, "stdin", io.StringIO("from stdin\n"))
    more = [] if given is None else ["--password", given]
    assert run(["import", str(tmp_path / "in"), *more]) == 0
    assert seen == [passed]
    assert "from stdin" not in "".join(capsys.readouterr())
