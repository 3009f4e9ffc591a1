"""A training that is killed again and again ends as one that never was."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from core.compute.training.checkpoints import Checkpoints, load_checkpoint
from core.compute.training.events import EVENTS_FILE, read_events
from core.recipes.schema import Recipe
from tests.fakes.shape_training import shape_recipe, write_shapes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.skipif(os.name == "nt", reason="forkserver and SIGKILL are POSIX"),
]

KILLS = 20


def recipe() -> Recipe:
    """Everything that draws random numbers is on: shuffling, transforms, mixup, dropout; and averaged weights."""
    return shape_recipe(
        network__name="simple_cnn",
        network__params={"channels": [4, 8], "dropout": 0.3},
        training__epochs=10,
        training__batch_size=4,
        training__mixup=0.2,
        training__ema_decay=0.9,
        training__checkpoints={"every_steps": 2, "top_k": 2},
        schedule={"name": "plateau", "patience": 1},
        transforms__train=[{"name": "rand_flip"}],
    )


def train(data: str, out: str) -> None:
    """Run in a child process."""
    from core.compute.training.run import train_recipe

    train_recipe(recipe(), data=Path(data), out=Path(out))


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    """A server that has loaded torch once; children are forked from it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.compute.training.run", "tests.fakes.shape_training"])
    return context


def steps_in(out: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(out / EVENTS_FILE) if event["event"] == "step"]


def wait_for(child: BaseProcess, out: Path, step: int) -> bool:
    """Wait until a step is in the log; returns whether the child still runs then."""
    while child.is_alive():
        if any(event["step"] >= step for event in steps_in(out)):
            return True
        time.sleep(0.003)
    return False


def test_twenty_kills_at_random_moments_change_nothing(children: ForkServerContext, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    child = children.Process(target=train, args=(str(data), str(straight)))
    child.start()
    child.join()
    assert child.exitcode == 0

    chance = random.Random(11)
    total = len(steps_in(straight))
    kills, target, damaged = 0, 0, 0
    while kills < KILLS:
        child = children.Process(target=train, args=(str(data), str(broken)))
        child.start()
        target = min(target + chance.randint(1, 5), total - 2)
        if wait_for(child, broken, target):
            time.sleep(chance.uniform(0, 0.04))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        kills += 1
        target = max([event["step"] for event in steps_in(broken)], default=0)
        damaged += len(Checkpoints(broken / "checkpoints").load_last()[1])
    child = children.Process(target=train, args=(str(data), str(broken)))
    child.start()
    child.join()
    assert child.exitcode == 0

    assert kills == KILLS
    assert damaged == 0
    assert curve(broken) == curve(straight)
    assert epochs(broken) == epochs(straight)
    assert_same_state(straight, broken)
    assert read_events(broken / EVENTS_FILE)[-1]["event"] == "done"


def curve(out: Path) -> list[tuple[int, float, float]]:
    return [(event["step"], event["loss"], event["learning_rate"]) for event in steps_in(out)]


def epochs(out: Path) -> list[dict[str, Any]]:
    return [event["values"] for event in read_events(out / EVENTS_FILE) if event["event"] == "epoch"]


def assert_same_state(one: Path, two: Path) -> None:
    first, _ = Checkpoints(one / "checkpoints").load_last()
    second, _ = Checkpoints(two / "checkpoints").load_last()
    assert first is not None
    assert second is not None
    for part in ("network", "average"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(first[part][key], second[part][key]) for key in first[part])
    assert first["watch"] == second["watch"]
    assert first["schedule"] == second["schedule"]
    for item in first["watch"]["best"]:
        mine, other = (load_checkpoint(out / "checkpoints" / item["file"])["weights"] for out in (one, two))
        assert all(torch.equal(mine[key], other[key]) for key in mine)
