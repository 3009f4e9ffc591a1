"""Stands between client and model server on loopback: keeps what was sent, and may change what comes back.

Also answers by itself where a test needs a server that misbehaves.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Reply:
    """An answer: status, body, further headers. ``announced`` is a Content-Length that differs from the body."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None


Answering = Callable[[str, str, bytes], Reply]


@dataclass
class Recorded:
    """Where the server is and everything that it was sent: request lines, headers and bodies."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def everything(self) -> bytes:
        """All bytes that were sent."""
        return b"".join(self.requests)


class _Server(ThreadingHTTPServer):
    """Says nothing of connections that break off."""

    def handle_error(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def serving(answering: Answering, context: ssl.SSLContext | None = None) -> Iterator[Recorded]:
    """Serve with a function of method, path and body; encrypted with a context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def _answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = (
                self._chunked()
                if "chunked" in self.headers.get("transfer-encoding", "")
                else self.rfile.read(length)
            )
            recorded.requests.append(self.requestline.encode() + bytes(self.headers) + body)
            recorded.paths.append(self.path)
            self.close_connection = True
            try:
                reply = answering(self.command, self.path, body)
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(reply.announced or len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)
            except OSError:
                return

        def _chunked(self) -> bytes:
            body = bytearray()
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return bytes(body)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server asks for

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    recorded = Recorded(f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield recorded
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def passed_on(url: str, token: str) -> Answering:
    """Answer with what the server at ``url`` answers."""
    target = urlsplit(url)

    def answer(method: str, path: str, body: bytes) -> Reply:
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        headers = {"Authorization": f"Bearer {token}"}
        if body:
            boundary = body.partition(b"\r\n")[0].removeprefix(b"--").decode()
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        found = Reply(response.status, response.read())
        connection.close()
        return found

    return answer
