"""Whatever a computation raises, as the message that the window shows."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import psutil

from core.domain.errors import AppError, BugError, EnvironmentFault
from core.domain.progress import Cancelled
from core.jobs.messages import JobCancelled, JobFailed

LOG = logging.getLogger(__name__)
_AI_LIBRARIES = ("torch", "onnxruntime", "captum", "safetensors")
_NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "failed to allocate")


def final_message(job_id: str, error: Exception) -> JobFailed | JobCancelled:
    """Translate an exception. The message names the kind of the error and the place, never its text.

    The text of a foreign exception may quote values; it goes to the log of the worker, which knows no identity.
    """
    if isinstance(error, Cancelled):
        return JobCancelled(job_id)
    known = error if isinstance(error, AppError) else _translated(error)
    family = next(cls for cls in type(known).__mro__ if cls.__module__ == AppError.__module__)
    return JobFailed(job_id, known.code, known.user_message, known.remedy, family.__name__)


def _translated(error: Exception) -> AppError:
    LOG.error("a task failed:\n%s", "".join(traceback.format_exception(error)))
    if isinstance(error, ModuleNotFoundError) and _root_of(error) in _AI_LIBRARIES:
        return EnvironmentFault(
            "jobs.not_installed",
            f"This installation shows images only: {_root_of(error)}, which runs models, is not installed.",
            "Install it with pip install 'overread[ai]'.",
        )
    if _is_out_of_memory(error):
        free_gb = psutil.virtual_memory().available / 2**30
        return EnvironmentFault(
            "jobs.out_of_memory",
            f"There was not enough memory for the model; {free_gb:.1f} GB are available now.",
            "Close other programs, or choose another device, and run it again.",
        )
    return BugError(
        "jobs.bug",
        f"The model stopped with {type(error).__name__} at {_place(error)}.",
        "Report this with the log of the application.",
    )


def _root_of(error: ModuleNotFoundError) -> str:
    return (error.name or "").partition(".")[0]


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)
    )


def _place(error: Exception) -> str:
    """Return ``module:line`` of the innermost frame of ours, else of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    ours = [frame for frame in frames if {"core", "models"} & set(Path(frame.filename).parts)]
    frame = (ours or list(frames))[-1]
    return f"{Path(frame.filename).stem}:{frame.lineno}"
