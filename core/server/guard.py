"""Bounds of a connection that no application sees: slow or endless headers, bodies that nobody reads any more.

uvicorn bounds neither the time nor (with httptools) the size of headers.
"""

from __future__ import annotations

import asyncio
from typing import Any

from core.server.limits import Limits

_HEAD_BYTES = 64 << 10
_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Guard:
    """Goes before uvicorn's protocol: a request's headers must be complete in time and of a size."""

    head_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Give the first request its time."""
        super().connection_made(transport)  # type: ignore[misc]
        self._seen = 0
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Pass data on; outside of a request it is part of headers, or of a body after its answer."""
        me: Any = self
        before = me.cycle
        super().data_received(data)  # type: ignore[misc]
        if me.cycle is not before:
            self._unwatch()
        elif before is None or before.response_complete:
            self._seen += len(data)
            if before is None and self._seen > _HEAD_BYTES:
                self._end(_LARGE)
            elif self._timer is None:
                self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the time."""
        self._unwatch()
        super().connection_lost(error)  # type: ignore[misc]

    def _watch(self) -> None:
        me: Any = self
        self._timer = me.loop.call_later(self.head_s, self._end, _SLOW)

    def _unwatch(self) -> None:
        self._seen = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, answer: bytes) -> None:
        me: Any = self
        if not me.transport.is_closing():
            if me.cycle is None:
                me.transport.write(answer)
            me.transport.close()


def guarded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return the fastest protocol of uvicorn that is installed, guarded."""
    try:
        return type("GuardedProtocol", (_Guard, _fast()), {"head_s": limits.head_s})
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol

        return type("GuardedProtocol", (_Guard, H11Protocol), {"head_s": limits.head_s})


def _fast() -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    return HttpToolsProtocol
