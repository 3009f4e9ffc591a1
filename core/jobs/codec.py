"""Messages as bytes: a length, then one JSON document.

Wire format
-----------
``length`` (4 bytes, unsigned, big-endian) followed by that many bytes of UTF-8 JSON::

    {"v": 1, "t": "JobProgress", "d": {"job_id": "...", "phase": "...", "fraction": 0.5, "eta_seconds": null}}

``v`` is ``messages.VERSION``, ``t`` the name of the dataclass, ``d`` its fields; a task inside a message
is ``{"t": ..., "d": ...}`` again. Decoding is strict: an unknown type or field, a missing field, a value
of another type, a number that is not finite, another version or an oversized frame is refused. Nothing is
ever executed or looked up by name outside the table below.
"""

from __future__ import annotations

import json
import math
import struct
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

from core.domain.errors import BugError, SafetyError
from core.jobs import messages as m

MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Largest accepted document. The largest real one (an outcome of some hundred segments) has about 100 kB."""

_LENGTH = struct.Struct(">I")
_TASKS: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(m.Task)}
_MESSAGES: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(m.Message)}


def encode(message: m.Message) -> bytes:
    """Return the frame of a message.

    Raises
    ------
    BugError
        If the message is none of ``core.jobs.messages``, holds a value that JSON has no word for (a number
        that is not finite, an array, a path), or is larger than ``MAX_FRAME_BYTES``.
    """
    name = type(message).__name__
    if _MESSAGES.get(name) is not type(message):
        raise _bug("unknown_type", f"{name} is not a message.")
    try:
        document = {"v": m.VERSION, "t": name, "d": _plain(message)}
        body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _bug("not_encodable", f"A field of {name} cannot travel as JSON ({error}).") from error
    if len(body) > MAX_FRAME_BYTES:
        raise _bug("too_large", f"{name} has {len(body)} bytes; a message may have {MAX_FRAME_BYTES}.")
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> m.Message:
    """Return the message of one JSON document (the frame without its length).

    Raises
    ------
    SafetyError
        If the document speaks another version of the protocol (``jobs.version``).
    BugError
        If it is not a message of that version.
    """
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bug(
            "not_json", f"A message of {len(body)} bytes is not JSON ({type(error).__name__})."
        ) from error
    if not isinstance(document, dict) or set(document) != {"v", "t", "d"}:
        raise _bug("not_a_message", "A document without version, type and fields arrived.")
    if document["v"] != m.VERSION:
        raise SafetyError(
            "jobs.version",
            f"The worker speaks version {document['v']!r} of the protocol, the application {m.VERSION}.",
            "Install the application and its worker from the same release.",
        )
    return typing.cast(m.Message, _tagged(_MESSAGES, document["t"], document["d"], "message"))


def read_message(read: Callable[[int], bytes]) -> m.Message | None:
    """Read one message; None at the end of the stream.

    Parameters
    ----------
    read : callable
        ``read(n)`` returns n bytes, fewer only at the end of the stream (a buffered reader's ``read``).

    Raises
    ------
    SafetyError
        If the announced length exceeds ``MAX_FRAME_BYTES`` (``jobs.oversize``): the stream is corrupt.
    BugError
        If the stream ends inside a message (``jobs.truncated``), or see ``decode``.
    """
    head = read(_LENGTH.size)
    if not head:
        return None
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
    if length > MAX_FRAME_BYTES:
        raise SafetyError(
            "jobs.oversize",
            f"A message announces {length} bytes; {MAX_FRAME_BYTES} are allowed. The stream is corrupt.",
            "Run the job again.",
        )
    body = read(length) if length > 0 else b""
    if length < 0 or len(body) != length:
        raise _bug("truncated", "The stream ended inside a message.")
    return decode(body)


def task_to_json(task: m.Task) -> dict[str, Any]:
    """Return a task as a JSON document, as it travels inside ``JobSubmitted``."""
    return typing.cast(dict[str, Any], _plain_task(task))


def _plain(value: object) -> object:
    """Return dataclasses and tuples as dictionaries and lists, everything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        if type(value).__name__ in _TASKS:
            return _plain_task(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key is not a string")
        return {key: _plain(item) for key, item in value.items()}
    return value


def _plain_task(task: Any) -> object:
    return {"t": type(task).__name__, "d": {f.name: _plain(getattr(task, f.name)) for f in fields(task)}}


def _tagged(table: dict[str, type], name: object, values: object, what: str) -> object:
    cls = table.get(name) if isinstance(name, str) else None
    if cls is None:
        raise _bug("unknown_type", f"{name!r} is no {what} of version {m.VERSION}.")
    return _dataclass(cls, values)


def _dataclass(cls: type, values: object) -> object:
    if not isinstance(values, dict):
        raise _bug("bad_field", f"{cls.__name__} needs named fields.")
    known = {field.name: field for field in fields(cls)}
    if unknown := sorted(set(values) - set(known)):
        raise _bug("unknown_field", f"{cls.__name__} has no field {', '.join(unknown)}.")
    needed = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if missing := sorted(needed - set(values)):
        raise _bug("missing_field", f"{cls.__name__} came without {', '.join(missing)}.")
    hints = _hints(cls)
    return cls(**{n: _value(hints[n], v, f"{cls.__name__}.{n}") for n, v in values.items()})


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, vars(m))


def _value(hint: Any, value: object, where: str) -> object:
    """Check a JSON value against a type hint and return it as the type that the hint names."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(hint, value, where)
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, where)
    if origin is dict and isinstance(value, dict):
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint, value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise _bug("bad_field", f"{where} has a value of type {type(value).__name__}.")


def _union(hint: Any, value: object, where: str) -> object:
    options = typing.get_args(hint)
    if hint == m.Task:
        if not isinstance(value, dict) or set(value) != {"t", "d"}:
            raise _bug("bad_field", f"{where} is no task.")
        return _tagged(_TASKS, value["t"], value["d"], "task")
    if value is None and type(None) in options:
        return None
    return _value(next(o for o in options if o is not type(None)), value, where)


def _tuple(options: tuple[Any, ...], value: object, where: str) -> object:
    if not isinstance(value, list):
        raise _bug("bad_field", f"{where} is no list.")
    if len(options) == 2 and options[1] is Ellipsis:
        return tuple(_value(options[0], item, where) for item in value)
    if len(value) != len(options):
        raise _bug("bad_field", f"{where} has {len(value)} entries instead of {len(options)}.")
    return tuple(_value(option, item, where) for option, item in zip(options, value, strict=True))


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _bug("bad_field", f"{where} is not a finite number.")
    return number


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _bug(code: str, message: str) -> BugError:
    return BugError(f"jobs.{code}", message, "Report this with the log of the application.")
