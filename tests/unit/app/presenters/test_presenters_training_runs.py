"""Trainings that go on: words, curves, events, and what the buttons do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.presenters.notices import NoticesPresenter
from app.presenters.reading_activity import LEAST_BETWEEN_S, ReadingActivity
from app.presenters.training_curves import CurveStore
from app.presenters.training_runs import TrainingRunsPresenter
from app.presenters.training_words import state_in_words, status_in_words
from core.domain.training import CurvePoint, TrainingChanged, TrainingCurves, TrainingState, chosen_in_words
from tests.fakes.review_engine import DeferredTasks, ImmediateTasks
from tests.fakes.training_engine import FakeTrainingEngine, curve, training


class Engine(FakeTrainingEngine):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.prepare_training()

    def _note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))


@pytest.fixture
def engine() -> Engine:
    return Engine()


def runs_of(
    engine: Engine, tasks: Any = None, notices: NoticesPresenter | None = None
) -> TrainingRunsPresenter:
    presenter = TrainingRunsPresenter(engine, tasks or ImmediateTasks(), notices or NoticesPresenter())
    engine.listen_to_training(presenter.on_event)
    return presenter


def test_curves_are_restored_after_a_start(engine: Engine) -> None:
    engine.training_runs = [training()]
    engine.curve_points["run1"] = list(curve())
    runs = runs_of(engine)
    runs.refresh()
    assert runs.state.chosen == "run1"
    assert {c.name: len(c.steps) for c in runs.curves()} == {
        "train_loss": 60, "validation_dice": 6, "validation_loss": 6,
    }  # fmt: skip


def test_values_that_come_while_the_record_is_read_are_not_lost_or_doubled(engine: Engine) -> None:
    tasks = DeferredTasks()
    engine.training_runs = [training()]
    engine.curve_points["run1"] = [CurvePoint("train_loss", n, 1.0) for n in (1, 2)]
    runs = runs_of(engine, tasks)
    runs.refresh()
    for _ in range(3):
        tasks.run_some(1)
    runs.on_event(
        TrainingCurves("run1", (CurvePoint("train_loss", 2, 1.0), CurvePoint("train_loss", 3, 0.5)))
    )
    tasks.run_all()
    (line,) = runs.curves()
    assert line.steps == (1, 2, 3) and line.values == (1.0, 1.0, 0.5)


def test_a_resume_from_a_checkpoint_takes_back_what_came_after_it() -> None:
    store = CurveStore()
    store.add([CurvePoint("train_loss", n, 1.0 / n) for n in range(1, 11)])
    store.add([CurvePoint("train_loss", n, 5.0) for n in (6, 7)])
    (line,) = store.curves()
    assert line.steps == (1, 2, 3, 4, 5, 6, 7) and line.values[-2:] == (5.0, 5.0)


def test_any_number_of_values_is_a_bounded_number_of_points_with_the_same_mean() -> None:
    store, number = CurveStore(most=100), 12_345
    values = np.random.default_rng(0).random(number)
    store.add(CurvePoint("train_loss", n + 1, float(v)) for n, v in enumerate(values))
    (line,) = store.curves()
    assert 50 <= len(line.steps) <= 101
    assert list(line.steps) == sorted(line.steps) and line.steps[-1] > number - 256
    assert np.mean(line.values) == pytest.approx(values.mean(), abs=0.01)


def test_what_is_no_number_is_counted_not_drawn() -> None:
    store = CurveStore()
    store.add([CurvePoint("train_loss", 1, math.nan), CurvePoint("train_loss", 2, 0.5)])
    assert store.broken == 1 and store.curves()[0].values == (0.5,)


def test_values_of_single_labels_stay_in_the_record() -> None:
    store = CurveStore()
    names = ("validation_dice", "validation_dice_1", "validation_dice_2", "validation_auc", "learning_rate")
    store.add([CurvePoint(name, 1, 0.5) for name in names])
    assert [(line.name, line.title) for line in store.curves()] == [
        ("validation_auc", "Validation auc"),
        ("validation_dice", "Validation Dice"),
    ]


def test_only_the_training_looked_at_is_drawn(engine: Engine) -> None:
    engine.training_runs = [training(), training(run_id="run0", state=TrainingState.SUCCEEDED)]
    runs = runs_of(engine)
    runs.refresh()
    before = runs.state.revision
    engine.put_on_record("run0", CurvePoint("train_loss", 1, 1.0))
    assert runs.state.revision == before and runs.curves() == ()
    runs.choose("run0")
    assert runs.curves()[0].values == (1.0,)


def test_an_answer_that_is_older_than_an_event_is_not_believed(engine: Engine) -> None:
    tasks = DeferredTasks()
    engine.training_runs = [training()]
    runs = runs_of(engine, tasks)
    runs.refresh()
    tasks.run_some(1)
    runs.on_event(TrainingChanged(training(state=TrainingState.CANCELLED)))
    runs.on_event(TrainingChanged(training(run_id="new")))
    tasks.run_all()
    assert [(run.run_id, run.state.value) for run in runs.state.runs] == [
        ("new", "running"),
        ("run1", "cancelled"),
    ]


def test_pause_resume_cancel_reach_the_engine(engine: Engine) -> None:
    engine.training_runs = [training()]
    runs = runs_of(engine)
    runs.refresh()
    runs.resume()
    runs.pause()
    assert runs.state.run is not None and runs.state.run.state is TrainingState.PAUSED
    runs.pause()
    runs.resume()
    runs.cancel()
    runs.cancel()
    acts = [call[0] for call in engine.calls if call[0].endswith("_training")]
    assert acts == ["pause_training", "resume_training", "cancel_training"]


def test_the_button_of_the_status_bar_pauses_and_resumes_what_goes_on(engine: Engine) -> None:
    engine.training_runs = [training(run_id="old", state=TrainingState.SUCCEEDED), training()]
    runs = runs_of(engine)
    runs.refresh()
    runs.choose("old")
    runs.pause_or_resume_active()
    runs.pause_or_resume_active()
    acts = [call for call in engine.calls if call[0] in ("pause_training", "resume_training")]
    assert acts == [("pause_training", "run1"), ("resume_training", "run1")]


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (TrainingState.SUCCEEDED, "done"),
        (TrainingState.FAILED, "danger"),
        (TrainingState.INTERRUPTED, "caution"),
    ],
)
def test_an_end_is_told_once(engine: Engine, state: TrainingState, level: str) -> None:
    notices, finished = NoticesPresenter(), []
    engine.training_runs = [training()]
    runs = runs_of(engine, notices=notices)
    runs.finished = finished.append
    runs.refresh()
    ended = training(state=state, error="Out of memory.", remedy="Give it less.")
    runs.on_event(TrainingChanged(ended))
    runs.on_event(TrainingChanged(replace(ended, fraction=1.0)))
    assert [notice.level for notice in notices.state.notices] == [level]
    assert len(finished) == (state is not TrainingState.INTERRUPTED)


def test_a_new_training_comes_to_the_top_and_is_looked_at(engine: Engine) -> None:
    runs = runs_of(engine)
    runs.refresh()
    engine.move(training(run_id="new"))
    assert runs.state.chosen == "new"


@pytest.mark.parametrize(
    ("changes", "words", "short"),
    [
        ({}, "Training · epoch 3 of 10 · 12 min left", "training: epoch 3/10 · 12 min left"),
        (
            {"held_by": "reading"},
            "Rests while you read; goes on by itself · epoch 3 of 10",
            "training: epoch 3/10 · rests while you read",
        ),
        ({"state": TrainingState.PAUSED}, "Paused · epoch 3 of 10", "training: paused · epoch 3/10"),
        (
            {"state": TrainingState.QUEUED, "waits_for": "night",
             "settings": {"night_from": "22:00", "night_to": "06:00"}},
            "Waits for the night (22:00–06:00)",
            "training: waits for the night",
        ),
        ({"state": TrainingState.QUEUED, "waits_for": "turn"}, "Waits for its turn", "training: waits"),
        (
            {"state": TrainingState.COMPARING, "eta_seconds": 30.0},
            "Comparing with the model in use · 30 s left",
            "training: comparing",
        ),
        ({"state": TrainingState.CANCELLING}, "Stopping", "training: stopping"),
        ({"epoch": 0, "phase": "preparing", "eta_seconds": None}, "Training · preparing", "training: preparing"),
    ],
)  # fmt: skip
def test_a_training_says_what_it_does(changes: dict[str, Any], words: str, short: str) -> None:
    run = training(**changes)
    assert state_in_words(run) == words
    assert status_in_words(run) == short


def test_reading_is_passed_on_seldom_and_only_during_a_training() -> None:
    now, noted = [100.0], []
    activity = ReadingActivity(lambda: noted.append(now[0]), lambda: now[0])
    activity()
    assert noted == []
    activity.training = True
    for _ in range(50):
        activity()
        now[0] += LEAST_BETWEEN_S / 10
    assert len(noted) == 5


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"precision": "fp32", "batch_size": 8}, "Computes with 32-bit numbers, 8 cases at a time."),
        (
            {"precision": "bf16", "batch_size": 1},
            "Computes with 16-bit numbers (bfloat16), 1 case at a time.",
        ),
    ],
)
def test_how_a_training_computes_is_a_sentence(event: dict[str, Any], words: str) -> None:
    assert chosen_in_words(event) == words
