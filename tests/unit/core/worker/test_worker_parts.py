"""The small parts of the worker: reporter, faults, threads, outcome."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import Cancelled
from core.jobs.messages import JobCancelled, JobFailed, JobProgress
from core.jobs.reporter import Reporter
from core.worker import lifeline
from core.worker.dispatch import Dispatcher, as_json
from core.worker.faults import final_message


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def report(steps: list[tuple[float, str, float]]) -> list[JobProgress]:
    clock, sent = Clock(), []
    reporter = Reporter("job", sent.append, clock)
    for at, phase, fraction in steps:
        clock.now = 100.0 + at
        reporter(phase, fraction)
    return sent


def test_at_most_ten_reports_per_second_go_out() -> None:
    sent = report([(step / 1000, "Running", step / 1000) for step in range(1000)])
    assert len(sent) <= 10


def test_a_new_phase_goes_out_at_once() -> None:
    sent = report(
        [(0.0, "Loading", 0.0), (0.02, "Running", 0.1), (0.03, "Running", 0.2), (0.3, "Running", 0.5)]
    )
    assert [(event.phase, event.fraction) for event in sent] == [
        ("Loading", 0.0),
        ("Running", 0.1),
        ("Running", 0.5),
    ]


def test_the_bar_never_runs_backwards_nor_out_of_its_frame() -> None:
    sent = report([(0.0, "a", 0.5), (1.0, "b", 0.2), (2.0, "b", math.nan), (3.0, "c", 7.0)])
    assert [event.fraction for event in sent] == [0.5, 0.5, 0.5, 1.0]


def test_the_time_left_is_told_once_it_is_more_than_a_guess() -> None:
    sent = report([(0.5, "a", 0.5), (2.0, "a", 0.02 + 0.48), (4.0, "a", 0.8)])
    assert sent[0].eta_seconds is None
    assert sent[1].eta_seconds == pytest.approx(2.0)
    assert sent[2].eta_seconds == pytest.approx(1.0)


def caught(error: Exception) -> Exception:
    try:
        raise error
    except Exception as raised:  # noqa: BLE001
        return raised


class Narrow(InputError):
    """An error of a subclass: its family is what the other side knows."""


def test_errors_of_ours_pass_with_their_family() -> None:
    failed = final_message("job", caught(Narrow("a.b", "what", "remedy")))
    assert failed == JobFailed("job", "a.b", "what", "remedy", "InputError")
    assert final_message("job", Cancelled()) == JobCancelled("job")


@pytest.mark.expects_logs
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_want_of_memory_is_the_environments_fault(error: Exception) -> None:
    failed = final_message("job", caught(error))
    assert isinstance(failed, JobFailed)
    assert (failed.code, failed.family) == ("jobs.out_of_memory", EnvironmentFault.__name__)
    assert "GB" in failed.message


@pytest.mark.expects_logs
def test_an_installation_without_the_libraries_says_what_to_install() -> None:
    failed = final_message("job", caught(ModuleNotFoundError("No module named 'torch'", name="torch")))
    assert isinstance(failed, JobFailed)
    assert (failed.code, failed.family) == ("jobs.not_installed", EnvironmentFault.__name__)
    assert "overread[ai]" in failed.remedy
    bug = final_message("job", caught(ModuleNotFoundError("No module named 'core.typo'", name="core.typo")))
    assert isinstance(bug, JobFailed)
    assert bug.family == "BugError"


@pytest.mark.expects_logs
def test_the_text_of_a_foreign_error_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    failed = final_message("job", caught(KeyError("DOE^JOHN")))
    assert isinstance(failed, JobFailed)
    assert "DOE" not in failed.message
    assert "KeyError at test_worker_parts:" in failed.message
    assert "DOE" in caplog.text


def test_one_core_is_left_free_when_there_are_more_than_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for physical, usable, expected in [(8, 16, 7), (2, 4, 2), (1, 1, 1), (8, 2, 2), (None, 4, 3)]:
        monkeypatch.setattr(lifeline.psutil, "cpu_count", lambda logical, n=physical: n)
        monkeypatch.setattr(lifeline.os, "sched_getaffinity", lambda _, n=usable: set(range(n)))
        assert lifeline.thread_count() == expected


def test_an_outcome_is_plain_json() -> None:
    outcome = as_json(
        {"a": np.float32(0.5), "b": (1, np.int64(2)), "c": math.nan, "d": np.arange(2), "e": Path("f")}
    )
    assert outcome == {"a": 0.5, "b": [1, 2], "c": None, "d": [0, 1], "e": "f"}
    json.dumps(outcome, allow_nan=False)


def test_making_a_dispatcher_loads_nothing() -> None:
    assert Dispatcher()._cache is None


@pytest.mark.skipif(sys.platform != "linux", reason="groups of sessions are Linux's")
def test_a_worker_in_a_session_of_its_own_makes_its_group_nice_too() -> None:
    group = Path("/proc/self/autogroup")
    try:
        before = group.read_text("ascii")
    except OSError:
        pytest.skip("the kernel doesn't group processes by session")
    program = (
        "from core.worker.lifeline import yield_to_others; import os\n"
        "yield_to_others(5); print(os.nice(0), open('/proc/self/autogroup').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, start_new_session=True
    )
    own, told = done.stdout.split(maxsplit=1)
    assert int(own) >= 5
    if told.strip():  # empty where the kernel has the file but not the groups
        assert told.split()[-2:] == ["nice", "5"]
    assert group.read_text("ascii") == before
