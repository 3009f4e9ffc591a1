"""Messages between the program and its decoder processes: two lengths, a JSON document, raw bytes."""

from __future__ import annotations

import struct
from typing import IO

_HEAD = struct.Struct("<IQ")
MAX_DOCUMENT_BYTES = 1 << 16


def write_message(stream: IO[bytes], document: bytes, data: bytes | memoryview) -> None:
    """Write one message to an unbuffered stream; BrokenPipeError when nobody reads."""
    for part in (memoryview(_HEAD.pack(len(document), len(data)) + document), memoryview(data)):
        done = 0
        while done < len(part):
            done += stream.write(part[done:])


def read_head(stream: IO[bytes]) -> tuple[bytes, int] | None:
    """Return the next message's document and how many bytes follow it; None at the end of the stream.

    Raises
    ------
    EOFError
        When the stream ends within the message, or what comes is no message.
    """
    first = stream.read(1)
    if not first:
        return None
    length, count = _HEAD.unpack(first + bytes(read_exactly(stream, _HEAD.size - 1)))
    if length > MAX_DOCUMENT_BYTES:
        raise EOFError("no message")
    return bytes(read_exactly(stream, length)), count


def read_exactly(stream: IO[bytes], count: int) -> bytearray:
    """Return ``count`` bytes; EOFError when the stream ends before."""
    data = bytearray(count)
    read_into(stream, memoryview(data))
    return data


def read_into(stream: IO[bytes], target: memoryview) -> None:
    """Fill ``target`` (bytes) from an unbuffered stream; EOFError when the stream ends before."""
    done = 0
    while done < len(target):
        got = stream.readinto(target[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError("the stream ended")
        done += got
