"""How scanner processes tell what they read: ``marshal`` of plain tuples and bytes, behind a length.

Only our own child writes what is read here. ``marshal`` builds numbers, bytes and containers of them; it runs nothing.
"""

from __future__ import annotations

import marshal
import struct
from pathlib import Path
from typing import IO, Any

from core.dicom.elements import Elements, PixelLocation, RawElement
from core.dicom.part10 import ParsedFile
from core.dicom.quick_reader import Like, Whole
from core.dicom.syntaxes import syntax_of
from core.domain.errors import AppError, EnvironmentFault, InputError

NOT_DICOM = 0
_LENGTH = struct.Struct("<I")
_FAULT, _LIKE, _WHOLE = 1, 2, 3


def write_batch(stream: IO[bytes], content: list[Any]) -> None:
    """Write one message to an unbuffered stream; BrokenPipeError when nobody reads."""
    body = marshal.dumps(content)
    left = memoryview(_LENGTH.pack(len(body)) + body)
    while left:
        left = left[stream.write(left) :]


def read_batch(stream: IO[bytes]) -> list[Any] | None:
    """Read one message from a buffered stream; None at its end, EOFError within a message."""
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    body = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if len(head) < _LENGTH.size or len(body) < _LENGTH.unpack(head)[0]:
        raise EOFError("the stream ended")
    return list(marshal.loads(body))


def told_fault(error: AppError) -> tuple[Any, ...]:
    """Return a refusal as it travels."""
    family = "input" if isinstance(error, InputError) else "environment"
    return (_FAULT, family, error.code, error.user_message, error.remedy)


def told(record: Like | Whole) -> tuple[Any, ...]:
    """Return a header as it travels."""
    if isinstance(record, Like):
        return (_LIKE, *record)
    parsed = record.parsed
    pixels = parsed.pixels
    where = None if pixels is None else (pixels.tag, pixels.vr, pixels.offset, pixels.length)
    return (
        _WHOLE,
        record.base,
        parsed.size,
        _plain(parsed.meta),
        _plain(parsed.elements),
        parsed.syntax.uid,
        where,
        parsed.foreign_preamble,
        parsed.stamp,
        parsed.deflated_from,
        parsed.vr_mismatch,
        parsed.begin,
    )


def heard(file: Path, answer: tuple[Any, ...]) -> Like | Whole:
    """Return the header of an answer; raises the AppError that it tells."""
    if answer[0] == _LIKE:
        return Like(*answer[1:])
    if answer[0] == _FAULT:
        _, family, code, message, remedy = answer
        raise (InputError if family == "input" else EnvironmentFault)(code, message, remedy)
    _, base, size, meta, elements, syntax, where, foreign, stamp, deflated, mismatch, begin = answer
    parsed = ParsedFile(
        file,
        size,
        _elements(meta),
        _elements(elements),
        syntax_of(syntax),
        None if where is None else PixelLocation(*where),
        foreign,
        stamp,
        deflated,
        mismatch,
        begin,
    )
    return Whole(base, parsed)


def _plain(elements: Elements) -> tuple[Any, ...]:
    raw = {
        tag: (element.vr, element.value, [_plain(item) for item in element.items])
        for tag, element in elements.raw.items()
    }
    return elements.little_endian, raw, elements.encodings


def _elements(plain: tuple[Any, ...]) -> Elements:
    little_endian, raw, encodings = plain
    kept = {
        tag: RawElement(vr, value, tuple(_elements(item) for item in items))
        for tag, (vr, value, items) in raw.items()
    }
    return Elements(little_endian, kept, encodings)
