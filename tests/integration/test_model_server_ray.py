"""``overread serve --ray``: replicas on a cluster answer as one machine does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.compute.inference.run import run_bundle
from core.formats.images import read_image_bytes
from core.jobs.served import BatchAnswer, Prediction
from tests.fakes.served_app import mednist, png

pytest.importorskip("ray", reason="needs overread[cluster]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Ray's local cluster is POSIX here"),
]


def of_ray() -> set[int]:
    """Processes of any Ray cluster here."""
    found = set()
    for process in psutil.process_iter(["pid", "name", "status"]):
        name = str(process.info["name"])
        if name.startswith(("raylet", "gcs_server", "ray::")) and process.info["status"] != "zombie":
            found.add(int(process.info["pid"]))
    return found


def post(url: str, token: str, field: str, pictures: list[bytes]) -> Any:
    """Send pictures as a form."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="x"\r\n\r\n'.encode() + one
        for one in pictures
    ]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=b"}
    request = urllib.request.Request(url, b"\r\n".join([*parts, b"--b--\r\n"]), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def test_replicas_answer_as_a_run_does_and_leave_nothing_behind(tmp_path: Path) -> None:
    before = of_ray()
    arguments = [sys.executable, "-m", "core.cli.main", "serve", "mednist", "--port", "0", "--json", "--ray"]
    environment = os.environ | {"OVERREAD_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        token = Path(told["token_file"]).read_text().strip()
        pictures = [png(20), png(120), b"no image", png(220)]
        batch = BatchAnswer.model_validate(post(f"{told['url']}/predict/batch", token, "files", pictures))
        one = Prediction.model_validate(post(f"{told['url']}/predict", token, "file", [png(120)]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    for data, found in zip(pictures, batch.predictions, strict=True):
        if data == b"no image":
            assert not isinstance(found, Prediction)
            continue
        assert isinstance(found, Prediction)
        truth = run_bundle(mednist(), read_image_bytes(data), device="cpu", backend="exact")
        expected = {each.label: each.probability for each in truth.classes}
        assert found.probabilities == pytest.approx(expected, abs=1e-5)
        if data == png(120):
            assert one.probabilities == pytest.approx(expected, abs=1e-5)
    until = time.monotonic() + 20
    while of_ray() - before and time.monotonic() < until:
        time.sleep(0.2)
    assert not of_ray() - before
