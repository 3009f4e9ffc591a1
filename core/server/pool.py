"""All model processes: which one answers, who waits, who is asked again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import Protocol

import psutil

from core.domain.errors import EnvironmentFault
from core.server.faults import BUSY, HttpFault, busy
from core.server.item import Answer, Item, PoolState
from core.server.links import LinkLost, ModelLink, ModelSettings

LOG = logging.getLogger(__name__)
_ATTEMPTS = 2


class Predictor(Protocol):
    """Something that answers items: processes of this machine, or replicas of a cluster."""

    async def start(self) -> None:
        """Begin to load; returns at once."""

    async def stop(self) -> None:
        """End everything that was started."""

    async def predict(self, item: Item) -> Answer:
        """Return the answer; raises ``HttpFault`` when there is none."""

    def state(self) -> PoolState:
        """Return how things are."""


class ModelPool:
    """One model process per device. A question is repeated once when its process dies; it changes nothing.

    Repeated questions go one after the other: one of them may be what the process died of, and then no other is lost
    with it a second time.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._limits = settings.limits
        self._suspects = asyncio.Lock()
        self._links = [ModelLink(settings, device) for device in settings.devices]

    async def start(self) -> None:
        """Start the processes; they load while the server listens already."""
        for link in self._links:
            link.start()

    async def stop(self) -> None:
        """End the processes."""
        await asyncio.gather(*(link.stop() for link in self._links))

    async def predict(self, item: Item) -> Answer:
        """Ask the process with the least to do.

        Raises
        ------
        HttpFault
            503 ``server.queue_full``, ``server.not_ready``, ``server.model_lost``, ``server.no_answer``.
        """
        for attempt in range(_ATTEMPTS):
            try:
                async with self._suspects if attempt else nullcontext():
                    link = await self._chosen()
                    return await link.ask(item)
            except LinkLost:
                LOG.info("a model process ended with a question open (attempt %d)", attempt + 1)
            except TimeoutError:
                raise busy("server.no_answer", "The model gave no answer in time.", 10.0) from None
        raise busy("server.model_lost", "The model's process ended while it worked on this image.", 5.0)

    def state(self) -> PoolState:
        """Return how the processes are."""
        ready = [link for link in self._links if link.ready.is_set()]
        memory = {"web": float(psutil.Process().memory_info().rss)}
        memory |= {f"model-{n}": float(link.memory_bytes()) for n, link in enumerate(self._links)}
        return PoolState(
            len(ready),
            len(self._links),
            ",".join(link.device for link in ready or self._links),
            sum(link.load for link in self._links),
            sum(max(0, link.restarts) for link in self._links),
            memory,
            next((link.failed for link in self._links if link.failed), ""),
        )

    async def _chosen(self) -> ModelLink:
        ready = [link for link in self._links if link.ready.is_set()]
        if not ready:
            await self._wait_for_one()
            ready = [link for link in self._links if link.ready.is_set()]
        best = min(ready or self._links, key=lambda link: link.load)
        if best.load >= self._limits.queue:
            raise busy("server.queue_full", f"{best.load} images wait already.")
        return best

    async def _wait_for_one(self) -> None:
        """Wait for a process that is being started; also after one has died."""
        failed = next((link.failed for link in self._links if link.failed), "")
        if failed:
            raise HttpFault(
                BUSY, EnvironmentFault("server.not_ready", failed, "Ask who runs this server."), 30.0
            )
        waiters = [asyncio.create_task(link.ready.wait()) for link in self._links]
        try:
            async with asyncio.timeout(self._limits.start_s):
                await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise busy("server.not_ready", "The model is still being loaded.", 5.0) from None
        finally:
            for waiter in waiters:
                waiter.cancel()
