"""What a run logs opens in TensorBoard's, MLflow's and Weights & Biases' own readers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.compute.training.tracking.exporters import (
    Exporters,
    RunFacts,
    flat,
    flat_numbers,
    mlflow_uri,
    values_of,
)
from core.compute.training.tracking.hardware import HardwareWatch
from core.config.hardware import HardwareReading
from core.recipes.schema import Tracking

FACTS = RunFacts("run-1", "mednist", {"training": {"epochs": 2}, "data": {"channels": ["image"]}})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of two epochs, mirrored into all three trackers."""
    folder = tmp_path_factory.mktemp("run")
    failures: list[str] = []
    tracking = Tracking(tensorboard=True, mlflow=True, wandb=True)
    exporters = Exporters(tracking, folder, FACTS, lambda name, message: failures.append(message))
    for step in range(20):
        exporters({"event": "step", "step": step, "epoch": step // 10, "loss": 1.0 / (step + 1)})
    for epoch in range(2):
        values = {"train_loss": 0.5 - 0.1 * epoch, "validation_accuracy": 0.8 + 0.1 * epoch}
        exporters({"event": "epoch", "epoch": epoch, "step": 10 * epoch + 9, "values": values})
    exporters({"event": "evaluated", "step": 20, "metrics": {"accuracy": [0.9, 0.8, 0.95]}})
    exporters({"event": "done", "bundle": str(folder / "bundle")})
    exporters.close()
    assert failures == []
    yield folder


@pytest.mark.slow
def test_tensorboard_reads_the_curves(recorded: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(recorded / "tensorboard"))
    reader.Reload()
    accuracy = reader.Scalars("validation_accuracy")
    assert [(s.step, round(s.value, 4)) for s in accuracy] == [(9, 0.8), (19, 0.9)]
    assert reader.Scalars("test/accuracy")[0].value == pytest.approx(0.9)
    assert [s.step for s in reader.Scalars("train/step_loss")] == [0, 10]


@pytest.mark.slow
def test_mlflow_reads_run_parameters_curves_and_the_registered_candidate(recorded: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_uri(recorded / "mlruns"))
    experiment = client.get_experiment_by_name("mednist")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["training.epochs"] == "2"
    assert run.data.tags["overread.run_id"] == "run-1"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(9, 0.5), (19, 0.4)]
    candidate = client.get_model_version_by_alias("mednist", "candidate")
    assert candidate.run_id == run.info.run_id
    assert candidate.source == (recorded / "bundle").as_uri()


@pytest.mark.slow
def test_weights_and_biases_reads_the_offline_run(recorded: Path) -> None:
    (file,) = (recorded / "wandb").rglob("*.wandb")
    program = Path(sys.executable).with_name("wandb")
    command = [str(program), "leet", "inspect", "--summary", "--json", str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    document: dict[str, Any] = json.loads(shown)
    text = json.dumps(document)
    assert document["state"].startswith("finished") or "finished" in text
    assert "validation_accuracy" in text
    assert "training.epochs" in text


def test_events_become_named_numbers() -> None:
    assert values_of({"event": "step", "step": 7, "loss": 1.0}) == {}
    assert values_of({"event": "step", "step": 10, "loss": 1.0}) == {"train/step_loss": 1.0}
    assert values_of({"event": "note", "code": "x", "message": "y"}) == {}
    assert values_of({"event": "hardware", "cpu_percent": 5.0, "time_utc": "t"}) == {
        "hardware/cpu_percent": 5.0
    }
    assert flat({"a": {"b": 1}, "c": [1, 2]}) == {"a.b": 1, "c": "[1, 2]"}
    assert flat_numbers({"dice": {"liver": [0.9, 0.8, 1.0]}, "n": 3, "text": "x"}) == {
        "dice/liver": 0.9,
        "n": 3.0,
    }


def test_a_tracker_that_fails_says_so_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder belongs")
    failures: list[tuple[str, str]] = []
    exporters = Exporters(Tracking(tensorboard=True), tmp_path, FACTS, lambda *said: failures.append(said))
    exporters({"event": "epoch", "epoch": 0, "step": 1, "values": {"train_loss": 1.0}})
    exporters.close()
    assert [name for name, _ in failures] == ["TensorBoard"]
    assert "goes on" in failures[0][1]


def test_hardware_events_carry_figures_and_each_advice_once(tmp_path: Path) -> None:
    full = HardwareReading("2026-01-01T00:00:00+00:00", 50.0, 15_900.0, 16_000.0, 300.0, 50_000.0)
    events: list[Any] = []
    watch = HardwareWatch(tmp_path, 60.0, events.append, read=lambda _: full)
    watch.look()
    watch.look()
    kinds = [event["event"] for event in events]
    assert kinds == ["hardware", "note", "hardware"]
    assert events[0]["memory_used_mb"] == 15_900.0
