"""A training that rests for reading says that it is paused when the reader pauses it."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from core.jobs.messages import JobPaused, PauseJob
from core.worker.trainer import TrainingService
from core.worker.training_tasks import TrainingRunner


@pytest.mark.parametrize(("reads", "said"), [(True, [JobPaused("j1", "reader")]), (False, [])])
def test_a_pause_is_said_at_once_only_by_one_that_rests_already(reads: bool, said: list[JobPaused]) -> None:
    runner, sent = TrainingRunner(), []
    service = TrainingService(MagicMock(), runner, 5.0)
    service._send = sent.append  # type: ignore[method-assign]
    runner.job_id = "j1"
    if reads:
        runner.pause.yield_for(60.0)
    service._obey(PauseJob("j1"))
    assert sent == said and runner.pause.held_by == "reader"
