"""What every request passes before the application sees it, and every answer on its way out.

A plain ASGI middleware: host, size of the headers, token, rate, announced and streamed size, number of requests at a
time; security headers; errors as JSON; counting. Nothing of a request but its route's name is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.domain.errors import InputError
from core.server.faults import (
    BAD_REQUEST,
    BUG,
    HEADERS_TOO_LARGE,
    TOO_LARGE,
    TOO_MANY,
    UNAUTHORIZED,
    HttpFault,
    body_of,
    busy,
    headers_of,
    refused,
    translated,
)
from core.server.limits import Limits
from core.server.metrics import Metrics
from core.server.rate import RateLimit
from core.server.tokens import Tokens

LOG = logging.getLogger(__name__)
ROUTES = ("/health", "/predict", "/predict/batch", "/model/info", "/metrics")
DOCS = ("/docs", "/openapi.json", "/docs/oauth2-redirect")
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
_CLIENT_GONE = 499
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
_CLOSED = [(b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
_TLS = [(b"strict-transport-security", b"max-age=31536000")]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class GateSettings:
    """Who may ask, and how much.

    Attributes
    ----------
    tokens : Tokens
        Of everything but ``/health`` (and the documentation where it is on).
    hosts : sequence of str
        Names in ``Host`` that are meant for us; ``"*"`` for all.
    docs, tls : bool
        Whether the documentation is on; whether we are reached by TLS.
    """

    tokens: Tokens
    hosts: Sequence[str]
    limits: Limits = field(default_factory=Limits)
    docs: bool = False
    tls: bool = False


class Gate:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: GateSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        limits = settings.limits
        self._rate = RateLimit(limits.rate_per_s, limits.burst)
        self._strangers = RateLimit(limits.refused_per_s, max(10.0, 4 * limits.refused_per_s))
        self._hosts = frozenset(host.lower().encode() for host in settings.hosts)
        self.open_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        passage = _Passage(self._settings, scope, receive, send)
        started = time.perf_counter()
        self.open_requests += 1
        try:
            await self._pass(scope, passage)
        finally:
            self.open_requests -= 1
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.request(passage.route, method, passage.status, time.perf_counter() - started)

    async def _pass(self, scope: Scope, passage: _Passage) -> None:
        try:
            self._check(scope, passage)
            await self._app(scope, passage.receive, passage.send)
        except ClientDisconnect:
            passage.status = _CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the last line of defence: translated, logged by place
            fault = translated(error)
            if fault.status == BUG:
                LOG.error("%s", fault.error.user_message)
            await passage.refuse(fault)

    def _check(self, scope: Scope, passage: _Passage) -> None:
        """Refuse what must not get further; the cheapest and most telling checks first."""
        limits = self._settings.limits
        headers: Headers = scope["headers"]
        if (
            sum(len(name) + len(value) for name, value in headers)
            + len(scope.get("raw_path") or b"")
            + len(scope["query_string"])
            > limits.header_bytes
        ):
            raise refused(
                HEADERS_TOO_LARGE, "request.headers", f"Headers may have {limits.header_bytes} bytes."
            )
        self._check_host(headers)
        self._check_token(scope, passage, headers)
        for value in values_of(headers, b"content-length"):
            if not value.isdigit():
                raise refused(BAD_REQUEST, "request.content_length", "Content-Length isn't a number.")
            if int(value[:20]) > limits.upload_bytes:
                raise too_large(limits.upload_bytes)
        if self.open_requests > limits.concurrent and scope["method"] == "POST":
            raise busy("server.busy", f"{limits.concurrent} requests are being answered already.")

    def _check_host(self, headers: Headers) -> None:
        hosts = list(values_of(headers, b"host"))
        if len(hosts) != 1 or (b"*" not in self._hosts and without_port(hosts[0]).lower() not in self._hosts):
            raise refused(
                BAD_REQUEST, "request.host", "This server isn't known by that name.", "See --trusted-host."
            )

    def _check_token(self, scope: Scope, passage: _Passage, headers: Headers) -> None:
        if passage.route == "/health" or (self._settings.docs and scope["path"] in DOCS):
            return
        given = list(values_of(headers, b"authorization"))
        owner = self._settings.tokens.owner(given[0]) if len(given) == 1 else None
        if owner is None:
            address = scope["client"][0] if scope.get("client") else ""
            self._check_rate(self._strangers, address)
            raise refused(
                UNAUTHORIZED,
                "request.token",
                "This needs a valid token.",
                "Send it as Authorization: Bearer …",
            )
        self._check_rate(self._rate, owner)

    @staticmethod
    def _check_rate(rate: RateLimit, key: str) -> None:
        wait_s = rate.take(key)
        if wait_s > 0:
            error = InputError("request.rate", "Too many requests.", "Ask less often.")
            raise HttpFault(TOO_MANY, error, wait_s)


class _Passage:
    """One request's way through: counts what comes in, adds to what goes out."""

    def __init__(self, settings: GateSettings, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.route = path if path in ROUTES or (settings.docs and path in DOCS) else "other"
        self.status = BUG
        self._settings, self._receive, self._send = settings, receive, send
        self._received = 0
        self._begun = False
        # a body of an acceptable announced size is read to its end and dropped; any other ends the connection
        announced = next(iter(values_of(scope["headers"], b"content-length")), b"")
        few = announced.isdigit() and int(announced[:20]) <= settings.limits.upload_bytes
        self._whole = few or scope["method"] in ("GET", "HEAD")

    async def receive(self) -> Message:
        """Pass on a piece of the body unless there is too much of it."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._whole |= not message.get("more_body", False)
            if self._received > self._settings.limits.upload_bytes:
                raise too_large(self._settings.limits.upload_bytes)
        return message

    async def send(self, message: Message) -> None:
        """Pass on an answer with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            extra = [
                *_ALWAYS,
                *([] if self.route in DOCS else _CLOSED),
                *(_TLS if self._settings.tls else []),
            ]
            if not self._whole:
                # who was refused in the middle of a body is not listened to any longer
                extra.append((b"connection", b"close"))
            message["headers"] = [*message.get("headers", []), *extra]
        await self._send(message)

    async def refuse(self, fault: HttpFault) -> None:
        """Answer with an error; nothing once an answer has begun."""
        if self._begun:
            return
        body = body_of(fault.error)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in headers_of(fault).items()]
        await self.send({"type": "http.response.start", "status": fault.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def too_large(limit: int) -> HttpFault:
    """Return the refusal of a body beyond the limit."""
    return refused(
        TOO_LARGE, "upload.too_large", f"A request may have {limit} bytes.", "Send less at a time."
    )


def values_of(headers: Headers, name: bytes) -> Iterable[bytes]:
    """Yield the values of a header."""
    return (value for key, value in headers if key == name)


def without_port(host: bytes) -> bytes:
    """Return the name in a Host header: ``[::1]:8000`` → ``[::1]``."""
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0]
