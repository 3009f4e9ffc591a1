"""Reading before the models' answers are seen: when the pictures were first looked at, when the answers were."""

from __future__ import annotations

from core.domain.audit import AuditCode
from core.services.engine import Engine


def note_first_look(engine: Engine, series_key: str) -> None:
    """Record that a series is being read while the models' results for it are hidden; once per process."""
    if engine.once(f"first-look/{series_key}"):
        engine.record(
            AuditCode.READ_FIRST,
            action="R",
            object_kind="series",
            object_ref=series_key,
            detail={"state": "first look"},
        )


def note_reveal(engine: Engine, series_key: str, seconds: float) -> None:
    """Record that the reader asked for what the models found, and how long after the first look.

    Parameters
    ----------
    seconds : float
        Time since the series was first shown, in seconds.

    Raises
    ------
    AppError
        If it can't be written; the results then stay hidden.
    """
    engine.record(
        AuditCode.READ_FIRST,
        action="R",
        object_kind="series",
        object_ref=series_key,
        detail={"state": "revealed", "seconds": round(max(seconds, 0.0), 1)},
    )
