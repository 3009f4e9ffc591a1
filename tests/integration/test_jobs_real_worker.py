"""The main job with the real worker: import, run, explain, self-test, on models whose answers are known."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from core.domain.errors import InputError
from core.formats.nifti import write_nifti
from core.jobs.messages import Event, JobProgress
from core.services.engine import Engine, open_engine
from core.services.explain_finding import explain
from core.services.import_study import import_paths
from core.services.job_board import JobBoard
from core.services.results import load_segmentation
from core.services.run_model import run_model
from core.services.selftest_model import selftest_model
from core.services.verify_audit import verify
from tests.fakes.bundles import expected_labels, make_segmentation_bundle, make_volume
from tests.fakes.left_behind import own_blocks, own_children

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, JobBoard, str]]:
    os.environ.setdefault("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    folder = tmp_path_factory.mktemp("desk")
    before = own_blocks()
    volume = make_volume()
    file = write_nifti(folder / "ct.nii.gz", volume.geometry, volume.voxels)
    with open_engine(folder / "home", actor="reader") as engine:
        key = import_paths(engine, [file]).studies[0].series[0].key
        make_segmentation_bundle(engine.paths.bundles / "fake-threshold")
        board = JobBoard(engine)
        yield engine, board, key
        board.shutdown()
    assert not own_children()
    assert own_blocks() <= before


def test_a_segmentation_arrives_voxel_for_voxel(desk: tuple[Engine, JobBoard, str]) -> None:
    engine, board, key = desk
    phases: list[str] = []
    result = run_model(
        engine, board, "fake-threshold", key, "cpu", progress=lambda phase, _: phases.append(phase)
    )
    segmentation = load_segmentation(engine, result.result_id)
    assert segmentation is not None
    expected = expected_labels(make_volume().voxels)
    # The clean-up rule of the bundle keeps the largest piece of bone; soft tissue is untouched.
    assert np.array_equal(segmentation.labels == 1, expected == 1)
    assert result.device == "cpu"
    assert {"load", "preprocess", "infer", "postprocess", "total", "series"} <= set(result.seconds)
    assert (result.peak_rss_mb or 0) > 50
    assert [f.label for f in result.findings] == ["Soft tissue", "Bone"]
    assert phases[-1] == "Done"


def test_a_result_is_explained_on_its_own_grid(desk: tuple[Engine, JobBoard, str]) -> None:
    engine, board, key = desk
    result = run_model(engine, board, "fake-threshold", key, "cpu")
    explanation = explain(engine, board, result.result_id, "occlusion", "Bone", device="cpu")
    assert explanation.class_label == "Bone"
    assert explanation.geometry.same_grid_as(make_volume().geometry)
    assert float(explanation.heat.max()) > 0.0
    with pytest.raises(InputError):
        explain(engine, board, result.result_id, "gradcam", "Spleen", device="cpu")


def test_a_model_tests_itself(desk: tuple[Engine, JobBoard, str]) -> None:
    engine, board, _ = desk
    report = selftest_model(engine, board, "fake-threshold", "cpu")
    assert report["passed"] is True
    assert report["agreement"] == 1.0
    with pytest.raises(InputError):
        selftest_model(engine, board, "no-such-model")


@pytest.mark.fault
def test_the_real_worker_may_be_killed_at_any_time(desk: tuple[Engine, JobBoard, str]) -> None:
    engine, board, key = desk
    selftest_model(engine, board, "fake-threshold", "cpu")
    events: list[Event] = []
    board.subscribe(events.append)
    job_id = board.submit_run("fake-threshold", key, "cpu")
    until = time.monotonic() + 20
    while not any(isinstance(e, JobProgress) and e.job_id == job_id for e in tuple(events)):
        assert time.monotonic() < until
        time.sleep(0.001)
    assert board.worker_pid is not None
    os.kill(board.worker_pid, signal.SIGKILL)
    view = board.wait(job_id, 30)
    if view.state == "lost":
        board.retry(job_id)
        view = board.wait(job_id, 60)
    assert view.state == "succeeded"
    assert verify(engine).ok
