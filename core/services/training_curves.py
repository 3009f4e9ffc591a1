"""The curves of a training, complete after any restart: read from the events that the training writes as it goes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from core.domain.training import CurvePoint, TrainingNote, chosen_in_words
from core.services.engine import Engine
from core.services.start_training import RUN

EVENTS_FILE = "events.jsonl"
_OF_A_STEP = ("loss", "learning_rate")


def read_curves(engine: Engine, run_id: str) -> tuple[CurvePoint, ...]:
    """Return what a training has recorded so far, oldest first; empty before it has begun."""
    points: list[CurvePoint] = []
    for event in _events(engine.paths.training / run_id / RUN / EVENTS_FILE):
        step = event.get("step")
        if not isinstance(step, int):
            continue
        if event["event"] == "step":
            values = {name: event.get(name) for name in _OF_A_STEP}
        elif event["event"] == "epoch" and isinstance(event.get("values"), dict):
            values = event["values"]
        else:
            continue
        points += [
            CurvePoint(name, step, float(value)) for name, value in values.items() if _is_number(value)
        ]
    return tuple(points)


def read_notes(engine: Engine, run_id: str) -> tuple[TrainingNote, ...]:
    """Return what a training chose or met, oldest first."""
    return tuple(
        TrainingNote(
            str(event.get("code", event["event"])),
            chosen_in_words(event) if event["event"] == "chosen" else str(event.get("message", "")),
            str(event.get("time_utc", "")),
        )
        for event in _events(engine.paths.training / run_id / RUN / EVENTS_FILE)
        if event["event"] in ("note", "chosen")
    )


def _events(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file; a last line that is just being written is left for the next time."""
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict) and isinstance(document.get("event"), str):
            yield document


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
