"""Night hours: when a training that waits for the night may run, by the clock of the computer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time

from core.domain.training import TrainingRun


def may_run(run: TrainingRun, now: datetime) -> bool:
    """Whether a training may run at ``now`` (local time)."""
    return run.settings.get("start") != "night" or in_window(now.time(), *window_of(run.settings))


def window_of(settings: Mapping[str, object]) -> tuple[time, time]:
    """Return begin and end of the night hours of a training's settings."""
    return (
        time.fromisoformat(str(settings.get("night_from", "22:00"))),
        time.fromisoformat(str(settings.get("night_to", "06:00"))),
    )


def in_window(at: time, begin: time, end: time) -> bool:
    """Whether a time of day lies within a window that may pass midnight; equal ends are the whole day."""
    if begin == end:
        return True
    if begin < end:
        return begin <= at < end
    return at >= begin or at < end
