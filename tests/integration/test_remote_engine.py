"""A workstation that uses a model server: real server and worker processes, what is sent is read on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import AppError, SafetyError
from core.jobs.transitions import JobState
from core.services.engine import Engine, open_engine
from core.services.import_study import import_paths
from core.services.job_board import JobBoard
from core.services.list_models import list_models
from core.services.remote_engine import check_engine, connect_engine
from core.services.remote_models import list_remote_models, remote_id
from core.services.results import load_segmentation, results_for
from core.services.run_model import run_model
from tests.fakes.bundles import make_segmentation_bundle, make_volume
from tests.fakes.dicom_files import PATIENT_NAME, UID_ROOT, write_stack
from tests.fakes.left_behind import own_blocks, own_children
from tests.fakes.recording_server import Answering, Recorded, Reply, passed_on, serving

pytest.importorskip("torch")
pytest.importorskip("uvicorn")
IDENTITY = (PATIENT_NAME, "PLANTED", "MARKER", UID_ROOT, "19700101", "20240102", "synthetic")
NAME = "reading-room"


@dataclass
class Desk:
    """A home with one CT, and a server behind a recorder; ``answering`` may be replaced by a test."""

    engine: Engine
    board: JobBoard
    series: str
    answering: Answering
    sent: Recorded | None = None

    def __call__(self, method: str, path: str, body: bytes) -> Reply:
        """Answer as ``answering`` does at the moment."""
        return self.answering(method, path, body)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    os.environ.setdefault("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    folder = tmp_path_factory.mktemp("desk")
    before = own_blocks()
    volume = make_volume()
    write_stack(folder / "ct", volume.voxels, volume.geometry)
    make_segmentation_bundle(folder / "bundle")
    command = [sys.executable, "-m", "core.server", str(folder / "bundle"), "--port", "0", "--json"]
    server = subprocess.Popen(
        [*command, "--devices", "cpu", "--home", str(folder / "served")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    where = json.loads(server.stdout.readline())
    token = Path(where["token_file"]).read_text().split()[0]
    try:
        with open_engine(folder / "home", actor="reader") as engine:
            key = import_paths(engine, [folder / "ct"]).studies[0].series[0].key
            make_segmentation_bundle(engine.paths.bundles / "fake-threshold")
            board = JobBoard(engine)
            board.warm_up()  # while the server loads its model
            desk = Desk(engine, board, key, passed_on(where["url"], token))
            with serving(desk) as sent:
                desk.sent = sent
                connect_engine(engine, NAME, sent.url, token)
                yield desk
            board.shutdown()
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()
    assert not own_children()
    assert own_blocks() <= before


def ready(desk: Desk) -> None:
    """Wait until the server has loaded its model."""
    for _ in range(200):
        if check_engine(desk.engine, NAME).ready:
            return
        threading.Event().wait(0.1)
    pytest.fail("the server's model never became ready")


def unpacked(request: bytes) -> bytes:
    """Return a request with the packed image inside it unpacked."""
    start = request.find(b"\x1f\x8b\x08")
    return request if start < 0 else request + zlib.decompressobj(wbits=31).decompress(request[start:])


def test_a_server_gives_the_labels_of_this_computer_and_hears_no_identity(desk: Desk) -> None:
    ready(desk)
    assert desk.sent is not None
    row = list_remote_models(desk.engine, desk.series)[0]
    assert row.fits and (row.title, row.id) == ("Fake tissue thresholds", f"server:{NAME}/fake-threshold")
    assert row.id not in {one.id for one in list_models(desk.engine, desk.series)}
    desk.sent.requests.clear()
    phases: list[str] = []
    there = run_model(
        desk.engine, desk.board, row.id, desk.series, progress=lambda phase, _: phases.append(phase)
    )
    here = run_model(desk.engine, desk.board, "fake-threshold", desk.series, "cpu")
    far, near = (load_segmentation(desk.engine, one.result_id) for one in (there, here))
    assert far is not None and near is not None
    assert np.array_equal(far.labels, near.labels) and far.labels.any()
    assert there.device == f"server {NAME}" and here.device == "cpu"
    assert there.model == here.model and there.segments == here.segments and there.findings == here.findings
    assert there.checks == here.checks and there.checks["voxels"] == "ok"
    assert any(phase == f"Waiting for {NAME}" for phase in phases)
    told = b"".join(unpacked(request) for request in desk.sent.requests)
    assert len(told) > make_volume().voxels.nbytes
    assert not [word for word in IDENTITY if word.encode() in told]
    # dates and the names of files and series are of no use to a model either
    assert b"fake" not in told.replace(b"fake-threshold", b"") and b".dcm" not in told


def test_what_a_server_did_wrong_is_refused_and_the_job_can_be_tried_again(desk: Desk) -> None:
    ready(desk)
    model, well = remote_id(NAME, "fake-threshold"), desk.answering
    before = len(results_for(desk.engine, desk.series))

    def broken(method: str, path: str, body: bytes) -> Reply:
        reply = well(method, path, body)
        return Reply(200, reply.body[:40], announced=len(reply.body)) if method == "POST" else reply

    desk.answering = broken
    job = desk.board.submit_run(model, desk.series)
    view = desk.board.wait(job, 30)
    assert (view.state, view.title) == (JobState.FAILED, f"{NAME} · Fake tissue thresholds")
    assert "broke off" in view.error
    assert len(results_for(desk.engine, desk.series)) == before
    desk.answering = well
    desk.board.retry(job)
    assert desk.board.wait(job, 30).state == JobState.SUCCEEDED


def test_another_model_at_the_same_address_is_refused(desk: Desk) -> None:
    well = desk.answering

    def other(method: str, path: str, body: bytes) -> Reply:
        reply = well(method, path, body)
        if path != "/model/info":
            return reply
        return Reply(200, json.dumps(json.loads(reply.body) | {"sha256": "0" * 64}).encode())

    desk.answering = other
    try:
        with pytest.raises(SafetyError, match="no longer serves fake-threshold") as refused:
            run_model(desk.engine, desk.board, remote_id(NAME, "fake-threshold"), desk.series)
    finally:
        desk.answering = well
    assert refused.value.code == "engine.other_model"


def test_a_run_that_waits_for_its_server_can_be_cancelled(desk: Desk) -> None:
    well, asked, leave = desk.answering, threading.Event(), threading.Event()

    def slow(method: str, path: str, body: bytes) -> Reply:
        if method == "POST":
            asked.set()
            leave.wait(20)
        return well(method, path, body)

    desk.answering = slow
    job = desk.board.submit_run(remote_id(NAME, "fake-threshold"), desk.series)
    assert asked.wait(20)
    pid = desk.board.worker_pid
    desk.board.cancel(job)
    view = desk.board.wait(job, 20)
    leave.set()
    desk.answering = well
    assert view.state == JobState.CANCELLED
    assert desk.board.worker_pid == pid, "the worker had to be ended"


def test_a_server_that_is_gone_is_told_and_this_computer_goes_on(desk: Desk) -> None:
    with serving(desk) as gone:
        connect_engine(desk.engine, "gone", gone.url, "t" * 32)
    with pytest.raises(AppError) as refused:
        run_model(desk.engine, desk.board, remote_id("gone", "fake-threshold"), desk.series)
    assert refused.value.code == "engine.unreachable" and "this computer" in refused.value.remedy
    assert run_model(desk.engine, desk.board, "fake-threshold", desk.series, "cpu").device == "cpu"
