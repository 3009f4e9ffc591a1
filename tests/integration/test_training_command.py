"""``overread train`` as a process: progress, end by a signal, going on, several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from core.compute.training.events import EVENTS_FILE, read_events
from core.compute.training.run import train_recipe
from core.recipes.load import dump_recipe
from tests.fakes.multitask_training import lesion_recipe, write_lesions
from tests.fakes.shape_training import chest_recipe, shape_recipe, write_shapes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="forkserver and SIGTERM are POSIX"),
]


def command(arguments: list[str], answers: str, errors: str) -> None:
    """Run the command line in a child process with its outputs in files."""
    from core.cli.main import run

    with Path(answers).open("w", encoding="utf-8") as out, Path(errors).open("w", encoding="utf-8") as log:
        sys.stdout, sys.stderr = out, log
        status = run(arguments)
        out.flush()
        log.flush()
    os._exit(status)


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.compute.training.run", "core.cli.main"])
    return context


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(out / EVENTS_FILE) if event["event"] == kind]


def test_a_training_ended_by_sigterm_says_so_and_goes_on_later(
    children: ForkServerContext, tmp_path: Path
) -> None:
    data = write_shapes(tmp_path / "data")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(shape_recipe(training__epochs=400)), encoding="utf-8")
    out, answers, errors = tmp_path / "out", tmp_path / "answers", tmp_path / "errors"
    first = ["train", str(recipe), "--data", str(data), "--out", str(out), "--json"]
    child = children.Process(target=command, args=(first, str(answers), str(errors)))
    child.start()
    until = time.monotonic() + 120
    while len(events(out, "step")) < 5 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(child.pid or 0, signal.SIGTERM)
    child.join()
    assert child.exitcode == 1
    assert json.loads(answers.read_text(encoding="utf-8"))["error"]["code"] == "job.cancelled"
    assert read_events(out / EVENTS_FILE)[-1]["event"] == "cancelled"
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["state"] == "cancelled"
    steps = len(events(out, "step"))
    assert steps >= 5

    again = [*first, "--resume", "--progress", "json", "--set", "training.epochs=3"]
    child = children.Process(target=command, args=(again, str(answers), str(errors)))
    child.start()
    child.join()
    assert child.exitcode == 0
    document = json.loads(answers.read_text(encoding="utf-8"))
    assert {"run_id", "checkpoint", "metrics", "epochs", "seconds", "bundle"} <= document.keys()
    lines = [json.loads(line) for line in errors.read_text(encoding="utf-8").splitlines()]
    assert lines[-1]["event"] == "done"
    assert {"started", "chosen", "epoch", "evaluated"} <= {line["event"] for line in lines}


@pytest.mark.parametrize("several", [False, True], ids=["one task", "several tasks"])
def test_two_processes_train_as_one_with_the_double_batch(several: bool, tmp_path: Path) -> None:
    """The networks normalise each sample by itself; batch statistics would be those of a process's own half.

    Of several tasks some targets are unknown, not equally many in both processes; Dice over a batch isn't a mean.
    """
    recipe = chest_recipe(network__name="unet", network__params={"depth": 2, "features": 4},
                          loss__name="cross_entropy", training__batch_size=2)  # fmt: skip
    data, more, mark = None, [], "validation_dice"
    if several:
        recipe = lesion_recipe(training__batch_size=2, tasks__segmentation={"name": "focal"})
        data, mark = write_lesions(tmp_path / "data", 10, tested=False), "validation_variance_segmentation"
        more = ["--data", str(data)]
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    arguments = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"),
        *("-m", "core.cli.main", "train", str(file), "--out", str(tmp_path / "two"), "--json", *more),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["epochs"] == 2
    double = recipe.training.model_copy(update={"batch_size": 4})
    train_recipe(recipe.model_copy(update={"training": double}), data=data, out=tmp_path / "one")
    one = [event["loss"] for event in events(tmp_path / "one", "step")]
    two = [event["loss"] for event in events(tmp_path / "two", "step")]
    assert len(one) == len(two) == (4 if several else 6)
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) <= (1e-5 if several else 1e-6)
    seen = [[event["values"] for event in events(tmp_path / name, "epoch")] for name in ("one", "two")]
    for mine, other in zip(*seen, strict=True):
        assert mine[mark] == pytest.approx(other[mark], abs=1e-6)
    assert json.loads((tmp_path / "two" / "run.json").read_text(encoding="utf-8"))["world"] == 2
