"""Explain a class of a result and wait for the heat map."""

from __future__ import annotations

from core.domain.errors import BugError
from core.domain.explanation import Explanation
from core.domain.progress import Progress, no_progress
from core.services.engine import Engine
from core.services.job_board import JobBoard
from core.services.job_waiting import wait_for
from core.services.results import load_explanations


def explain(
    engine: Engine,
    board: JobBoard,
    result_id: str,
    method: str,
    class_label: str = "",
    layer: str = "",
    device: str = "auto",
    progress: Progress = no_progress,
) -> Explanation:
    """Explain ``class_label`` of a result by ``method`` and return the stored heat map.

    Raises
    ------
    SafetyError
        If the result's model or series are no longer what they were.
    AppError
        Whatever else ended the job.
    """
    job_id = board.submit_explain(result_id, method, class_label, layer, device=device)
    outcome = wait_for(board, job_id, progress).outcome
    for explanation in reversed(load_explanations(engine, result_id)):
        wanted = (outcome["method"], outcome["class_label"], outcome["layer"])
        if (explanation.method, explanation.class_label, explanation.layer) == wanted:
            return explanation
    raise BugError("explain.not_found", "The heat map was stored but is not found.", "Report this.")
