"""Multipart bodies, parsed as they arrive and never held whole.

Every bound is checked before the byte that would break it is kept. Names and types that the sender states for files
are not looked at; what exceeds the memory of a request goes to a file with a name of ours, which its owner removes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from core.config.temp import work_folder
from core.server.faults import BAD_REQUEST, TIMED_OUT, TOO_LARGE, UNSUPPORTED, refused
from core.server.item import Upload
from core.server.kinds import HEAD_BYTES, kind_of
from core.server.limits import Limits

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
_MAX_PART_HEADERS = 8
_MAX_BOUNDARY = 256


@dataclass(eq=False)
class Part:
    """A part of a body: its field's name, whether it is a file, its bytes in memory or on disk."""

    name: str
    is_file: bool
    data: bytearray = field(default_factory=bytearray)
    file: Path | None = None
    size: int = 0
    head: bytes = b""

    def upload(self, contrast: str = "") -> Upload:
        """Return the part as an upload; raises ``HttpFault`` 415 for a kind that isn't taken."""
        kind = kind_of(self.head if self.file is not None else bytes(self.data[:HEAD_BYTES]))
        return Upload(kind, bytes(self.data) if self.file is None else None, self.file, contrast)

    def text(self) -> str:
        """Return a field's text; raises ``HttpFault`` 400 when it isn't UTF-8."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            raise refused(
                BAD_REQUEST, "upload.text", "A form field isn't UTF-8 text.", "Send UTF-8."
            ) from None


class Spool:
    """A folder below ``temp`` for the files of one request, made when the first is needed, removed at the end."""

    def __init__(self, temp: Path) -> None:
        self._temp = temp
        self._made = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> Spool:
        """Begin; nothing is made yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was made."""
        self._made.close()

    def new_file(self) -> Path:
        """Return a path that nothing lies at."""
        if self._folder is None:
            self._folder = self._made.enter_context(work_folder(self._temp, "upload"))
        return self._folder / secrets.token_hex(8)


class FormReader:
    """Reads one body.

    Parameters
    ----------
    spool : Spool
        Gives the files for what exceeds the memory of a request.
    """

    def __init__(self, content_type: str | None, limits: Limits, spool: Spool) -> None:
        self._limits, self._spool = limits, spool
        self.parts: list[Part] = []
        self._ended = False
        self._in_memory = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition = b""
        self._header_bytes = 0
        self._stream: IO[bytes] | None = None
        self._parser = MultipartParser(
            boundary_of(content_type),
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_header_field": self._field_of_header,
                "on_header_value": self._value_of_header,
                "on_header_end": self._end_of_header,
                "on_headers_finished": self._headers_finished,
                "on_end": self._finish,
            },
            max_header_count=_MAX_PART_HEADERS,
            max_header_size=limits.header_bytes,
        )

    async def read(self, stream: AsyncIterator[bytes]) -> list[Part]:
        """Read the body and return its parts in order.

        Raises
        ------
        HttpFault
            400 for a body that isn't multipart or ends early, 408 when it stalls, 413 for what is too much.
        """
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    async with asyncio.timeout(self._limits.idle_s):
                        piece = await anext(stream, None)
                    if piece is None:
                        break
                    self._parser.write(piece)
        except TimeoutError:
            raise refused(
                TIMED_OUT, "upload.slow", "The body arrived too slowly.", "Send it again."
            ) from None
        except FormParserError:
            raise malformed() from None
        finally:
            self._close()
        if not self._ended:
            raise malformed()
        return self.parts

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _begin(self) -> None:
        self._disposition, self._header_bytes = b"", 0

    def _field_of_header(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _value_of_header(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > self._limits.header_bytes:
            raise refused(TOO_LARGE, "upload.part_headers", "The headers of a part are too large.")

    def _end_of_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if kind != b"form-data" or not name:
            raise malformed()
        part = Part(name[:128].decode("utf-8", "replace"), b"filename" in options)
        self.parts.append(part)
        files = sum(one.is_file for one in self.parts)
        if files > self._limits.files:
            raise refused(
                TOO_LARGE,
                "upload.files",
                f"A request may have {self._limits.files} files.",
                "Send several requests.",
            )
        if len(self.parts) - files > self._limits.fields:
            raise refused(TOO_LARGE, "upload.fields", f"A request may have {self._limits.fields} fields.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.size += end - start
        if not part.is_file and part.size > self._limits.field_bytes:
            raise refused(TOO_LARGE, "upload.field", f"A field may have {self._limits.field_bytes} bytes.")
        if (
            part.file is None
            and self._in_memory + end - start > self._limits.in_memory_bytes
            and part.is_file
        ):
            self._to_disk(part)
        if part.file is not None:
            assert self._stream is not None
            self._stream.write(data[start:end])
        else:
            part.data += data[start:end]
            self._in_memory += end - start
        if len(part.head) < HEAD_BYTES and part.file is not None:
            part.head = (part.head + data[start:end])[:HEAD_BYTES]

    def _to_disk(self, part: Part) -> None:
        part.file = self._spool.new_file()
        part.head = bytes(part.data[:HEAD_BYTES])
        self._stream = part.file.open("xb", buffering=0)
        self._stream.write(part.data)
        self._in_memory -= len(part.data)
        part.data = bytearray()

    def _end(self) -> None:
        self._close()

    def _finish(self) -> None:
        self._ended = True


def boundary_of(content_type: str | None) -> bytes:
    """Return the boundary of a multipart body; raises ``HttpFault`` 415 or 400."""
    kind, options = parse_options_header(content_type or "")
    if kind != b"multipart/form-data":
        raise refused(
            UNSUPPORTED,
            "upload.content_type",
            "The body isn't multipart/form-data.",
            "Send a form with a file.",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        raise malformed()
    return boundary


def malformed() -> Exception:
    """Return the refusal of a body that can't be taken apart."""
    return refused(
        BAD_REQUEST,
        "upload.malformed",
        "The body isn't a complete multipart form.",
        "Send it as a form with a file.",
    )
