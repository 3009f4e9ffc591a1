"""``overread train --backend ray`` on a cluster of this machine: the same training, events, an end by a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.compute.training.events import EVENTS_FILE, read_events
from core.compute.training.run import train_recipe
from core.recipes.load import dump_recipe
from core.recipes.schema import Recipe
from tests.fakes.multitask_training import lesion_recipe, write_lesions
from tests.fakes.shape_training import chest_recipe

pytest.importorskip("ray", reason="needs overread[cluster]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Ray's local cluster is POSIX here"),
]
TRAIN = (sys.executable, "-m", "core.cli.main", "train")


def recipe(**changes: Any) -> Recipe:
    """A network that normalises each sample by itself, so that halves of a batch are independent."""
    return chest_recipe(
        network__name="unet",
        network__params={"depth": 2, "features": 4},
        loss__name="cross_entropy",
        training__batch_size=2,
        **changes,
    )


def started(folder: Path, wanted: Recipe, *more: str) -> subprocess.Popen[str]:
    file = folder / "recipe.yaml"
    file.write_text(dump_recipe(wanted), encoding="utf-8")
    arguments = [*TRAIN, str(file), "--out", str(folder / "two"), "--json", "--progress", "json"]
    arguments += ["--backend", "ray", "--workers", "2", "--address", "local", "--device", "cpu", *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def of_ray() -> set[int]:
    """Processes of any Ray cluster here."""
    found = set()
    for process in psutil.process_iter(["pid", "name", "status"]):
        name = str(process.info["name"])
        if name.startswith(("raylet", "gcs_server", "ray::")) and process.info["status"] != "zombie":
            found.add(int(process.info["pid"]))
    return found


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    before = of_ray()
    yield
    until = time.monotonic() + 20
    while of_ray() - before and time.monotonic() < until:
        time.sleep(0.2)
    assert not of_ray() - before


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(out / EVENTS_FILE) if event["event"] == kind]


def test_two_workers_of_a_cluster_train_as_one_process_with_the_double_batch(tmp_path: Path) -> None:
    """Several tasks, of which not all is known in each half of a batch."""
    wanted = lesion_recipe(training__batch_size=2, tasks__segmentation={"name": "focal"})
    data = write_lesions(tmp_path / "data", 10, tested=False)
    child = started(tmp_path, wanted, "--data", str(data))
    answer, told = child.communicate(timeout=400)
    assert child.returncode == 0, told[-2000:]
    document = json.loads(answer)
    assert document["epochs"] == 2
    assert (Path(document["bundle"]) / "bundle.json").is_file()
    heard = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [event["event"] for event in heard][-1] == "done"
    kept = read_events(tmp_path / "two" / EVENTS_FILE)
    assert [event["event"] for event in heard] == [event["event"] for event in kept]

    double = wanted.training.model_copy(update={"batch_size": 4})
    train_recipe(wanted.model_copy(update={"training": double}), data=data, out=tmp_path / "one")
    one, two = ([e["loss"] for e in events(tmp_path / name, "step")] for name in ("one", "two"))
    assert len(one) == len(two) == 4
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) <= 1e-5
    assert json.loads((tmp_path / "two/run.json").read_text(encoding="utf-8"))["world"] == 2
    assert not [path for path in (tmp_path / "two").iterdir() if "cluster" in path.name]


def test_a_training_on_a_cluster_ends_by_a_signal(tmp_path: Path) -> None:
    child = started(tmp_path, recipe(training__epochs=2000))
    until = time.monotonic() + 200
    while len(events(tmp_path / "two", "step")) < 2 and time.monotonic() < until and child.poll() is None:
        time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    answer, told = child.communicate(timeout=120)
    assert child.returncode == 1, told[-2000:]
    assert json.loads(answer)["error"]["code"] == "job.cancelled"
    assert json.loads((tmp_path / "two/run.json").read_text(encoding="utf-8"))["state"] == "cancelled"
