"""kill -9 at fifty random moments of an import of a thousand files: a second run completes it exactly."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from pydicom import dcmread

from core.config.atomic import PART_PREFIX
from core.library.files import file_sha256
from core.services import verify_audit
from core.services.engine import open_engine
from core.services.import_study import import_paths
from tests.fakes.corpus import write_corpus
from tests.fakes.engines import make_engine

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]
CONTEXT = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")
FILES = 1000
KILLS = 50


def run_import(home: Path, source: Path, mode: str, told: Connection) -> None:
    engine = open_engine(home)
    told.send("ready")
    import_paths(engine, [source], mode=mode)
    told.send("done")


def killed_run(home: Path, source: Path, mode: str, delay_s: float) -> bool:
    """Import in a child and kill it after a while; whether it had finished before."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=run_import, args=(home, source, mode, sender))
    child.start()
    sender.close()
    try:
        assert receiver.recv() == "ready"
        time.sleep(delay_s)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        return receiver.poll(0) and receiver.recv() == "done"
    except EOFError:
        return False
    finally:
        receiver.close()


@pytest.mark.parametrize(("mode", "kills"), [("link", KILLS // 2), ("copy", KILLS - KILLS // 2)])
def test_a_second_run_completes_what_kills_interrupted(tmp_path: Path, mode: str, kills: int) -> None:
    chance = random.Random(mode)
    files = write_corpus(tmp_path / "in", FILES)
    uids = {str(dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for file in files}
    make_engine(tmp_path).close()
    home = tmp_path / "home"
    finished = [
        killed_run(home, tmp_path / "in", mode, chance.choice((0.02, 0.1, 0.3, 0.6)) * chance.random())
        for _ in range(kills)
    ]
    assert finished.count(True) < kills
    with open_engine(home) as engine:
        report = import_paths(engine, [tmp_path / "in"], mode=mode)
        assert report.counts["instances"] + report.already_present == FILES
        assert report.skipped == ()
        with engine.unit_of_work(writes=False) as uow:
            stored = list(uow.instances.of_studies(None))
            assert uow.quarantine.list() == []
            assert uow.conflicts.list() == []
        assert sorted(one.instance.sop_instance_uid for one in stored) == sorted(uids)
        copies = [p for p in engine.paths.instances.rglob("*") if p.is_file()]
        assert not [p for p in copies if p.name.startswith(PART_PREFIX)]
        if mode == "copy":
            assert {one.instance.file for one in stored} == set(copies)
            assert sorted(map(file_sha256, copies)) == sorted(map(file_sha256, files))
        else:
            assert copies == []
            assert {one.instance.file for one in stored} == set(files)
        assert all(one.instance.sha256 for one in stored)
        imported = [r for r in verify_audit.list_events(engine, limit=10**6) if r.event_code == "110107"]
        assert sum(r.n_objects for r in imported) == FILES
        assert verify_audit.verify(engine).ok
        assert engine.library.check() == []
        assert list(engine.paths.temp.iterdir()) == []
