"""The board with a real engine, a real library and a worker that does what it is told."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.domain.errors import InputError, SafetyError
from core.domain.progress import Cancelled
from core.formats.nifti import write_nifti
from core.jobs.liveness import Timing
from core.jobs.messages import Event, JobCancelled, JobFailed, JobProgress, JobSucceeded, WorkerLost
from core.services.engine import Engine, open_engine
from core.services.explain_finding import explain
from core.services.import_study import import_paths
from core.services.job_board import JobBoard, JobView
from core.services.job_making import make_job
from core.services.results import load_result, load_segmentation, results_for
from core.services.run_model import run_model
from core.services.verify_audit import verify
from tests.fakes.bundles import make_segmentation_bundle, make_volume
from tests.fakes.left_behind import own_blocks, own_children

SLOW = [sys.executable, str(Path(__file__).resolve().parents[3] / "fakes" / "slow_worker.py")]
FAST = Timing(timeout_s=2.0, grace_s=0.5, terminate_s=0.5, stop_s=1.0, backoff_s=(0.0, 0.05, 0.1))


@dataclass
class Room:
    """An engine with one CT series and one model; the bundle's folder name instructs the worker."""

    engine: Engine
    series_key: str
    boards: list[JobBoard] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def board(self, **options: object) -> JobBoard:
        board = JobBoard(self.engine, timing=FAST, worker_command=SLOW, **options)  # type: ignore[arg-type]
        board.subscribe(self.events.append)
        self.boards.append(board)
        return board

    def model(self, instruction: str = "fill", model_id: str = "fake-threshold", **changes: object) -> str:
        make_segmentation_bundle(self.engine.paths.bundles / instruction, id=model_id, **changes)
        return model_id

    def seen(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    before = own_blocks()
    volume = make_volume()
    file = write_nifti(tmp_path / "source" / "ct.nii.gz", volume.geometry, volume.voxels)
    with open_engine(tmp_path / "home", actor="reader") as engine:
        report = import_paths(engine, [file])
        room = Room(engine, report.studies[0].series[0].key)
        yield room
        for board in room.boards:
            board.shutdown()
    assert not own_children(), "a child process was left behind"
    assert not own_blocks() - before, "memory leaked"


def wait_for(condition: Callable[[], object], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def running(board: JobBoard, job_id: str, phase: str) -> bool:
    return wait_for(lambda: board.wait(job_id, 0.0).phase == phase)


def test_a_run_is_stored_measured_and_read_back(room: Room) -> None:
    room.model()
    board = room.board()
    view = board.wait(board.submit_run("fake-threshold", room.series_key), 30)
    assert (view.state, view.fraction, view.error) == ("succeeded", 1.0, "")
    result = load_result(room.engine, str(view.result_id))
    assert results_for(room.engine, room.series_key) == [result]
    assert set(result.checks.values()) <= {"ok", "not applicable"}
    assert {"fit", "spacing", "regular grid", "orientation", "centroids", "laterality"} <= set(result.checks)
    volume = make_volume()
    soft = result.segments[0]
    assert soft.voxels == int((volume.voxels > 0).sum())
    assert soft.volume_ml == pytest.approx(soft.voxels * 0.008)
    assert soft.mean_hu == pytest.approx(float(volume.voxels[volume.voxels > 0].mean()), abs=1e-6)
    assert [(f.id, f.label, f.kind) for f in result.findings] == [("f1", "Soft tissue", "segment")]
    segmentation = load_segmentation(room.engine, result.result_id)
    assert segmentation is not None
    assert np.array_equal(segmentation.labels, volume.voxels > 0)
    assert room.events[-1] == JobSucceeded(
        view.job_id, {"result_id": result.result_id, "device": "", "fallbacks": []}
    )
    fractions = [event.fraction for event in room.seen(JobProgress)]
    assert fractions == sorted(fractions)


def test_a_volume_that_is_in_memory_is_not_loaded_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.model()
    monkeypatch.setattr("core.services.run_job.load_volume", None)
    board = room.board()
    job_id = board.submit_run("fake-threshold", room.series_key, volume=make_volume())
    assert board.wait(job_id, 30).state == "succeeded"


def test_a_model_that_does_not_fit_is_refused_with_the_reason(room: Room) -> None:
    from core.bundles.manifest import Requirements

    room.model(requirements=Requirements(modalities=("MR",)))
    with pytest.raises(SafetyError, match=r"Made for MR volumes; this series is CT") as caught:
        run_model(room.engine, room.board(), "fake-threshold", room.series_key)
    assert caught.value.code == "model.does_not_fit"
    assert results_for(room.engine, room.series_key) == []


def test_an_unknown_model_fails_the_job_not_the_board(room: Room) -> None:
    room.model()
    board = room.board()
    view = board.wait(board.submit_run("no-such-model", room.series_key), 10)
    assert view.state == "failed"
    assert view.failure is not None and view.failure.family == "InputError"
    assert isinstance(room.events[-1], JobFailed)
    assert board.wait(board.submit_run("fake-threshold", room.series_key), 30).state == "succeeded"


def test_a_label_map_that_reads_back_elsewhere_is_never_kept(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    import core.services.results as results

    def misplace(path: Path, geometry: object, labels: np.ndarray) -> Path:
        return write_nifti(path, geometry, np.roll(labels, 3, axis=2))  # type: ignore[arg-type]

    room.model()
    monkeypatch.setattr(results, "write_nifti", misplace)
    with pytest.raises(SafetyError, match="from where it was measured") as caught:
        run_model(room.engine, room.board(), "fake-threshold", room.series_key)
    assert caught.value.code == "readback.centroid"
    assert results_for(room.engine, room.series_key) == []
    assert not list(room.engine.paths.results.iterdir())


@pytest.mark.fault
def test_a_killed_worker_leaves_a_board_that_can_retry(room: Room, tmp_path: Path) -> None:
    room.model("sleep 5")
    board = room.board()
    job_id = board.submit_run("fake-threshold", room.series_key)
    assert running(board, job_id, "sleeping")
    assert board.worker_pid is not None
    os.kill(board.worker_pid, signal.SIGKILL)
    lost = board.wait(job_id, 10)
    assert lost.state == "lost"
    assert "killed" in lost.error
    assert wait_for(lambda: room.seen(WorkerLost))
    (room.engine.paths.bundles / "sleep 5").rename(room.engine.paths.bundles / "sleep 0.1")
    assert board.retry(job_id) == job_id
    again = board.wait(job_id, 30)
    assert again.state == "succeeded"
    assert load_result(room.engine, str(again.result_id)).result_id == again.result_id


def test_cancelling_keeps_nothing_and_allows_a_retry(room: Room) -> None:
    room.model("sleep 30")
    board = room.board()
    job_id = board.submit_run("fake-threshold", room.series_key)
    waiting = board.submit_run("fake-threshold", room.series_key)
    assert running(board, job_id, "sleeping")
    begun = time.monotonic()
    board.cancel(waiting)
    board.cancel(job_id)
    assert board.wait(job_id, 10).state == "cancelled"
    assert time.monotonic() - begun < 2.0
    assert board.wait(waiting, 10).state == "cancelled"
    assert wait_for(lambda: len(room.seen(JobCancelled)) == 2)
    assert results_for(room.engine, room.series_key) == []
    board.cancel(job_id)  # too late, and harmless
    with pytest.raises(InputError):
        board.cancel("no such job")
    assert board.wait(job_id, 0).can_retry


def test_waiting_for_a_cancelled_job_raises_cancelled(room: Room) -> None:
    room.model("sleep 30")
    board = room.board()

    def cancel_at_once(phase: str, fraction: float) -> None:
        if phase == "sleeping":
            board.cancel(board.jobs()[-1].job_id)

    with pytest.raises(Cancelled):
        run_model(room.engine, board, "fake-threshold", room.series_key, progress=cancel_at_once)


def test_a_succeeded_job_cannot_be_retried(room: Room) -> None:
    room.model()
    board = room.board()
    job_id = board.submit_run("fake-threshold", room.series_key)
    board.wait(job_id, 30)
    with pytest.raises(InputError):
        board.retry(job_id)


@pytest.mark.fault
def test_the_queue_survives_the_end_of_the_program(room: Room) -> None:
    room.model("sleep 60")
    board = room.board()
    first = board.submit_run("fake-threshold", room.series_key)
    second = board.submit_run("fake-threshold", room.series_key)
    assert running(board, first, "sleeping")
    board.shutdown()
    (room.engine.paths.bundles / "sleep 60").rename(room.engine.paths.bundles / "fill")
    reborn = room.board()
    states = {view.job_id: view.state for view in reborn.jobs()}
    assert states[first] == "interrupted"
    assert reborn.wait(second, 30).state == "succeeded"
    reborn.retry(first)
    assert reborn.wait(first, 30).state == "succeeded"


DIES = """
import sys
from pathlib import Path
from core.jobs.messages import JobProgress
from core.services.engine import open_engine
from core.services.job_board import JobBoard

engine = open_engine(Path(sys.argv[1]), actor="reader")
board = JobBoard(engine, worker_command=[sys.executable, sys.argv[2]])

def tell(event):
    if isinstance(event, JobProgress) and event.phase == "sleeping":
        print(board.worker_pid, flush=True)

board.subscribe(tell)
first = board.submit_run("fake-threshold", sys.argv[3])
second = board.submit_run("fake-threshold", sys.argv[3])
print(first, second, flush=True)
board.wait(first)
"""


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.fault
def test_jobs_of_a_killed_program_are_found_again(room: Room) -> None:
    room.model("sleep 2")
    command = [sys.executable, "-c", DIES, str(room.engine.paths.root), SLOW[1], room.series_key]
    program = subprocess.Popen(command, cwd=Path(__file__).parents[4], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    first, second = program.stdout.readline().split()
    worker = int(program.stdout.readline())
    program.kill()
    program.wait()
    program.stdout.close()
    assert wait_for(lambda: not runs(worker), 2.0)
    (room.engine.paths.bundles / "sleep 2").rename(room.engine.paths.bundles / "fill")
    board = room.board()
    assert {v.job_id: v.state for v in board.jobs()}[first] == "interrupted"
    assert board.wait(second, 30).state == "succeeded"
    board.retry(first)
    assert board.wait(first, 30).state == "succeeded"
    assert verify(room.engine).ok


def test_a_second_board_leaves_the_jobs_of_the_first_alone(room: Room) -> None:
    room.model("sleep 1")
    board = room.board()
    job_id = board.submit_run("fake-threshold", room.series_key)
    assert running(board, job_id, "sleeping")
    other = room.board()
    assert job_id not in [view.job_id for view in other.jobs()]
    assert board.wait(job_id, 30).state == "succeeded"


def test_waiting_jobs_are_left_alone_when_asked(room: Room) -> None:
    room.model("sleep 60")
    board = room.board()
    first, second = (board.submit_run("fake-threshold", room.series_key) for _ in range(2))
    assert running(board, first, "sleeping")
    board.shutdown()
    passing = room.board(resume=False)
    assert second not in [view.job_id for view in passing.jobs()]
    passing.shutdown()
    (room.engine.paths.bundles / "sleep 60").rename(room.engine.paths.bundles / "fill")
    assert room.board().wait(second, 30).state == "succeeded"


def test_an_explanation_of_other_weights_is_refused(room: Room) -> None:
    room.model()
    board = room.board()
    result = run_model(room.engine, board, "fake-threshold", room.series_key)
    other = dataclasses.replace(result.model, sha256="0" * 64)
    from core.services import explain_job

    original = explain_job.load_result
    explain_job.load_result = lambda *_: dataclasses.replace(result, model=other)  # type: ignore[assignment]
    try:
        with pytest.raises(SafetyError, match="other weights"):
            explain(room.engine, board, result.result_id, "gradcam")
    finally:
        explain_job.load_result = original


def test_a_subscriber_that_fails_stops_nobody(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.model()
    board = room.board()

    def fail(event: Event) -> None:
        raise RuntimeError("a subscriber")

    board.subscribe(fail)
    view: JobView = board.wait(board.submit_run("fake-threshold", room.series_key), 30)
    assert view.state == "succeeded"
    assert "a subscriber failed" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("kind", "request_", "code"),
    [
        ("run", {"model_id": "m"}, "jobs.incomplete"),
        ("explain", {"result_id": "r"}, "jobs.incomplete"),
        ("train", {}, "jobs.unknown_kind"),
    ],
)
def test_a_request_of_another_version_is_refused(room: Room, kind: str, request_: dict, code: str) -> None:
    with pytest.raises(InputError) as caught:
        make_job(room.engine, kind, request_, None)
    assert caught.value.code == code
