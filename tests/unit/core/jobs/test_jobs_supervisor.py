"""A real worker process under a real supervisor: what is answered, what is survived, what is left behind."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core.domain.errors import EnvironmentFault
from core.jobs.launcher import launch
from core.jobs.liveness import Timing
from core.jobs.messages import (
    Event,
    JobCancelled,
    JobFailed,
    JobProgress,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    SelfTestTask,
    WorkerLost,
)
from core.jobs.supervisor import Supervisor
from tests.fakes.left_behind import own_children

SLOW = [sys.executable, str(Path(__file__).resolve().parents[3] / "fakes" / "slow_worker.py")]
FAST = Timing(timeout_s=1.5, grace_s=0.5, terminate_s=0.5, stop_s=1.0, backoff_s=(0.0, 0.05, 0.1))
FINAL = (JobSucceeded, JobFailed, JobCancelled, WorkerLost)


class Desk:
    """A supervisor and the events that it told."""

    def __init__(self, timing: Timing, command: list[str]) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.seen: list[Event] = []
        self.supervisor = Supervisor(lambda: launch(timing, command), self.events.put, timing)
        self.supervisor.start()

    def submit(self, instruction: str, job_id: str = "job") -> None:
        self.supervisor.submit(JobSubmitted(job_id, SelfTestTask(instruction)))

    def until(self, kinds: type | tuple[type, ...], timeout: float = 20.0) -> Event:
        deadline = time.monotonic() + timeout
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            self.seen.append(event)
            if isinstance(event, kinds):
                return event

    def end_of(self, instruction: str, job_id: str = "job") -> Event:
        self.submit(instruction, job_id)
        return self.until(FINAL)

    @property
    def pid(self) -> int:
        pid = self.supervisor.worker_pid
        assert pid is not None
        return pid


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk(FAST, SLOW)
    yield desk
    desk.supervisor.shutdown()
    assert not own_children(), "a child process was left behind"


def gone(pid: int, within_s: float = 2.0) -> bool:
    return wait_for(lambda: not _alive(pid), within_s)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def test_a_job_is_started_reported_and_answered_by_one_warm_worker(desk: Desk) -> None:
    assert desk.end_of("sleep 0.5", "a") == JobSucceeded("a", {"slept": 0.5})
    first = desk.pid
    assert desk.end_of("sleep 0.01", "b") == JobSucceeded("b", {"slept": 0.01})
    assert desk.pid == first
    assert [e.worker_pid for e in desk.seen if isinstance(e, JobStarted)] == [first, first]
    reports = [e for e in desk.seen if isinstance(e, JobProgress) and e.job_id == "a"]
    assert 3 <= len(reports) <= 7, "ten per second are enough"
    assert [r.fraction for r in reports] == sorted(r.fraction for r in reports)


def test_stray_output_never_reaches_the_messages(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "core.worker.stderr"):
        assert desk.end_of("print") == JobSucceeded("job", {"stdin": 0})
        assert wait_for(lambda: "and one of a child" in caplog.text, 2.0)
    assert "a stray print" in caplog.text
    assert "and one below Python" in caplog.text


def test_an_error_of_ours_keeps_its_code_and_family(desk: Desk) -> None:
    expected = JobFailed("job", "fake.refused", "The fake refused.", "Ask it nicely.", "InputError")
    assert desk.end_of("refuse") == expected


def test_a_foreign_error_tells_kind_and_place_but_not_its_text(desk: Desk) -> None:
    event = desk.end_of("raise")
    assert isinstance(event, JobFailed)
    assert event.code == "jobs.bug"
    assert event.family == "BugError"
    assert "ValueError at " in event.message
    assert "only the log" not in event.message


def test_cancelling_a_cooperative_job_keeps_the_worker(desk: Desk) -> None:
    desk.submit("sleep 60")
    desk.until(JobProgress)
    pid, begun = desk.pid, time.monotonic()
    desk.supervisor.cancel("job")
    assert desk.until(FINAL) == JobCancelled("job")
    assert time.monotonic() - begun < 2.0
    assert desk.end_of("sleep 0.01", "next") == JobSucceeded("next", {"slept": 0.01})
    assert desk.pid == pid


def test_cancelling_a_waiting_job_never_starts_it(desk: Desk) -> None:
    desk.submit("sleep 0.4", "first")
    desk.submit("sleep 60", "second")
    desk.supervisor.cancel("second")
    assert desk.until(FINAL) == JobCancelled("second")
    assert desk.until(FINAL) == JobSucceeded("first", {"slept": 0.4})


@pytest.mark.fault
@pytest.mark.parametrize(("instruction", "limit_s"), [("stubborn", 3.0), ("deaf", 4.0)])
def test_a_job_that_ignores_the_flag_is_ended(desk: Desk, instruction: str, limit_s: float) -> None:
    desk.submit(instruction)
    desk.until(JobProgress)
    pid, begun = desk.pid, time.monotonic()
    desk.supervisor.cancel("job")
    assert desk.until(FINAL) == JobCancelled("job")
    assert time.monotonic() - begun < limit_s
    assert gone(pid)
    assert desk.end_of("sleep 0.01", "next") == JobSucceeded("next", {"slept": 0.01})


@pytest.mark.fault
def test_a_killed_worker_is_told_and_replaced(desk: Desk) -> None:
    desk.submit("sleep 60", "a")
    desk.until(JobProgress)
    pid = desk.pid
    os.kill(pid, signal.SIGKILL)
    event = desk.until(FINAL)
    assert isinstance(event, WorkerLost)
    assert event.job_id == "a"
    assert "killed" in event.reason and "GB" in event.reason
    assert desk.end_of("sleep 0.01", "a") == JobSucceeded("a", {"slept": 0.01})
    assert desk.pid != pid


@pytest.mark.fault
@pytest.mark.parametrize(
    ("instruction", "words"), [(f"die {int(signal.SIGSEGV)}", "SIGSEGV"), ("exit 7", "status 7")]
)
def test_a_crash_is_named(desk: Desk, instruction: str, words: str) -> None:
    event = desk.end_of(instruction)
    assert isinstance(event, WorkerLost)
    assert words in event.reason


@pytest.mark.fault
def test_a_stopped_worker_is_found_out(desk: Desk) -> None:
    desk.submit("sleep 60")
    desk.until(JobProgress)
    pid = desk.pid
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    event = desk.until(WorkerLost)
    assert isinstance(event, WorkerLost)
    assert "no sign of life" in event.reason
    assert time.monotonic() - begun < 4.0
    assert gone(pid)


@pytest.mark.fault
def test_a_worker_that_holds_the_interpreter_lock_is_spared(desk: Desk) -> None:
    assert desk.end_of("spin 4") == JobSucceeded("job", {"spun": True})


@pytest.mark.fault
def test_the_children_of_a_worker_end_with_it(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    desk.submit(f"fork {file}")
    desk.until(JobProgress)
    desk.supervisor.cancel("job")
    assert desk.until(FINAL) == JobCancelled("job")
    assert gone(int(file.read_text()))


@pytest.mark.fault
def test_a_worker_that_always_dies_is_given_up_with_the_reason() -> None:
    desk = Desk(FAST, [sys.executable, "-c", "raise SystemExit(9)"])
    try:
        event = desk.end_of("sleep 1")
        assert isinstance(event, JobFailed)
        assert (event.code, event.family) == ("jobs.worker_unstable", "EnvironmentFault")
        assert "status 9" in event.message
    finally:
        desk.supervisor.shutdown()


@pytest.mark.fault
def test_a_worker_that_talks_nonsense_is_ended() -> None:
    desk = Desk(
        FAST, [sys.executable, "-c", "import time; print('Traceback ' * 9, flush=True); time.sleep(60)"]
    )
    try:
        event = desk.end_of("sleep 1")
        assert isinstance(event, JobFailed)
        assert "The stream is corrupt" in event.message
    finally:
        desk.supervisor.shutdown()


def test_a_program_that_is_not_there_fails_the_job() -> None:
    desk = Desk(FAST, ["/nonexistent/overread-worker"])
    try:
        event = desk.end_of("sleep 1")
        assert isinstance(event, JobFailed)
        assert (event.code, event.family) == ("jobs.worker_not_started", EnvironmentFault.__name__)
    finally:
        desk.supervisor.shutdown()


def test_shutdown_ends_a_busy_worker_within_its_patience(desk: Desk) -> None:
    desk.submit("stubborn")
    desk.until(JobProgress)
    pid, begun = desk.pid, time.monotonic()
    desk.supervisor.shutdown()
    assert time.monotonic() - begun < 3.0
    assert gone(pid)


def test_warming_up_starts_a_worker_before_there_is_a_job(desk: Desk) -> None:
    desk.supervisor.warm_up()
    assert wait_for(lambda: desk.supervisor.is_warm, 10.0)


def test_the_command_line_of_a_worker_carries_numbers_only(desk: Desk) -> None:
    assert desk.end_of("sleep 0") == JobSucceeded("job", {"slept": 0.0})
    options = psutil.Process(desk.pid).cmdline()[len(SLOW) :]
    assert options[::2] == ["--parent", "--beat", "--nice"]
    assert [float(value) for value in options[1::2]] == [os.getpid(), FAST.beat_s, 5.0]
    assert psutil.Process(desk.pid).nice() >= 5
