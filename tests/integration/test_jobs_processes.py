"""Processes that live and die together, and what the window's process never loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from core.jobs.shared_arrays import MEMORY_FOLDER

ROOT = Path(__file__).resolve().parents[2]
SLOW = ROOT / "tests" / "fakes" / "slow_worker.py"

PARENT = """
import sys, time
from core.jobs.launcher import launch
from core.jobs.liveness import Timing
from core.jobs.messages import *
from core.jobs.shared_arrays import SharedArray
from core.jobs.supervisor import Supervisor

timing = Timing()
command = [sys.executable, sys.argv[1]] if len(sys.argv) > 1 else None
def tell(event):
    if isinstance(event, JobStarted):
        voxels.unlink()
        print(event.worker_pid, flush=True)
supervisor = Supervisor(lambda: launch(timing, command), tell, timing)
supervisor.start()
voxels = SharedArray.create((64, 64, 64), "i2")
grid = GridSpec((64, 64, 64), (1.0,) * 16)
task = RunModelTask("stubborn", VolumeSpec(voxels.spec, grid, "CT", "HU", "1.2"), labels_out=voxels.spec)
supervisor.submit(JobSubmitted("job", task))
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone_within(pid: int, seconds: float) -> float | None:
    """Seconds until the process is gone, None if it is not within ``seconds``."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if not alive(pid):
            return time.monotonic() - begun
        time.sleep(0.005)
    return None


@pytest.fixture
def parent() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PARENT, str(SLOW)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_worker_dies_with_its_parent(parent: subprocess.Popen[str], number: signal.Signals) -> None:
    before = set(MEMORY_FOLDER.glob("overread-*")) if MEMORY_FOLDER.is_dir() else set()
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.send_signal(number)
    parent.wait()
    assert gone_within(pid, 2.0) is not None
    if MEMORY_FOLDER.is_dir():
        own = [path for path in MEMORY_FOLDER.glob(f"overread-{parent.pid}-*") if path not in before]
        assert not own, "the arrays of the dead are still there"


@pytest.mark.fault
def test_a_worker_whose_parent_is_gone_already_does_not_start() -> None:
    """Told of a parent that it has not: the race between the start and the request for the signal."""
    command = [sys.executable, "-m", "core.worker", "--parent", "1"]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.PIPE, capture_output=True, timeout=30, check=False
    )
    if sys.platform == "linux":
        assert done.returncode == 3
        assert done.stdout == b""


def test_a_worker_ends_when_its_input_ends() -> None:
    command = [sys.executable, "-m", "core.worker", "--parent", str(os.getpid())]
    done = subprocess.run(command, cwd=ROOT, input=b"", capture_output=True, timeout=30, check=False)
    assert done.returncode == 3


HEAVY = ("torch", "onnxruntime", "captum", "monai", "lightning", "core.compute")


@pytest.mark.parametrize(
    "statement",
    [
        "import core.services.job_board",
        "import core.services.run_model, core.services.explain_finding, core.services.selftest_model",
        "import core.jobs.supervisor, core.jobs.launcher, core.jobs.queue",
    ],
)
def test_the_process_of_the_window_loads_no_compute_library(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_is_ready_before_it_has_loaded_a_compute_library() -> None:
    code = f"import core.worker.__main__, sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
