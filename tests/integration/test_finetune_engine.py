"""The whole loop with the real training worker: verdicts, training, comparison, promotion, roll-back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.bundles.digest import bundle_digest
from core.domain.training import TrainingState
from core.jobs.liveness import Timing
from core.recipes.finetune import FineTuneSettings
from core.services.candidates import load_candidate
from core.services.engine import Engine
from core.services.list_models import catalogue
from core.services.promote_model import promote, roll_back
from core.services.start_training import start_training
from core.services.training_board import TrainingBoard
from tests.fakes.engines import make_engine
from tests.fakes.verdicts import (
    CLASSIFICATION,
    SEGMENTATION,
    add_classification_model,
    add_segmentation_model,
    read_pictures,
    read_segmentations,
)

PATIENCE = Timing(timeout_s=240.0, grace_s=60.0, start_timeout_s=280.0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def board(engine: Engine) -> Iterator[TrainingBoard]:
    # At its usual priority the worker would wait for every other test of this machine.
    board = TrainingBoard(engine, timing=PATIENCE, tick_s=0.5, worker_command=patient_worker())
    yield board
    board.shutdown()


def patient_worker() -> list[str]:
    import sys

    code = "import sys; from core.worker.trainer import main; sys.exit(main(yields=False))"
    return [sys.executable, "-c", code]


def settings(model_id: str, **changes: object) -> FineTuneSettings:
    values = {"model_id": model_id, "epochs": 2, "device": "cpu", "learning_rate": 1e-4, **changes}
    return FineTuneSettings.model_validate(values)


@pytest.mark.slow
def test_a_segmentation_model_learns_from_corrections_and_is_promoted_and_rolled_back(
    engine: Engine, board: TrainingBoard, tmp_path: Path
) -> None:
    bundle = add_segmentation_model(engine, trainable=True)
    before = bundle_digest(bundle)
    read_segmentations(engine, bundle, tmp_path / "in", 6, corrected=[1, 2, 3])
    run = start_training(engine, settings(SEGMENTATION, learning_rate=1e-2, epochs=4))
    board.wake()
    done = board.wait(run.run_id, 280)
    assert done.state is TrainingState.SUCCEEDED, f"{done.error_code}: {done.error}"
    names = {point.name for point in board.curves(run.run_id)}
    assert {"loss", "train_loss", "validation_loss"} <= names
    candidate = load_candidate(engine, done.candidate_id)
    assert candidate.comparison is not None
    assert len(candidate.comparison.cases) == 3 and candidate.comparison.metric == "dice"
    assert candidate.bundle_sha256 != before
    trained = catalogue(engine).get(SEGMENTATION)
    assert bundle_digest(trained) == before, "nothing is promoted by itself"
    assert candidate.passed and candidate.comparison.difference > 0.1, "untrained weights are easily beaten"
    promote(engine, candidate.candidate_id, "Dr. A", "Better.")
    now = catalogue(engine).get(SEGMENTATION)
    assert now.manifest.version == "1.1.0" and now.manifest.findings == bundle.manifest.findings
    roll_back(engine, SEGMENTATION, "Dr. A", "Back.")
    assert bundle_digest(catalogue(engine).get(SEGMENTATION)) == before


@pytest.mark.slow
def test_a_classification_model_learns_from_accepted_answers(
    engine: Engine, board: TrainingBoard, tmp_path: Path
) -> None:
    bundle = add_classification_model(engine, trainable=True)
    read_pictures(engine, bundle, tmp_path / "in", 8)
    run = start_training(engine, settings(CLASSIFICATION))
    board.wake()
    done = board.wait(run.run_id, 280)
    assert done.state is TrainingState.SUCCEEDED, f"{done.error_code}: {done.error}"
    candidate = load_candidate(engine, done.candidate_id)
    assert candidate.comparison is not None and candidate.comparison.metric == "accuracy"
    assert {case.truth for case in candidate.comparison.cases} <= {"Dark", "Bright"}


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_worker_goes_on_from_its_checkpoint(
    engine: Engine, board: TrainingBoard, tmp_path: Path
) -> None:
    bundle = add_segmentation_model(engine, trainable=True)
    read_segmentations(engine, bundle, tmp_path / "in", 6, corrected=[1, 2, 3])
    run = start_training(engine, settings(SEGMENTATION, epochs=4))
    board.wake()
    deadline = time.monotonic() + 200
    checkpoints = engine.paths.training / run.run_id / "run" / "checkpoints"
    while not list(checkpoints.glob("last-*.ckpt")):
        assert time.monotonic() < deadline and not board.run(run.run_id).is_final
        time.sleep(0.05)
    pid = board.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert board.wait(run.run_id, 60).state is TrainingState.INTERRUPTED
    board.resume(run.run_id)
    while not (done := board.run(run.run_id)).is_final:
        assert time.monotonic() < deadline + 80
        time.sleep(0.1)
    assert done.state is TrainingState.SUCCEEDED, f"{done.error_code}: {done.error}"
    steps = [point.step for point in board.curves(run.run_id) if point.name == "loss"]
    assert steps == list(range(len(steps))) and len(steps) > 10
