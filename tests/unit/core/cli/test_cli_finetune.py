"""The commands of learning from verdicts, as a person and a program use them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from core.cli import finetune_commands
from core.cli.model_commands import models_app
from core.domain.errors import AppError
from core.services import training_board
from core.services.engine import open_engine
from tests.fakes.fake_trainer import BETTER, WORSE
from tests.fakes.verdicts import SEGMENTATION, add_segmentation_model, read_segmentations


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        training_board, "trainer_command", lambda: [sys.executable, "-m", "tests.fakes.fake_trainer"]
    )
    with open_engine(tmp_path / "home", actor="reader") as engine:
        read_segmentations(engine, add_segmentation_model(engine), tmp_path / "in", 6, corrected=[1, 2, 3])
    return tmp_path / "home"


def call(home: Path, *words: str) -> Any:
    app = typer.Typer()
    finetune_commands.register(app)
    app.add_typer(models_app, name="models")
    result = CliRunner().invoke(app, [*words, "--home", str(home), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_loop_from_verdicts_to_roll_back_on_the_command_line(home: Path) -> None:
    shown = call(home, "finetune", SEGMENTATION, "--preview")
    assert shown["can_start"] and len(shown["cases"]) == 6
    assert {case["label_by"] for case in shown["cases"]} == {"model", "reader"}
    made = call(
        home,
        "finetune",
        SEGMENTATION,
        "--epochs",
        "2",
        "--learning-rate",
        str(BETTER),
        "--budget-minutes",
        "5",
    )
    assert made["promoted"] is False
    assert set(made["comparison"]) >= {"metric", "current", "candidate", "difference", "ci95", "p"}
    assert all(gate["passed"] for gate in made["gates"])
    (listed,) = call(home, "candidates")["candidates"]
    assert (listed["candidate"], listed["why_not"], listed["promoted"]) == (made["candidate"], "", False)
    promoted = call(home, "promote", made["candidate"], "--by", "Dr. A", "--reason", "Better.")
    assert (promoted["version"], promoted["promoted"]) == ("1.1.0", True)
    back = call(home, "rollback", SEGMENTATION)
    assert (back["version"], back["rolled_back"]) == ("1.0.0", True)
    assert call(home, "models", "monitor")["agreement"][0]["model_id"] == SEGMENTATION


def test_a_worse_candidate_is_made_but_not_promoted(home: Path) -> None:
    made = call(home, "finetune", SEGMENTATION, "--epochs", "1", "--learning-rate", str(WORSE))
    assert not all(gate["passed"] for gate in made["gates"])
    with pytest.raises(AppError) as caught:
        call(home, "promote", made["candidate"], "--by", "Dr. A", "--reason", "Please.")
    assert caught.value.code == "promote.gates"
