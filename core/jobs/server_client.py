"""Asks a model server: who it is, how it is, and what its model says of an image.

Torch-free; bytes in, checked documents out. The network library is loaded with the first question.

A name is resolved once and the connection goes to an address that was checked, so that no later answer of the name
service leads elsewhere. Redirects are never followed, proxies and passwords of the environment never used. What comes
back is bounded before it is read.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from core.domain.errors import AppError, EnvironmentFault
from core.domain.progress import Cancelled, CancelToken
from core.jobs import server_refusals as refusals
from core.jobs.served import Health, ModelInfo, Prediction
from core.jobs.server_address import Address, ServerAddress, check_reachable

if TYPE_CHECKING:
    import httpx

FILE_NAME = "image.nii.gz"
"""What every file is called; its own name could name a patient."""
_MB = 1 << 20
_POLL_S = 0.05
_TOO_MANY, _BUSY = 429, 503
Answer = TypeVar("Answer", bound=BaseModel)
Done = TypeVar("Done")
Sent = Callable[[float], None]


@dataclass(frozen=True)
class Patience:
    """Limits of the client.

    Attributes
    ----------
    connect_s, short_s, stall_s : float
        Seconds to connect, for a short answer, and between two pieces of an upload.
    answer_s : float
        Seconds for the answer of a model, waiting in the server's queue included.
    busy_s, again_s : float
        How long a busy server is asked again, and the longest pause between.
    info_bytes : int
        Largest description of a model (its card is part of it).
    """

    connect_s: float = 5.0
    short_s: float = 10.0
    stall_s: float = 30.0
    answer_s: float = 660.0
    busy_s: float = 60.0
    again_s: float = 10.0
    info_bytes: int = 8 * _MB


@dataclass(frozen=True, eq=False)
class Question:
    """What a model is asked.

    Attributes
    ----------
    files : mapping of str to bytes
        Form field (``file`` or ``contrast.NAME``) → NIfTI.
    text : str or None
        The report.
    label_map : bool
        Whether the label map is wanted.
    answer_bytes : int
        How large the answer may be.
    """

    files: Mapping[str, bytes]
    text: str | None = None
    label_map: bool = True
    answer_bytes: int = 64 * _MB


class ServerClient:
    """One server; methods block and may be called from any thread but the GUI's.

    Raises
    ------
    AppError
        Every method: ``engine.…`` with a remedy, or the server's own refusal in its words.
    """

    def __init__(self, address: ServerAddress, patience: Patience | None = None) -> None:
        self._address = address
        self._patience = patience or Patience()

    def health(self) -> Health:
        """Return how the server is, also while it loads its model."""
        status, body = _run(self._ask("GET", "/health", _MB, self._patience.short_s))
        if status not in (200, _BUSY):
            raise refusals.refused(self._address.name, status, body)
        return self._parsed(Health, body)

    def model_info(self) -> ModelInfo:
        """Return what the server's model says of itself; needs the token."""
        limit, seconds = self._patience.info_bytes, self._patience.short_s
        status, body = _run(self._ask("GET", "/model/info", limit, seconds))
        if status != 200:
            raise refusals.refused(self._address.name, status, body)
        return self._parsed(ModelInfo, body)

    def predict(
        self, question: Question, cancel: CancelToken | None = None, sent: Sent | None = None
    ) -> Prediction:
        """Send the images and return the answer; a busy server is asked again for a while.

        Parameters
        ----------
        cancel : CancelToken, optional
            Ends the connection within a fraction of a second.
        sent : callable, optional
            Told which share of the files has left.

        Raises
        ------
        Cancelled
            When ``cancel`` was set.
        """
        until_s = time.monotonic() + self._patience.busy_s
        while True:
            headers: dict[str, str] = {}
            work = self._ask(
                "POST",
                "/predict",
                question.answer_bytes,
                self._patience.answer_s,
                form=lambda: _form(question, sent),
                kept=headers,
            )
            status, body = _run(work, cancel)
            if status == 200:
                return self._parsed(Prediction, body)
            pause_s = refusals.pause_of(headers.get("retry-after", ""), self._patience.again_s)
            if status not in (_TOO_MANY, _BUSY) or time.monotonic() + pause_s > until_s:
                raise refusals.refused(self._address.name, status, body)
            _run(_pause(pause_s), cancel)

    def _parsed(self, kind: type[Answer], body: bytes) -> Answer:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])[:60] or "the document"
            raise refusals.not_understood(self._address.name, where) from None

    async def _ask(
        self,
        method: str,
        path: str,
        limit: int,
        seconds: float,
        form: Callable[[], dict[str, Any]] | None = None,
        kept: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body; the addresses of a name are tried in turn until one connects."""
        import httpx

        try:
            context = self._trust()
            last: Exception | None = None
            for found in await self._resolved():
                try:
                    return await self._send(found, context, method, path, limit, seconds, form, kept)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    last = error
            raise last or socket.gaierror()
        except AppError:
            raise
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            httpx.StreamError,
            TimeoutError,
            OSError,
            ValueError,
        ) as error:
            raise refusals.translated(self._address.name, error) from None

    async def _send(
        self,
        found: Address,
        context: ssl.SSLContext | bool,
        method: str,
        path: str,
        limit: int,
        seconds: float,
        form: Callable[[], dict[str, Any]] | None,
        kept: dict[str, str] | None,
    ) -> tuple[int, bytes]:
        import httpx

        address, patience = self._address, self._patience
        host = f"[{found}]" if found.version == 6 else str(found)
        headers = {"host": address.netloc, "user-agent": "Overread", "accept-encoding": "identity"}
        if address.token:
            headers["authorization"] = f"Bearer {address.token}"
        timeout = httpx.Timeout(patience.stall_s, connect=patience.connect_s, read=seconds)
        async with (
            httpx.AsyncClient(
                verify=context, trust_env=False, follow_redirects=False, timeout=timeout
            ) as client,
            client.stream(
                method,
                f"{address.scheme}://{host}:{address.port}{path}",
                headers=headers,
                extensions={"sni_hostname": address.host},
                **(form() if form is not None else {}),
            ) as response,
        ):
            if response.is_redirect or 300 <= response.status_code < 400:
                raise refusals.redirect(address.name)
            if kept is not None:
                kept.update({key.lower(): value for key, value in response.headers.items()})
            return response.status_code, await _bounded(response, limit, address.name)

    def _trust(self) -> ssl.SSLContext | bool:
        """Return what certificates are held against; those of this computer, or the authority that was named."""
        address = self._address
        if address.scheme == "http":
            return False
        try:
            context = ssl.create_default_context(cafile=address.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise refusals.bad_ca_file(address.name) from error
        if not address.ca_file and not context.cert_store_stats()["x509_ca"]:
            # a frozen program may not find the authorities of this computer
            import certifi

            context.load_verify_locations(certifi.where())
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def _resolved(self) -> list[Address]:
        """Return the addresses of the host after all were checked."""
        import asyncio

        address = self._address
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            raise refusals.unknown_host(address.name, address.host) from None
        # a zone ("%eth0") belongs to link-local addresses only, which are refused
        found = list(dict.fromkeys(ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in answers))
        check_reachable(address, found)
        return found


async def _bounded(response: httpx.Response, limit: int, name: str) -> bytes:
    """Read a body up to its limit."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise refusals.not_understood(name, "its packing")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > limit:
            raise refusals.too_much(name, limit)
    return bytes(body)


def _form(question: Question, sent: Sent | None) -> dict[str, Any]:
    """Return the form as httpx takes it. The streams are made anew for each attempt."""
    meter = _Meter(sum(map(len, question.files.values())), sent)
    files = {
        field: (FILE_NAME, _Counted(data, meter), "application/octet-stream")
        for field, data in question.files.items()
    }
    fields = {"return_label_map": "true" if question.label_map else "false"}
    if question.text:
        fields["report"] = question.text
    return {"files": files, "data": fields}


class _Meter:
    """Adds up what has left."""

    def __init__(self, total: int, sent: Sent | None) -> None:
        self._total, self._sent, self._left = max(1, total), sent, 0

    def add(self, count: int) -> None:
        self._left += count
        if self._sent is not None:
            self._sent(min(1.0, self._left / self._total))


class _Counted(BytesIO):
    """Bytes that tell when they are taken."""

    def __init__(self, data: bytes, meter: _Meter) -> None:
        super().__init__(data)
        self._meter = meter

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._meter.add(len(piece))
        return piece


async def _pause(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


def _run(work: Coroutine[Any, Any, Done], cancel: CancelToken | None = None) -> Done:
    """Run a coroutine in this thread; ``cancel`` ends it and what it holds open."""
    import asyncio

    async def watched() -> Done:
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait({task}, timeout=None if cancel is None else _POLL_S)
            if cancel is not None and cancel.is_cancelled and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise Cancelled
        return task.result()

    return asyncio.run(watched())


def label_map_bytes(prediction: Prediction, name: str) -> bytes | None:
    """Return the label map's file as it was sent, None when there is none.

    Raises
    ------
    EnvironmentFault
        When it can't be decoded.
    """
    if prediction.label_map_nifti is None:
        return None
    try:
        return base64.b64decode(prediction.label_map_nifti, validate=True)
    except (binascii.Error, ValueError):
        fault: EnvironmentFault = refusals.not_understood(name, "its label map")
        raise fault from None
