"""What the worker takes over of a server's answer, and what it refuses. No compute library is loaded for it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.domain.errors import AppError
from core.domain.progress import CancelToken, no_progress
from core.domain.volume import Volume
from core.formats.nifti import write_nifti
from core.jobs.messages import ContrastSpec, RunRemoteTask, ServerSpec, SharedArraySpec
from core.jobs.server_client import Patience
from core.jobs.specs import volume_spec_of
from core.worker.remote import run_remote
from tests.fakes.bundles import make_volume
from tests.fakes.recording_server import Reply, serving

HASTE = Patience(short_s=5.0, answer_s=5.0, busy_s=0.0)
VOLUME = make_volume((6, 8, 10))
LABELS = (VOLUME.voxels > -500).astype(np.uint8)
INFO = {
    "id": "fake", "version": "1.0.0", "title": "Fake", "task": "multitask", "kind": "volume", "labels": [],
    "intended_use": "Tests.", "licence": "MIT", "sha256": "ab" * 32, "verified": False,
    "max_upload_bytes": 1 << 29, "max_files": 4,
}  # fmt: skip


class Arrays:
    """The shared arrays of a task, in this process."""

    def __init__(self) -> None:
        self.labels = np.zeros(VOLUME.geometry.shape_kji, np.uint8)

    def view(self, spec: SharedArraySpec, *, writeable: bool = False) -> NDArray[Any]:
        return self.labels if writeable else VOLUME.voxels


def spec(name: str) -> SharedArraySpec:
    return SharedArraySpec(name, "<i2", VOLUME.geometry.shape_kji)


def task(url: str) -> RunRemoteTask:
    server = ServerSpec("desk", url, "fake", "1.0.0", "ab" * 32, token="t" * 32)
    return RunRemoteTask(
        server, volume_spec_of(VOLUME, spec("v")), False, (1,), ("calm", "stirred"), ("volume",), spec("l")
    )


def answer(
    folder: Path, volume: Volume = VOLUME, labels: NDArray[np.uint8] = LABELS, **changes: Any
) -> dict[str, Any]:
    file = write_nifti(folder / "labels.nii.gz", volume.geometry, labels, intent_label=True)
    told = {
        "prediction": "calm", "confidence": 0.7, "probabilities": {"stirred": 0.3, "calm": 0.7},
        "inference_time_ms": 12.0, "model_version": "v1.0.0", "prediction_set": ["calm"], "uncertainty": 0.2,
        "measurements": [{"name": "volume", "value": 3.5, "unit": "mL"}], "notes": ["ran on\x07 the CPU"],
        "engine": "exact", "label_map_nifti": base64.b64encode(file.read_bytes()).decode(),
    }  # fmt: skip
    return told | changes


def run(
    document: dict[str, Any], info: Callable[[int], dict[str, Any]] = lambda _: INFO
) -> tuple[dict[str, Any], Arrays]:
    """Run the task against a server that answers so; ``info`` is told how often it was asked."""
    asked = [0]

    def answering(method: str, _path: str, _body: bytes) -> Reply:
        if method == "POST":
            return Reply(body=json.dumps(document).encode())
        asked[0] += 1
        return Reply(body=json.dumps(info(asked[0])).encode())

    arrays = Arrays()
    with serving(answering) as server:
        return run_remote(task(server.url), arrays, no_progress, CancelToken(), HASTE), arrays  # type: ignore[arg-type]


def test_an_answer_becomes_the_outcome_of_a_run(tmp_path: Path) -> None:
    outcome, arrays = run(answer(tmp_path))
    assert np.array_equal(arrays.labels, LABELS) and outcome["has_labels"] is True
    assert outcome["device"] == "server desk" and outcome["backend"] == "exact"
    assert outcome["classes"] == [
        {"label": "calm", "probability": 0.7},
        {"label": "stirred", "probability": 0.3},
    ]
    assert outcome["measurements"] == [{"name": "volume", "value": 3.5}]
    assert outcome["fallbacks"] == ["desk: ran on the CPU"] and outcome["seconds"]["server"] == pytest.approx(
        0.012
    )
    assert outcome["uncertainty"] == 0.2 and outcome["out_of_distribution"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"probabilities": {"calm": 1.0}},
        {"probabilities": {"calm": 0.7, "stirred": 0.2, "other": 0.1}},
        {"probabilities": {"calm": 0.7, "stirred": 1.3}},
        {"probabilities": {"calm": 0.7, "stirred": 0.7}},
        {"probabilities": {"calm": float("nan"), "stirred": 0.3}},
        {"prediction_set": ["other"]},
        {"measurements": []},
        {"measurements": [{"name": "other", "value": 1.0, "unit": "mL"}]},
        {"measurements": [{"name": "volume", "value": float("inf"), "unit": "mL"}]},
        {"label_map_nifti": None},
        {"label_map_nifti": "%%%"},
    ],
)  # fmt: skip
def test_names_and_values_that_the_model_does_not_have_are_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(AppError) as refused:
        run(answer(tmp_path, **changes))
    assert refused.value.code == "engine.answer" and "desk" in refused.value.user_message


def test_a_label_map_of_another_place_or_meaning_changes_nothing(tmp_path: Path) -> None:
    elsewhere = replace(VOLUME, geometry=make_volume((6, 8, 10), (1.0, 2.0, 2.0)).geometry)
    for document, code in (
        (answer(tmp_path, volume=elsewhere), "engine.grid"),
        (answer(tmp_path, labels=LABELS * 9), "engine.values"),
    ):
        with pytest.raises(AppError) as refused:
            run(document)
        assert refused.value.code == code


@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.parametrize("changes", [{"sha256": "cd" * 32}, {"version": "1.0.1"}, {"id": "other"}])
def test_another_model_is_refused_before_and_after_the_run(
    when: int, changes: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(AppError) as refused:
        run(answer(tmp_path), lambda asked: INFO | changes if asked >= when else INFO)
    assert refused.value.code == "engine.other_model" and "Change…" in refused.value.remedy


def test_an_answer_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AppError) as refused:
        run(answer(tmp_path, model_version="v2.0.0"))
    assert refused.value.code == "engine.other_model"


def test_several_contrasts_go_by_their_names_the_first_one_first(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def answering(method: str, _path: str, body: bytes) -> Reply:
        bodies.append(body)
        return Reply(body=json.dumps(answer(tmp_path) if method == "POST" else INFO).encode())

    with serving(answering) as server:
        other = ContrastSpec("FLAIR", volume_spec_of(VOLUME, spec("o")))
        asked = replace(task(server.url), contrast="T1", others=(other,), text="short report")
        outcome = run_remote(asked, Arrays(), no_progress, CancelToken(), HASTE)  # type: ignore[arg-type]
    body = next(one for one in bodies if one)
    names = [
        b'name="contrast.T1"; filename="image.nii.gz"',
        b'name="contrast.FLAIR"; filename="image.nii.gz"',
    ]
    assert 0 <= body.index(names[0]) < body.index(names[1]) and b'name="file"' not in body
    assert b"short report" in body and outcome["has_labels"]
    assert "short report" not in repr(asked) and "t" * 32 not in repr(asked)


def test_what_is_too_large_for_the_server_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(AppError) as refused:
        run(answer(tmp_path), lambda _: INFO | {"max_upload_bytes": 100})
    assert refused.value.code == "engine.too_large" and "--max-upload-mb" in refused.value.remedy


def test_neither_torch_nor_the_network_is_loaded_before_it_is_needed() -> None:
    program = (
        "import sys, core.worker.dispatch, core.services.remote_engine, core.services.remote_models\n"
        "import app.bridge.gateway, app.presenters.remote_engines\n"
        "print([name for name in ('torch', 'onnxruntime', 'httpx', 'nibabel', 'core.compute') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
