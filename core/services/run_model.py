"""Run a model on a series and wait for the result."""

from __future__ import annotations

from core.domain.progress import Progress, no_progress
from core.domain.result import ModelResult
from core.services.engine import Engine
from core.services.job_board import JobBoard
from core.services.job_waiting import wait_for
from core.services.results import load_result


def run_model(
    engine: Engine,
    board: JobBoard,
    model_id: str,
    series_key: str,
    device: str = "auto",
    progress: Progress = no_progress,
) -> ModelResult:
    """Run ``model_id`` on ``series_key`` and return the stored result.

    Raises
    ------
    SafetyError
        If the model was not made for the series, its geometry is not fit for it (``geometry.…``), or the
        written label map does not read back where it was found (``readback.…``).
    AppError
        Whatever else ended the job.
    """
    view = wait_for(board, board.submit_run(model_id, series_key, device), progress)
    return load_result(engine, view.outcome["result_id"])
