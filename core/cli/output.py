"""How commands answer: one JSON document or a few lines, errors with their remedy, exit status."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from core.domain.errors import AppError, BugError

EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, EXIT_BUG = 0, 1, 2, 3


def plain(value: Any) -> Any:
    """Turn dataclasses, paths, enums, arrays' scalars and non-finite numbers into JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence | set | frozenset):
        return [plain(v) for v in value]
    raise BugError(
        "cli.unprintable", f"A value of type {type(value).__name__} can't be printed.", "Report this."
    )


def print_json(document: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(plain(document), ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write a message for a person to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def answer(document: Any, as_json: bool, lines: Callable[[], Sequence[str]]) -> None:
    """Print the document as JSON, or the lines for a person."""
    if as_json:
        print_json(document)
    else:
        for line in lines():
            sys.stdout.write(line + "\n")


def refuse(error: AppError, as_json: bool) -> int:
    """Print an error with its remedy and return the exit status of its family."""
    if as_json:
        print_json({"error": error.as_dict()})
    tell(f"overread: {error.user_message}" + (f"\n  {error.remedy}" if error.remedy else ""))
    return EXIT_BUG if isinstance(error, BugError) else EXIT_REFUSED


class TerminalProgress:
    """Progress on standard error: one rewritten line on a terminal, a line per phase elsewhere."""

    def __init__(self) -> None:
        self._phase = ""
        self._last = 0.0
        self._terminal = sys.stderr.isatty()

    def __call__(self, phase: str, fraction: float) -> None:
        """Show phase and percentage, at most five times a second."""
        now = time.monotonic()
        if self._terminal:
            if phase == self._phase and now - self._last < 0.2 and fraction < 1.0:
                return
            sys.stderr.write(f"\r\x1b[K{phase} {100 * fraction:3.0f} %")
            if fraction >= 1.0:
                sys.stderr.write("\n")
            sys.stderr.flush()
        elif phase != self._phase:
            tell(f"{phase} …")
        self._phase, self._last = phase, now
