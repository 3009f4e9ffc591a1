"""Frames between the web process and a model process.

Wire format: two lengths (4 bytes each, unsigned, big-endian), a JSON document of the first length, bytes of the
second. Pictures travel as they were uploaded, answers as the JSON that the client gets; neither is parsed on the way.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

from core.domain.errors import BugError

HEAD = struct.Struct(">II")
MAX_DOCUMENT_BYTES = 4 << 20
MAX_PAYLOAD_BYTES = 1 << 30
Frame = tuple[dict[str, Any], bytes]


def pack(document: dict[str, Any], payload: Sequence[bytes] = ()) -> bytes:
    """Return a frame."""
    text = json.dumps(document, separators=(",", ":")).encode()
    return b"".join((HEAD.pack(len(text), sum(map(len, payload))), text, *payload))


async def read_frame(stream: asyncio.StreamReader) -> Frame | None:
    """Read a frame; None when the other side has gone, also in the middle of one.

    Raises
    ------
    BugError
        ``server.frame``: the stream is not one of frames.
    """
    try:
        head = await stream.readexactly(HEAD.size)
        text, payload = _lengths(head)
        return json.loads(await stream.readexactly(text)), await stream.readexactly(payload)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def read_frame_blocking(stream: BinaryIO) -> Frame | None:
    """Read a frame from a buffered stream; see ``read_frame``."""
    head = stream.read(HEAD.size)
    if len(head) != HEAD.size:
        return None
    text, payload = _lengths(head)
    document, data = stream.read(text), stream.read(payload)
    if len(document) != text or len(data) != payload:
        return None
    return json.loads(document), data


def _lengths(head: bytes) -> tuple[int, int]:
    text, payload = HEAD.unpack(head)
    if text > MAX_DOCUMENT_BYTES or payload > MAX_PAYLOAD_BYTES:
        raise BugError("server.frame", f"A frame announces {text} and {payload} bytes.", "Report this.")
    return int(text), int(payload)
