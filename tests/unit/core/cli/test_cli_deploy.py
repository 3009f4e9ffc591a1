"""The command ``deploy`` answers by its contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from core.cli import deploy_command
from core.domain.errors import EnvironmentFault, InputError
from tests.fakes.bundles import make_classification_bundle


def command() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        """Keep one command a subcommand."""

    deploy_command.register(app)
    return app


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_classification_bundle(tmp_path / "model")
    return tmp_path / "model"


def test_the_answer_has_the_fields_of_the_contract(model: Path, tmp_path: Path) -> None:
    wishes = ["deploy", str(model), "--as", "onnx,triton", "--int8", "dynamic", "--rounds", "1", "--json"]
    found = CliRunner().invoke(command(), [*wishes, "--out", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert {"files", "size_mb", "max_abs_difference", "latency_ms", "accuracy", "table"} <= set(document)
    assert Path(document["files"]["onnx"]).is_file() and Path(document["files"]["report"]).is_file()


def test_a_person_reads_the_table_and_may_repeat_the_command(model: Path, tmp_path: Path) -> None:
    wishes = ["deploy", str(model), "--as", "onnx", "--rounds", "1", "--out", str(tmp_path / "out")]
    for _ in range(2):
        found = CliRunner().invoke(command(), wishes)
        assert found.exit_code == 0, found.output
    assert "ONNX Runtime, float32" in found.stdout and "→" in found.stdout and "report: " in found.stdout


def test_a_format_that_does_not_exist_is_refused(model: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(
        command(), ["deploy", str(model), "--as", "tflite", "--out", str(tmp_path / "out")]
    )
    assert isinstance(found.exception, InputError) and found.exception.code == "deploy.format"


def test_an_installation_without_onnx_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_command, "find_spec", lambda name: None if name == "onnx" else True)
    found = CliRunner().invoke(command(), ["deploy", str(model), "--out", str(tmp_path / "out")])
    assert isinstance(found.exception, EnvironmentFault) and "overread[train]" in found.exception.remedy
    assert "onnx" in found.exception.user_message and not (tmp_path / "out").exists()
