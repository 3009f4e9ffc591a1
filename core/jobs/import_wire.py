"""What the window and its import process say to each other.

Wire format: a length (4 bytes, unsigned, big-endian), then one JSON object whose ``"say"`` names the kind::

    parent: {"say": "run", "home", "actor", "paths", "mode", "password"}   {"say": "cancel"}
    child:  {"say": "ready"}   {"say": "progress", "phase", "fraction"}    {"say": "series", "series"}
            {"say": "skipped", "files"}   {"say": "study", "study"}        {"say": "done", …counts}
            {"say": "failed", "family", "code", "message", "remedy"}

These messages hold paths and descriptions: they travel through pipes only, never over a command line or a log.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from core.domain.errors import AppError, BugError, EnvironmentFault, InputError, SafetyError
from core.domain.progress import Cancelled
from core.domain.study import ObjectKind, SeriesKind, SeriesSummary, SkippedFile, StudySummary
from core.domain.volume import SeriesIssue

MAX_FRAME_BYTES = 8 << 20
SKIPPED_AT_ONCE = 200
_LENGTH = struct.Struct(">I")
_FAMILIES: dict[str, type[AppError]] = {
    "input": InputError,
    "environment": EnvironmentFault,
    "safety": SafetyError,
    "bug": BugError,
}

Document = dict[str, Any]


def frame(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of one message. Paths with undecodable bytes survive (surrogates are escaped)."""
    body = json.dumps(document, separators=(",", ":")).encode("ascii")
    return _LENGTH.pack(len(body)) + body


def read_document(read: Callable[[int], bytes]) -> Document | None:
    """Read one message; None at the end of the stream.

    Raises
    ------
    ValueError
        If what comes is no message, or the stream ends within one.
    """
    head = read(_LENGTH.size)
    if not head:
        return None
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    if not 0 < length <= MAX_FRAME_BYTES:
        raise ValueError("no message")
    body = read(length)
    if len(body) != length:
        raise ValueError("the stream ended within a message")
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("say"), str):
        raise ValueError("no message")
    return document


def told_series(series: SeriesSummary) -> Document:
    """Return a series as JSON takes it."""
    return asdict(series)


def heard_series(told: Mapping[str, Any]) -> SeriesSummary:
    """Return the series of a message; TypeError, ValueError or KeyError when it is none."""
    values = dict(told)
    values["kind"] = SeriesKind(values["kind"])
    values["object_kind"] = ObjectKind(values["object_kind"])
    values["issues"] = tuple(SeriesIssue(**issue) for issue in values["issues"])
    for name in ("shape_kji", "spacing_kji_mm"):
        values[name] = tuple(values[name]) if values[name] else None
    values["source_series"] = tuple(values["source_series"])
    return SeriesSummary(**values)


def told_study(study: StudySummary) -> Document:
    """Return a study as JSON takes it."""
    return asdict(study)


def heard_study(told: Mapping[str, Any]) -> StudySummary:
    """Return the study of a message; raises as ``heard_series``."""
    values = dict(told)
    values["modalities"] = tuple(values["modalities"])
    values["tags"] = tuple(values["tags"])
    values["series"] = tuple(heard_series(series) for series in values["series"])
    return StudySummary(**values)


def told_skipped(skipped: SkippedFile) -> list[str]:
    """Return a skipped file as JSON takes it."""
    return [skipped.file, skipped.code, skipped.message]


def told_error(error: BaseException) -> Document:
    """Return the message of a failure; of errors that aren't ours only the type is told."""
    if not isinstance(error, AppError):
        error = BugError(
            "import.failed", f"The import failed ({type(error).__name__}).", "Report this with the log."
        )
    family = next((name for name, kind in _FAMILIES.items() if isinstance(error, kind)), "bug")
    if isinstance(error, Cancelled):
        family = "cancelled"
    return {
        "say": "failed",
        "family": family,
        "code": error.code,
        "message": error.user_message,
        "remedy": error.remedy,
    }


def heard_error(told: Mapping[str, Any]) -> AppError:
    """Return the error of a ``failed`` message."""
    if told.get("family") == "cancelled":
        return Cancelled()
    kind = _FAMILIES.get(str(told.get("family")), BugError)
    return kind(str(told.get("code")), str(told.get("message")), str(told.get("remedy")))
