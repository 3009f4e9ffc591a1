"""The command ``evaluate`` answers by its contract."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from core.cli import evaluate_command
from core.domain.errors import InputError
from tests.fakes.bundles import make_classification_bundle


def command() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        """Keep one command a subcommand."""

    evaluate_command.register(app)
    return app


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, values in (("Dark", range(10, 60, 5)), ("Bright", range(200, 250, 5))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for value in values:
            Image.fromarray(np.full((16, 16), value, np.uint8)).save(
                tmp_path / "data" / name / f"{value}.png"
            )
    make_classification_bundle(tmp_path / "model")
    return tmp_path


def arguments(place: Path, *more: str) -> list[str]:
    model, data, out = (str(place / name) for name in ("model", "data", "out"))
    return ["evaluate", model, "--data", data, "--out", out, "--resamples", "100", *more]


def test_the_answer_has_the_fields_of_the_contract(place: Path) -> None:
    found = CliRunner().invoke(command(), arguments(place, "--gates", "brain-tumour", "--json"))
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["metrics"]["accuracy"] == 1.0 and len(document["metrics"]["ci95"]["accuracy"]) == 2
    assert set(document["per_class"]) == {"Dark", "Bright"}
    assert all(set(g) >= {"name", "threshold", "value", "passed"} for g in document["gates"])
    assert Path(document["report_html"]).is_file() and Path(document["report_pdf"]).is_file()
    accuracy = next(g for g in document["gates"] if g["name"] == "Accuracy")
    assert not accuracy["passed"] and "insufficient evidence: 20 cases, 30 needed" in accuracy["reason"]


def test_a_person_reads_lines(place: Path) -> None:
    found = CliRunner().invoke(command(), arguments(place, "--compare", str(place / "model")))
    assert found.exit_code == 0, found.output
    assert "accuracy" in found.stdout and "report:" in found.stdout
    assert "against fake-brightness: accuracy 0 " in found.stdout


def test_what_cannot_be_evaluated_is_refused(place: Path) -> None:
    found = CliRunner().invoke(
        command(), [*arguments(place)[:2], "--data", str(place / "no"), "--out", str(place)]
    )
    assert isinstance(found.exception, InputError) and "does not exist" in str(found.exception)
    found = CliRunner().invoke(command(), arguments(place, "--gates", "no-such-gates"))
    assert isinstance(found.exception, InputError) and "brain-tumour" in found.exception.remedy
