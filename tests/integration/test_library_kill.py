"""kill -9 in the middle of verdicts and of an import: nothing acknowledged is lost, the rest is done again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config.atomic import PART_PREFIX
from core.library.files import file_sha256
from core.services import import_batches, results, verify_audit
from core.services.engine import open_engine
from core.services.import_study import import_paths
from core.services.record_decision import record_decision
from tests.fakes.dicom_files import write_stack
from tests.fakes.engines import insert_study, make_engine, model_result

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")]
CONTEXT = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")
DECISION_KILLS = 15
IMPORT_KILLS = 8
FILES = 60


def decide_for_ever(home: Path, told: Connection) -> None:
    engine = open_engine(home)
    while True:
        decision, _ = record_decision(engine, "r1", "f1", random.choice(["accept", "reject", "unsure"]))
        told.send(decision.decision_id)


def import_copies(home: Path, source: Path, told: Connection) -> None:
    import_batches.BATCH_INSTANCES = 5
    engine = open_engine(home)
    told.send("ready")
    import_paths(engine, [source], mode="copy")


def kill_after(target: Callable[..., None], arguments: tuple[Any, ...], delay_s: float) -> list[str]:
    """Run a child, kill it some time after its first word, and return all its words."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=target, args=(*arguments, sender))
    child.start()
    sender.close()
    words: list[str] = []
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        if receiver.poll(0.001):
            try:
                words.append(receiver.recv())
            except EOFError:
                break
            deadline = deadline or time.monotonic() + delay_s
    if child.pid is not None and child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    while receiver.poll(0):
        try:
            words.append(receiver.recv())
        except (EOFError, OSError):
            break
    receiver.close()
    return words


def test_no_acknowledged_verdict_is_lost(tmp_path: Path) -> None:
    chance = random.Random(7)
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        results.store_result(engine, model_result())
    home = tmp_path / "home"
    acknowledged: list[str] = []
    for _ in range(DECISION_KILLS):
        acknowledged += kill_after(decide_for_ever, (home,), chance.uniform(0.0, 0.12))
    with open_engine(home) as engine:
        with engine.unit_of_work(writes=False) as uow:
            stored = [d.decision_id for d in uow.decisions.of_result("r1")]
        events = [r for r in verify_audit.list_events(engine, limit=10**6) if r.event_code == "decision"]
        assert len(acknowledged) >= DECISION_KILLS
        assert set(acknowledged) <= set(stored)
        # At most the one that was being acknowledged when the child died.
        assert len(stored) - len(acknowledged) <= DECISION_KILLS
        assert len(events) == len(stored)
        assert verify_audit.verify(engine).ok
        assert engine.library.check() == []


def test_an_interrupted_import_is_completed_by_repeating_it(tmp_path: Path) -> None:
    chance = random.Random(11)
    voxels = np.arange(FILES * 64, dtype=np.int16).reshape(FILES, 8, 8)
    for number in range(FILES // 5):
        write_stack(tmp_path / "in", voxels[number * 5 : number * 5 + 5], number=number, name=f"s{number}-")
    make_engine(tmp_path).close()
    home = tmp_path / "home"
    for _ in range(IMPORT_KILLS):
        kill_after(import_copies, (home, tmp_path / "in"), chance.uniform(0.02, 0.25))
    with open_engine(home) as engine:
        report = import_paths(engine, [tmp_path / "in"], mode="copy")
        assert report.counts["instances"] + report.already_present == FILES
        copies = [p for p in engine.paths.instances.rglob("*") if p.is_file()]
        assert not [p for p in copies if p.name.startswith(PART_PREFIX)]
        assert sorted(map(file_sha256, copies)) == sorted(map(file_sha256, (tmp_path / "in").iterdir()))
        with engine.unit_of_work(writes=False) as uow:
            assert uow.instances.count() == FILES
        imported = [r for r in verify_audit.list_events(engine, limit=10**6) if r.event_code == "110107"]
        assert sum(r.n_objects for r in imported) == FILES
        assert verify_audit.verify(engine).ok
        assert engine.library.check() == []


def record_events(home: Path, told: Connection) -> None:
    engine = open_engine(home)
    for _ in range(25):
        engine.record("110106", action="R")
    engine.close()
    told.send("done")


def test_processes_that_write_at_once_keep_one_chain(tmp_path: Path) -> None:
    make_engine(tmp_path).close()
    home = tmp_path / "home"
    receiver, sender = CONTEXT.Pipe(duplex=False)
    children = [CONTEXT.Process(target=record_events, args=(home, sender)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    receiver.close()
    sender.close()
    with open_engine(home) as engine:
        outcome = verify_audit.verify(engine)
        assert outcome.ok
        assert outcome.events == 2 + 4 * 27 + 1
