"""What happens in a training, as JSON lines: written always, by one process, readable while it runs."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.config.atomic import atomic_write_bytes

EVENTS_FILE = "events.jsonl"
# What belongs to a step of the optimisation and comes again when the step is repeated.
_STEPWISE = {"step", "epoch", "checkpoint", "evaluated", "done", "cancelled", "failed", "sample"}
Listener = Callable[[dict[str, Any]], None]


class EventLog:
    """Appends one JSON document per event and passes it on. Thread-safe.

    Parameters
    ----------
    path : pathlib.Path or None
        ``events.jsonl``; None writes nothing (processes of a distributed training other than the first).
    listener : callable, optional
        Gets each document, in the thread that emits it.
    """

    def __init__(self, path: Path | None, listener: Listener | None = None) -> None:
        self.path = path
        self._listeners: list[Listener] = [listener] if listener is not None and path is not None else []
        self._stream = None
        self._lock = threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab")

    def emit(self, event: str, **fields: Any) -> None:
        """Write an event; numbers that are not finite become null."""
        if self._stream is None:
            return
        document = {"event": event, "time_utc": datetime.now(UTC).isoformat(timespec="milliseconds")}
        document |= {key: _finite(value) for key, value in fields.items()}
        line = json.dumps(document, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()
        for listener in self._listeners:
            listener(document)

    def listen(self, listener: Listener) -> None:
        """Pass every later event on to this one too."""
        if self.path is not None:
            self._listeners.append(listener)

    def note(self, code: str, message: str) -> None:
        """Write that something was done otherwise than planned."""
        self.emit("note", code=code, message=message)

    def pass_on(self, document: Mapping[str, Any]) -> None:
        """Write an event that another part made (``{"event": "hardware", …}``)."""
        self.emit(str(document["event"]), **{k: v for k, v in document.items() if k != "event"})

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return 0 if self._stream is None else self._stream.tell()

    def rewind(self, offset: int) -> None:
        """Forget the steps after ``offset`` (they come again) and a line that a crash cut; notes stay."""
        if self._stream is None or self.path is None:
            return
        self._stream.close()
        data = self.path.read_bytes()
        later = b"".join(
            json.dumps(document, ensure_ascii=False).encode() + b"\n"
            for document in _documents(data[offset:])
            if document.get("event") not in _STEPWISE
        )
        atomic_write_bytes(self.path, data[:offset] + later)
        self._stream = self.path.open("ab")

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the documents of an ``events.jsonl``; a line that is being written is left out."""
    return list(_documents(path.read_bytes())) if path.is_file() else []


def _documents(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            yield document


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
