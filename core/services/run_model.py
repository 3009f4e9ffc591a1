"""Run a model on a series and wait for the result."""

from __future__ import annotations

from collections.abc import Mapping

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
    *,
    contrasts: Mapping[str, str] | None = None,
    text: str | None = None,
) -> ModelResult:
    """Run ``model_id`` on ``series_key`` and return the stored result.

    Parameters
    ----------
    contrasts : mapping of str to str, optional
        Of a model that takes several: input → key of the series that the reader says it is. The others are found in
        the study by their descriptions.
    text : str, optional
        The report, for a model that takes one; it is not kept.

    Raises
    ------
    SafetyError
        If the model was not made for the series, its geometry is not fit for it (``geometry.…``), or the
        written label map does not read back where it was found (``readback.…``).
    AppError
        Whatever else ended the job.
    """
    job_id = board.submit_run(model_id, series_key, device, contrasts=contrasts, text=text)
    view = wait_for(board, job_id, progress)
    return load_result(engine, view.outcome["result_id"])
