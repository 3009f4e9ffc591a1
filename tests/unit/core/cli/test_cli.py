"""The command line answers other programs: documents, exit statuses, errors with remedies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.cli.main import run
from core.cli.output import plain
from core.cli.system_commands import parse_settings
from core.domain.errors import BugError, InputError
from tests.fakes.bundles import make_segmentation_bundle
from tests.fakes.dicom_files import axial_geometry, write_stack

ROOT = Path(__file__).resolve().parents[4]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, expect: int = 0) -> dict:
    status = run([*(str(a) for a in arguments), "--json"])
    captured = capsys.readouterr()
    assert status == expect, captured.err
    return json.loads(captured.out)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    geometry = axial_geometry((6, 16, 20))
    values = np.arange(6 * 16 * 20, dtype=np.int16).reshape(6, 16, 20)
    write_stack(tmp_path / "study", values, geometry)
    return tmp_path / "study"


def test_import_then_list_then_volume(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = answer(capsys, "import", stack)
    series = imported["studies"][0]["series"][0]
    assert series["kind"] == "volume"
    assert series["shape_kji"] == [6, 16, 20]
    assert series["regular"] is True
    assert len(series["spacing_mm"]) == 3
    again = answer(capsys, "import", stack)
    assert again["already_present"] == 6
    listed = answer(capsys, "list")
    assert listed["studies"][0]["pseudonym"]
    assert listed["studies"][0]["status"]
    out = tmp_path / "volume.nii.gz"
    document = answer(capsys, "volume", series["series_uid"], "--out", out)
    assert document["shape_kji"] == [6, 16, 20]
    assert np.asarray(nib.load(out).dataobj).shape == (20, 16, 6)
    file = next(stack.rglob("*.dcm"))
    tags = answer(capsys, "tags", file, "--query", "Modality")
    assert any(element["keyword"] == "Modality" for element in tags["elements"])


def test_a_refusal_is_a_document_with_a_remedy_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "volume", "1.2.3.4", "--out", "x.nii.gz", expect=1)
    assert set(document["error"]) == {"code", "message", "remedy"}
    assert document["error"]["remedy"]


def test_a_missing_path_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "import", tmp_path / "nowhere", expect=1)
    assert document["error"]["code"] == "import.not_found"


def test_usage_errors_have_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"]) == 2
    assert run(["import"]) == 2
    assert "overread --help" in capsys.readouterr().err


@pytest.mark.expects_logs
def test_a_bug_of_ours_has_status_3_and_tells_no_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("DOE^JOHN")

    monkeypatch.setattr("core.services.list_studies.list_studies", broken)
    document = answer(capsys, "list", expect=3)
    assert "DOE" not in json.dumps(document)
    assert "RuntimeError" in document["error"]["message"]


def test_models_come_and_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_segmentation_bundle(tmp_path / "bundle")
    added = answer(capsys, "models", "add", tmp_path / "bundle")
    assert added["id"] == bundle.manifest.id
    rows = answer(capsys, "models")["models"]
    row = next(r for r in rows if r["id"] == bundle.manifest.id)
    assert row["verified"] == "unsigned"
    assert {"version", "task", "title", "labels", "fits", "why", "licence", "card"} <= set(row)
    answer(capsys, "models", "remove", bundle.manifest.id)
    assert bundle.manifest.id not in {r["id"] for r in answer(capsys, "models")["models"]}


def test_audit_lists_verifies_and_exports(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "import", stack)
    assert answer(capsys, "audit", "verify")["ok"] is True
    assert answer(capsys, "audit", "list")["events"]
    for kind in ("xml", "csv"):
        out = tmp_path / f"audit.{kind}"
        assert answer(capsys, "audit", "export", "--as", kind, "--out", out)["events"] > 0
        assert out.stat().st_size > 100


def test_verdicts_are_of_four_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "decide", "r", "--finding", "f1", "--verdict", "maybe", expect=1)
    assert document["error"]["code"] == "decide.verdict"


def test_predict_keeps_the_order_and_goes_on_after_a_refusal(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_segmentation_bundle(tmp_path / "bundle")
    inputs = [tmp_path / "nowhere.nii", stack]
    document = answer(capsys, "predict", tmp_path / "bundle", *inputs, "--out", tmp_path / "out")
    assert [r["input"] for r in document["results"]] == [str(p) for p in inputs]
    refused, done = document["results"]
    assert refused["error"]["code"] == "predict.not_found"
    assert done["segments"]
    assert Path(done["files"][0]["path"]).exists()


def test_doctor_reports_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    report = answer(capsys, "doctor")
    assert {"memory", "disk", "codecs", "database", "keys", "models"} <= {c["name"] for c in report["checks"]}
    assert report["ok"] is True


def test_settings_are_parsed_by_what_they_look_like() -> None:
    assert parse_settings(["a=1", "b=2.5", "c=x", "d=true"]) == {"a": 1, "b": 2.5, "c": "x", "d": True}
    with pytest.raises(InputError):
        parse_settings(["novalue"])


def test_what_cannot_be_printed_is_our_bug() -> None:
    with pytest.raises(BugError):
        plain(object())
    assert plain({"x": float("nan"), "p": Path("a"), "n": np.float32(1.5)}) == {"x": None, "p": "a", "n": 1.5}


def test_the_command_line_loads_no_gui_library_and_no_torch() -> None:
    code = (
        "import sys; from core.cli.main import run; run(['list', '--json']); "
        "bad = {m.split('.')[0] for m in sys.modules} & {'PySide6', 'pyqtgraph', 'torch', 'onnxruntime'}; "
        "sys.exit(5 if bad else 0)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True).returncode
        == 0
    )
