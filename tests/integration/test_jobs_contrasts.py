"""A model of several contrasts on a study of the library, with the real worker: chosen, run, kept, explained."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.cli.main import run
from core.domain.errors import InputError, SafetyError
from core.services.engine import Engine, open_engine
from core.services.explain_finding import explain
from core.services.export_result import export_result
from core.services.import_study import import_paths
from core.services.job_board import JobBoard
from core.services.list_models import list_models
from core.services.results import load_result, load_segmentation
from core.services.run_model import run_model
from tests.fakes.left_behind import own_blocks, own_children
from tests.fakes.multitask_bundles import (
    expected_tasks,
    head_study,
    make_multitask_bundle,
    write_head_study,
)

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, JobBoard, dict[str, str]]]:
    os.environ.setdefault("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    folder = tmp_path_factory.mktemp("contrasts")
    before = own_blocks()
    with open_engine(folder / "home", actor="reader") as engine:
        (study,) = import_paths(engine, [write_head_study(folder / "study")]).studies
        keys = {series.description.split()[1]: series.key for series in study.series}
        make_multitask_bundle(engine.paths.bundles / "fake-brain")
        board = JobBoard(engine)
        yield engine, board, keys
        board.shutdown()
    assert not own_children()
    assert own_blocks() <= before


def test_both_contrasts_of_the_study_are_used_and_everything_is_kept(
    desk: tuple[Engine, JobBoard, dict[str, str]], tmp_path: Path
) -> None:
    engine, board, keys = desk
    result = run_model(engine, board, "fake-brain", keys["T1"], "cpu")
    assert result.inputs == keys and result.fallbacks == ()
    labels, probabilities, values = expected_tasks(head_study())
    segmentation = load_segmentation(engine, result.result_id)
    assert segmentation is not None
    np.testing.assert_array_equal(segmentation.labels, labels)
    found = {item.label: item.probability for item in result.classes}
    np.testing.assert_allclose([found["Dark"], found["Bright"]], probabilities, rtol=1e-5)
    assert [(m.name, m.unit) for m in result.measurements] == [
        ("Brain volume", "mL"),
        ("Contrast ratio", "1"),
    ]
    np.testing.assert_allclose([m.value for m in result.measurements], values, rtol=1e-5)
    assert [finding.kind for finding in result.findings][:3] == ["segment", "segment", "class"]
    assert load_result(engine, result.result_id) == result
    files = export_result(engine, result.result_id, ["sr", "csv", "pdf"], tmp_path)
    assert all(file.verified for file in files) and {"sr", "csv", "pdf"} <= {file.kind for file in files}


def test_the_answer_lies_on_the_series_that_was_asked_for_and_is_explained_there(
    desk: tuple[Engine, JobBoard, dict[str, str]],
) -> None:
    engine, board, keys = desk
    result = run_model(engine, board, "fake-brain", keys["T2"], "cpu")
    assert result.series_uid == keys["T2"] and result.inputs == keys
    explanation = explain(engine, board, result.result_id, "occlusion", "Bright", device="cpu")
    assert explanation.class_label == "Bright" and float(explanation.heat.max()) == 1.0
    assert explanation.geometry.same_grid_as(head_study()["T2"].geometry)


def test_the_reader_may_leave_a_contrast_out_or_say_which_it_is(
    desk: tuple[Engine, JobBoard, dict[str, str]],
) -> None:
    engine, board, keys = desk
    alone = run_model(engine, board, "fake-brain", keys["T1"], "cpu", contrasts={"T2": ""})
    assert alone.inputs == {"T1": keys["T1"], "T2": ""} and "without T2" in alone.fallbacks[0]
    np.testing.assert_allclose(
        [m.value for m in alone.measurements], expected_tasks({"T1": head_study()["T1"]})[2], rtol=1e-5
    )
    swapped = run_model(
        engine, board, "fake-brain", keys["T2"], "cpu", contrasts={"T1": keys["T2"], "T2": keys["T1"]}
    )
    assert swapped.inputs == {"T1": keys["T2"], "T2": keys["T1"]}
    assert swapped.measurements[0].value != pytest.approx(alone.measurements[0].value)


def test_a_text_or_a_name_that_the_model_does_not_take_is_refused(
    desk: tuple[Engine, JobBoard, dict[str, str]],
) -> None:
    engine, board, keys = desk
    with pytest.raises(InputError, match="takes no text"):
        run_model(engine, board, "fake-brain", keys["T1"], "cpu", text="PHANTOM^MARKER was here")
    kept = b"".join(file.read_bytes() for file in engine.paths.root.rglob("*") if file.is_file())
    assert b"PHANTOM^MARKER" not in kept
    with pytest.raises(InputError, match="no input “FLAIR”"):
        run_model(engine, board, "fake-brain", keys["T1"], "cpu", contrasts={"FLAIR": keys["T2"]})


def test_a_model_that_needs_both_refuses_a_study_of_one(
    desk: tuple[Engine, JobBoard, dict[str, str]],
) -> None:
    engine, board, keys = desk
    make_multitask_bundle(engine.paths.bundles / "strict", id="strict-brain", missing_inputs="refuse")
    rows = {row.id: row for row in list_models(engine, keys["T1"])}
    assert rows["strict-brain"].fits and rows["strict-brain"].inputs == ("T1", "T2")
    assert "Brain volume (mL)" in rows["strict-brain"].measurements
    with pytest.raises(SafetyError, match="this study has no T2"):
        run_model(engine, board, "strict-brain", keys["T1"], "cpu", contrasts={"T2": ""})


def test_the_command_line_names_contrasts_and_writes_measurements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_multitask_bundle(tmp_path / "bundle")
    study = write_head_study(tmp_path / "study")
    arguments = ["predict", str(tmp_path / "bundle"), "--contrast", f"T1={study / 'T1'}"]
    arguments += [
        "--contrast",
        f"T2={study / 'T2'}",
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--json",
    ]
    assert run(arguments) == 0
    (entry,) = json.loads(capsys.readouterr().out)["results"]
    expected = expected_tasks(head_study())[2]
    assert [(m["name"], m["unit"]) for m in entry["measurements"]] == [
        ("Brain volume", "mL"),
        ("Contrast ratio", "1"),
    ]
    np.testing.assert_allclose([m["value"] for m in entry["measurements"]], expected, rtol=1e-5)
    assert entry["classes"][0]["label"] in ("Dark", "Bright") and entry["files"][0]["kind"] == "nifti"
    (tmp_path / "report.txt").write_text("Normal.")
    assert run([*arguments, "--text", str(tmp_path / "report.txt")]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["error"]["code"] == "run.text"
    for wrong in (["--contrast", "T1"], [str(study / "T1"), "--contrast", f"T1={study / 'T1'}"], []):
        status = run(["predict", str(tmp_path / "bundle"), *wrong, "--out", str(tmp_path / "out"), "--json"])
        assert status == 1
        assert json.loads(capsys.readouterr().out)["error"]["code"] in ("run.contrast", "predict.inputs")
