from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from core.domain.errors import BugError, InputError
from core.library.repositories.jobs import LEGAL_TRANSITIONS
from core.services.engine import open_engine
from tests.fakes.engines import make_engine

TO = {
    "queued": [],
    "running": ["running"],
    "succeeded": ["running", "succeeded"],
    "failed": ["running", "failed"],
    "cancelled": ["cancelled"],
    "interrupted": ["interrupted"],
    "lost": ["running", "lost"],
}


def test_the_queue_survives_a_restart_in_its_order(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine, engine.unit_of_work() as uow:
        for name in ("b", "a", "c"):
            uow.jobs.add(name, "run", '{"model_id":"m"}', f"job {name}")
        uow.jobs.set_state("b", "running")
        uow.jobs.set_state("b", "succeeded", result_id="r1")
    with open_engine(tmp_path / "home") as engine, engine.unit_of_work(writes=False) as uow:
        assert [job.job_id for job in uow.jobs.pending()] == ["a", "c"]
        assert [job.job_id for job in uow.jobs.all()] == ["c", "a", "b"]
        assert [job.job_id for job in uow.jobs.all(limit=1)] == ["c"]
        done = uow.jobs.get("b")
        assert done is not None
        assert (done.state, done.result_id, done.payload_json) == ("succeeded", "r1", '{"model_id":"m"}')
        assert uow.jobs.get("none") is None


def test_only_legal_transitions_happen(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        for number, (start, end) in enumerate(product(LEGAL_TRANSITIONS, LEGAL_TRANSITIONS)):
            with engine.unit_of_work() as uow:
                uow.jobs.add(f"j{number}", "run", "{}", "t")
                for state in TO[start]:
                    uow.jobs.set_state(f"j{number}", state)
                if end in LEGAL_TRANSITIONS[start]:
                    uow.jobs.set_state(f"j{number}", end)
                else:
                    with pytest.raises(BugError) as caught:
                        uow.jobs.set_state(f"j{number}", end)
                    assert caught.value.code == "jobs.transition"


def test_an_unknown_job_is_refused(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine, pytest.raises(InputError), engine.unit_of_work() as uow:
        uow.jobs.set_state("none", "running")
