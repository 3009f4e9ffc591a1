"""Run a model on its own reference input and wait for the verdict."""

from __future__ import annotations

from typing import Any

from core.domain.progress import Progress, no_progress
from core.services.engine import Engine
from core.services.job_board import JobBoard
from core.services.job_waiting import wait_for


def selftest_model(
    engine: Engine,
    board: JobBoard,
    model_id: str,
    device: str = "auto",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Return the report of a self-test; ``passed`` says whether the model answers as its maker saw it.

    Raises
    ------
    AppError
        Whatever ended the job, also a bundle without a reference.
    """
    del engine
    return wait_for(board, board.submit_selftest(model_id, device), progress).outcome
