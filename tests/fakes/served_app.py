"""The server's application over a predictor of our making, and forms for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from core.bundles.bundle import Bundle, read_bundle
from core.config.resources import shipped_bundles_dir
from core.server.app import ServerSettings, create_app
from core.server.gate import GateSettings
from core.server.item import Answer, Item, PoolState
from core.server.limits import Limits
from core.server.tokens import Tokens

TOKEN = "test-token-of-more-than-32-characters-0123"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
PREDICTED = {
    "prediction": "CXR",
    "confidence": 0.75,
    "probabilities": {"CXR": 0.75, "Hand": 0.25},
    "inference_time_ms": 4.5,
    "model_version": "v1.0.0",
}


class FakePredictor:
    """Answers at once and remembers what it was asked."""

    def __init__(self, answer: Callable[[Item], Awaitable[Answer]] | None = None, ready: int = 1) -> None:
        self.items: list[Item] = []
        self.ready = ready
        self._answer = answer

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def predict(self, item: Item) -> Answer:
        """Answer what every item gets."""
        self.items.append(item)
        if self._answer is not None:
            return await self._answer(item)
        return Answer(200, json.dumps(PREDICTED).encode(), 2, 4.5)

    def state(self) -> PoolState:
        """One process on the CPU."""
        return PoolState(self.ready, 1, "cpu", 0, 0, {"web": 1.0})


def mednist() -> Bundle:
    """Return the shipped picture classifier."""
    return read_bundle(shipped_bundles_dir() / "mednist")


def app_over(
    predictor: Any,
    folder: Path,
    *,
    limits: Limits | None = None,
    hosts: Sequence[str] = ("testserver",),
    docs: bool = False,
) -> Any:
    """Return the application with its gate."""
    gate = GateSettings(Tokens([TOKEN]), hosts, limits or Limits(), docs=docs)
    return create_app(ServerSettings(mednist(), gate, folder), predictor)


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    """Send one request through the application, with the token unless headers are given."""
    options.setdefault("headers", AUTHORIZED)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def png(value: int = 120, size: tuple[int, int] = (48, 40)) -> bytes:
    """Return a grey picture with a brighter square."""
    pixels = np.full(size, value, np.uint8)
    pixels[10:20, 8:16] = min(255, value + 60)
    with BytesIO() as stream:
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()
