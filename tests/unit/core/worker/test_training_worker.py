"""Parts of the training worker: the pause that reading holds, paired statistics, events as messages, memory."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from core.domain.errors import EnvironmentFault
from core.domain.progress import Cancelled, CancelToken
from core.jobs.messages import Event, JobMetric, JobNote, JobPaused, JobResumed, JobSubmitted, TrainTask
from core.services.training_threads import thread_cap
from core.worker.paired import paired, sign_flip_p
from core.worker.reading_pause import ReadingPause
from core.worker.training_tasks import _Listener, _MemoryLimit, overall


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_reading_holds_a_training_for_as_long_as_it_lasts() -> None:
    clock = Clock()
    pause = ReadingPause(longest_s=20.0, clock=clock)
    assert pause.held_by == ""
    pause.yield_for(1.0)
    assert pause.held_by == "reading" and pause.is_paused
    clock.now = 0.9
    pause.yield_for(1.0)
    clock.now = 1.8
    assert pause.is_paused
    clock.now = 2.0
    assert not pause.is_paused


def test_a_long_session_of_reading_lets_steps_through_now_and_then() -> None:
    clock = Clock()
    pause = ReadingPause(longest_s=20.0, clock=clock)
    free = []
    for tenth in range(450):
        clock.now = tenth / 10
        pause.yield_for(1.0)
        if not pause.is_paused:
            free.append(clock.now)
    assert free == [20 + n / 10 for n in range(10)] + [41 + n / 10 for n in range(10)]


def test_the_readers_word_outlasts_reading() -> None:
    clock = Clock()
    pause = ReadingPause(clock=clock)
    pause.yield_for(1.0)
    pause.pause()
    clock.now = 5.0
    assert pause.held_by == "reader"
    pause.resume()
    assert not pause.is_paused


def test_a_cancel_ends_a_rest() -> None:
    pause, cancel = ReadingPause(), CancelToken()
    pause.pause()
    cancel.cancel()
    with pytest.raises(Cancelled):
        pause.wait_while_paused(cancel)


def test_the_p_of_a_paired_difference_is_that_of_all_sign_flips() -> None:
    difference = np.array([0.1, -0.02, 0.05, 0.08, 0.03])
    expected = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert sign_flip_p(difference, np.arange(5)) == pytest.approx(float(expected))
    by_hand = [
        abs(np.dot(s, difference)) >= abs(difference.sum()) - 1e-12
        for s in itertools.product((-1, 1), repeat=5)
    ]
    assert sign_flip_p(difference, np.arange(5)) == np.mean(by_hand)


def test_many_patients_are_sampled_close_to_the_exact_p() -> None:
    difference = np.random.default_rng(1).normal(0.05, 0.1, 16)
    exact = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_p(difference, np.arange(16)) == pytest.approx(float(exact), abs=0.01)


def test_the_interval_draws_patients_not_cases() -> None:
    rows = [
        {"current": 0.5, "candidate": 0.5 + gain, "patient": patient}
        for patient, gain in (("a", 0.1), ("a", 0.1), ("a", 0.1), ("b", -0.1), ("c", 0.0))
    ]
    found = paired(rows, seed=0)
    assert found["difference"] == pytest.approx(0.04)
    assert found["ci95"][0] == pytest.approx(-0.1) and found["ci95"][1] == pytest.approx(0.1)
    alone = paired([row | {"patient": str(n)} for n, row in enumerate(rows)], seed=0)
    assert alone["ci95"][0] > -0.1


def test_the_interval_agrees_with_scipys_bootstrap() -> None:
    difference = np.random.default_rng(5).normal(0.02, 0.05, 40)
    rows = [{"current": 0.7, "candidate": 0.7 + d, "patient": str(n)} for n, d in enumerate(difference)]
    reference = stats.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = paired(rows, seed=3)["ci95"]
    assert (low, high) == (pytest.approx(reference.low, abs=2e-3), pytest.approx(reference.high, abs=2e-3))


def test_events_of_the_engine_become_messages() -> None:
    sent: list[Event] = []
    pause = ReadingPause()
    listener = _Listener("j", sent.append, pause, _MemoryLimit(0))
    listener({"event": "step", "step": 1, "loss": 0.5, "learning_rate": 1e-3})
    listener({"event": "step", "step": 2, "loss": 0.4, "learning_rate": 1e-3})  # too soon
    listener(
        {"event": "epoch", "epoch": 0, "step": 2, "values": {"train_loss": 0.45, "validation_dice": None}}
    )
    listener({"event": "note", "code": "oom", "message": "The batch was divided."})
    pause.pause()
    listener({"event": "paused"})
    listener({"event": "resumed"})
    listener({"event": "hardware", "cpu": 1})
    assert sent == [
        JobMetric("j", "loss", 0.5, 1),
        JobMetric("j", "learning_rate", 1e-3, 1),
        JobMetric("j", "train_loss", 0.45, 2),
        JobMetric("j", "epoch", 1.0, 2),
        JobNote("j", "oom", "The batch was divided."),
        JobPaused("j", "reader"),
        JobResumed("j"),
    ]


def test_a_training_that_takes_too_much_memory_is_ended() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        _MemoryLimit(1).look()
    assert caught.value.code == "training.memory"
    _MemoryLimit(0).look()


def test_the_key_of_the_cases_stands_in_no_text_of_a_message() -> None:
    task = TrainTask("f", "{}", "b", "s", "c0ffee" * 10)
    assert "c0ffee" not in repr(JobSubmitted("j", task))


@pytest.mark.skipif(sys.platform != "linux", reason="SCHED_IDLE is Linux's")
def test_the_training_worker_lets_every_other_process_go_first() -> None:
    code = (
        "import os; from core.worker.trainer import step_back; step_back(); "
        "print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )
    assert told.stdout.split() == ["19", "True"]


def test_a_training_leaves_one_core_to_the_reader() -> None:
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    assert 1 <= thread_cap() <= max(1, usable - 1)


def test_the_bar_runs_forwards_over_the_phases_of_the_engine() -> None:
    told = [
        ("Preparing", 0.0),
        ("Reading the data", 0.15),
        ("Preparing cases", 1.0),
        ("Training", 0.0),
        ("Training", 0.5),
        ("Training", 1.0),
        ("Exporting", 0.0),
        ("Evaluating the model", 0.5),
        ("Done", 1.0),
    ]
    bar = [overall(phase, fraction) for phase, fraction in told]
    assert bar == sorted(bar) and bar[0] == 0.0 and bar[-1] == 1.0
    assert bar[4] == pytest.approx(0.45)
