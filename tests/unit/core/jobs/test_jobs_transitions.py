"""The table of transitions and the queue that follows it."""

from __future__ import annotations

from itertools import product

import pytest

from core.domain.errors import BugError, InputError
from core.jobs.queue import JobError, JobQueue, StoredJob, error_from_json, error_to_json
from core.jobs.transitions import FINAL, TRANSITIONS, JobState, Trigger, next_state
from core.library.repositories.jobs import LEGAL_TRANSITIONS


class Shelf:
    """A store in memory that knows the library's own table."""

    def __init__(self) -> None:
        self.jobs: dict[str, StoredJob] = {}
        self.history: list[str] = []
        self.broken = False

    def add(self, job: StoredJob) -> None:
        if self.broken:
            raise BugError("test.broken", "broken")
        assert job.state == "queued"
        self.jobs[job.job_id] = job

    def update(self, job: StoredJob) -> None:
        assert job.state in LEGAL_TRANSITIONS[self.jobs[job.job_id].state], (
            self.jobs[job.job_id].state,
            job.state,
        )
        self.jobs[job.job_id] = job
        self.history.append(job.state)

    def all(self) -> list[StoredJob]:
        return list(self.jobs.values())


def test_every_pair_is_in_the_table_or_raises() -> None:
    for state, trigger in product(JobState, Trigger):
        if (state, trigger) in TRANSITIONS:
            assert next_state(state, trigger) == TRANSITIONS[state, trigger]
        else:
            with pytest.raises(BugError) as caught:
                next_state(state, trigger)
            assert caught.value.code == "jobs.illegal_transition"


def test_a_finished_job_only_moves_by_a_retry() -> None:
    moves = {trigger for (state, trigger) in TRANSITIONS if state in FINAL}
    assert moves == {Trigger.RETRY_REQUESTED}
    assert (JobState.SUCCEEDED, Trigger.RETRY_REQUESTED) not in TRANSITIONS


def test_whatever_ends_a_cancelled_job_it_is_cancelled() -> None:
    ends = [new for (state, _), new in TRANSITIONS.items() if state == JobState.CANCELLING]
    assert set(ends) == {JobState.CANCELLED, JobState.CANCELLING}


def test_the_queue_hands_out_in_order_and_saves_every_step() -> None:
    queue, shelf = JobQueue(), Shelf()
    first, second = (queue.add("run", name, {"model_id": name, "series_key": "s"}) for name in "ab")
    assert (first.model_id, first.series_key) == ("a", "s")
    assert queue.next_queued() == first
    queue.move(first.job_id, Trigger.STARTED)
    assert queue.next_queued() == second
    queue.progress(first.job_id, "Running", 0.5, 3.0)
    queue.move(first.job_id, Trigger.SUCCEEDED, result_id="r")
    queue.save(shelf)
    assert shelf.history == ["running", "succeeded"]
    assert shelf.jobs[first.job_id].result_id == "r"


def test_steps_that_were_not_saved_in_time_are_caught_up() -> None:
    queue, shelf = JobQueue(), Shelf()
    job_id = queue.add("run", "a", {}).job_id
    moves = [
        Trigger.STARTED,
        Trigger.LOST,
        Trigger.RETRY_REQUESTED,
        Trigger.STARTED,
        Trigger.CANCEL_REQUESTED,
    ]
    for trigger in moves:
        queue.move(job_id, trigger)
        queue.save(shelf)
    queue.move(job_id, Trigger.LOST)
    queue.move(job_id, Trigger.RETRY_REQUESTED)
    queue.move(job_id, Trigger.STARTED)
    queue.move(job_id, Trigger.FAILED, error=JobError("a.b", "why"))
    queue.save(shelf)
    assert shelf.jobs[job_id].state == "failed"
    assert shelf.jobs[job_id].error == JobError("a.b", "why")
    queue.move(job_id, Trigger.RETRY_REQUESTED)
    queue.move(job_id, Trigger.STARTED)
    queue.save(shelf)
    queue.move(job_id, Trigger.LOST)
    queue.move(job_id, Trigger.RETRY_REQUESTED)
    queue.save(shelf)
    assert shelf.jobs[job_id].state == "queued"


def test_a_store_that_fails_is_asked_again() -> None:
    queue, shelf = JobQueue(), Shelf()
    job_id = queue.add("run", "a", {}).job_id
    shelf.broken = True
    with pytest.raises(BugError):
        queue.save(shelf)
    shelf.broken = False
    queue.save(shelf)
    assert job_id in shelf.jobs


def test_an_illegal_move_changes_nothing() -> None:
    queue = JobQueue()
    job_id = queue.add("run", "a", {}).job_id
    with pytest.raises(BugError):
        queue.move(job_id, Trigger.SUCCEEDED)
    assert queue.get(job_id).state == "queued"
    with pytest.raises(InputError):
        queue.get("another")


def test_an_error_survives_the_store_and_foreign_text_is_no_fault() -> None:
    error = JobError("a.b", "what", "do this", "SafetyError")
    assert error_from_json(error_to_json(error)) == error
    assert error_from_json(None) is None
    assert error_from_json("{}") is not None
