"""Logging to a rotating file that never holds identity.

What our own loggers say is written, with paths outside the home and texts of foreign exceptions taken out. Libraries
put values of elements into their messages (pydicom warns with the bad value, pynetdicom logs identifiers at INFO), so
of foreign loggers only the fact, the place and the level are kept, from ERROR upwards. Tracebacks name types, files
and lines, never the text of a foreign exception.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import logging.handlers
import os
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from core.config.paths import Paths
from core.domain.errors import AppError

OWN_PACKAGES = ("app", "core", "models", "overread")
WITHHELD = "message withheld: it may hold identity"
MAX_BYTES = 2_000_000
BACKUPS = 4
_HANDLER_NAME = "overread-file"

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class PhiFilter(logging.Filter):
    """Drops what foreign loggers say below ERROR."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        return is_ours(record.name) or record.levelno >= logging.ERROR


class LineFormatter(logging.Formatter):
    """One JSON object per line, free of what may identify somebody.

    Time (UTC), level, logger, process, place, message, and the places of a traceback.

    Parameters
    ----------
    home : pathlib.Path
        Paths below it are ours and may be named.
    """

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = home

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "at": f"{record.module}:{record.lineno}",
            "message": self._message(record) if is_ours(record.name) else WITHHELD,
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = told(record.exc_info[1])
            line["trace"] = places(record.exc_info)
        return json.dumps(line, ensure_ascii=False)

    def _message(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, BaseException):
            return told(record.msg)
        text = str(record.msg)
        if isinstance(record.args, tuple) and record.args:
            return text % tuple(self._harmless(argument) for argument in record.args)
        if isinstance(record.args, dict) and record.args:
            return text % {key: self._harmless(value) for key, value in record.args.items()}
        return text

    def _harmless(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            return told(value)
        if isinstance(value, os.PathLike):
            path = Path(value)
            return f"<home>/{path.relative_to(self._home)}" if path.is_relative_to(self._home) else "<a file>"
        return value


def configure_logging(paths: Paths, *, level: int = logging.INFO, name: str = "overread") -> logging.Handler:
    """Send all logging of this process to ``logs/<name>.log``, and crashes of C code to ``logs/<name>.crash``.

    Called again, the former handler is replaced. Warnings of libraries go through the same filter.

    Parameters
    ----------
    name : str
        Each kind of process writes its own file (``overread``, ``worker``), since rotation isn't shared.

    Returns
    -------
    logging.Handler
        The handler, for ``stop_logging``.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() == _HANDLER_NAME]:
        stop_logging(handler)
    handler = logging.handlers.RotatingFileHandler(
        paths.logs / f"{name}.log", maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8", delay=True
    )
    handler.set_name(_HANDLER_NAME)
    handler.addFilter(PhiFilter())
    handler.setFormatter(LineFormatter(paths.root))
    handler.setLevel(level)
    root.addHandler(handler)
    if root.level > level or root.level == logging.NOTSET:
        root.setLevel(level)
    logging.captureWarnings(True)
    return handler


def stop_logging(handler: logging.Handler) -> None:
    """Undo ``configure_logging``."""
    logging.getLogger().removeHandler(handler)
    logging.captureWarnings(False)
    handler.close()


def enable_crash_file(paths: Paths, name: str = "overread") -> Path:
    """Let a crash in C code write the Python frames (files and lines only) to ``logs/<name>.crash``."""
    path = paths.logs / f"{name}.crash"
    # The file stays open for the life of the process: the handler of a crash can't open one.
    stream = path.open("a", encoding="utf-8")
    faulthandler.enable(stream)
    return path


def quiet_library_warnings() -> None:
    """Keep warnings of libraries, whose texts hold element values, off the terminal."""
    warnings.filterwarnings("ignore", module=r"(pydicom|pynetdicom|highdicom|nibabel)(\..*)?")


def is_ours(logger_name: str) -> bool:
    """Whether a logger belongs to this program, whose messages are written with care."""
    return logger_name.split(".", 1)[0] in OWN_PACKAGES


def told(error: BaseException) -> str:
    """Return what may be written of an error: all of ours, of others the type alone."""
    if isinstance(error, AppError):
        return f"{type(error).__name__} {error.code}: {error.user_message}"
    return type(error).__name__


def places(exc_info: ExcInfo) -> list[str]:
    """Return ``file:line function`` of each frame, the outermost first; no source lines, no values."""
    frames = traceback.extract_tb(exc_info[2])
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
