"""Model replicas on a Ray cluster, behind the same application.

Requests come in as ever: the gate, the limits and the endpoints are those of one machine. In place of model processes
there is a Serve deployment whose replicas lie wherever the cluster has room; they get the bundle with the
deployment and images with the requests, so no machine needs our files. Ray's own HTTP server stays off: it would
buffer a body before anybody could refuse it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from core.bundles.bundle import Bundle
from core.domain.errors import EnvironmentFault
from core.server.faults import BUSY, HttpFault, busy
from core.server.item import Answer, Item, PoolState
from core.server.limits import Limits
from core.server.links import ModelSettings

if TYPE_CHECKING:
    from core.server.answering import Answerer

LOG = logging.getLogger(__name__)
_NAME = "overread"
_ATTEMPTS = 2
_OBJECT_STORE_BYTES = 128 << 20
_FAREWELL_S = 3.0
Asked = tuple[dict[str, Any], bytes]


class ModelReplica:
    """One model on one worker of the cluster.

    Parameters
    ----------
    files : dict
        The bundle: name → bytes.
    """

    def __init__(self, files: dict[str, bytes], device: str, threads: int, limits: Limits) -> None:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = str(threads)
        # torch is loaded after the number of its threads is known
        import torch

        from core.bundles.bundle import read_bundle
        from core.server.answering import Answerer

        torch.set_num_threads(threads)
        self._folder = tempfile.TemporaryDirectory(prefix="overread-replica-")
        root = Path(self._folder.name)
        for name, data in files.items():
            (root / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "bundle" / name).write_bytes(data)
        (root / "temp").mkdir()
        self._answerer: Answerer = Answerer(
            read_bundle(root / "bundle"), device, limits, root / "probes", root / "temp"
        )

    def facts(self) -> dict[str, str]:
        """Return where it computes, and with what."""
        return {"device": self._answerer.device, "engine": self._answerer.engine}

    async def answer(self, asked: Sequence[Asked]) -> list[tuple[int, bytes, int, float]]:
        """Answer questions that arrived together, without blocking the replica's event loop."""
        return await asyncio.to_thread(self._answered, asked)

    def _answered(self, asked: Sequence[Asked]) -> list[tuple[int, bytes, int, float]]:
        prepared = [self._answerer.prepare(Item.from_frame(*one)) for one in asked]
        return [
            (one.status, one.body, one.batch, one.milliseconds) for one in self._answerer.answer(prepared)
        ]


class RayPredictor:
    """A predictor whose models are replicas of a cluster.

    Parameters
    ----------
    address : str
        ``local`` for a cluster of this machine's own, else that of a running one.
    replicas : int
        How many models run at a time.
    """

    def __init__(self, bundle: Bundle, settings: ModelSettings, address: str, replicas: int) -> None:
        self._bundle, self._settings, self._address, self._replicas = bundle, settings, address, replicas
        self._handle: Any = None
        self._facts = {"device": settings.devices[0], "engine": ""}
        self._failed = ""
        self._open = 0
        self._ready = asyncio.Event()
        self._deploying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to deploy."""
        self._deploying = asyncio.create_task(self._deploy())

    async def stop(self) -> None:
        """Take the deployment down; a cluster of our own ends with it."""
        if self._deploying is not None:
            await asyncio.gather(self._deploying, return_exceptions=True)
        await asyncio.to_thread(_leave, self._address)

    async def predict(self, item: Item) -> Answer:
        """Ask a replica; once more when it was lost."""
        await self._wait()
        if self._open >= self._settings.limits.queue * self._replicas:
            raise busy("server.queue_full", f"{self._open} images wait already.")
        # a replica may be on another machine: images travel with the question
        carried = replace(item, uploads=[replace(one, data=one.content(), file=None) for one in item.uploads])
        document, pieces = carried.to_frame(0)
        self._open += 1
        try:
            return await self._asked((document, b"".join(pieces)))
        finally:
            self._open -= 1

    async def _asked(self, question: Asked) -> Answer:
        import ray

        for attempt in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(self._settings.limits.answer_s):
                    return Answer(*await self._handle.ask.remote(question))
            except TimeoutError:
                raise busy("server.no_answer", "The model gave no answer in time.", 10.0) from None
            except ray.exceptions.RayError as error:
                LOG.info("a replica was lost with a question open (%s, %d)", type(error).__name__, attempt)
        raise busy("server.model_lost", "The model's replica ended while it worked on this image.", 5.0)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._settings.limits.start_s):
                await self._ready.wait()
        except TimeoutError:
            raise busy("server.not_ready", "The model is still being deployed.", 5.0) from None
        if self._failed:
            error = EnvironmentFault("server.not_ready", self._failed, "Ask who runs this server.")
            raise HttpFault(BUSY, error, 30.0)

    def state(self) -> PoolState:
        """Return how the deployment is."""
        ready = self._replicas if self._handle is not None else 0
        return PoolState(ready, self._replicas, self._facts["device"], self._open, 0, {}, self._failed)

    async def _deploy(self) -> None:
        # Ray takes the signals that end this process, and would end it without ending its cluster
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            handle = await asyncio.to_thread(
                _deployed, self._bundle, self._settings, self._address, self._replicas
            )
            self._facts = await handle.facts.remote()
            self._handle = handle
        except EnvironmentFault as error:
            self._failed = error.user_message
            LOG.error("the model can't be deployed: %s", error.user_message)
        except Exception as error:  # noqa: BLE001 - whatever a cluster raises is told in the answers
            self._failed = f"The cluster refused the deployment ({type(error).__name__})."
            LOG.error("the model can't be deployed: %s", type(error).__name__)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._ready.set()


def _deployed(bundle: Bundle, settings: ModelSettings, address: str, replicas: int) -> Any:
    """Connect and deploy; the handle of the replicas."""
    ray, serve = _connected(address)
    del ray

    class Replica(ModelReplica):
        """The deployment: questions that arrive together are answered together."""

        @serve.batch(max_batch_size=settings.batch, batch_wait_timeout_s=settings.patience_ms / 1000)
        async def ask(self, asked: list[Asked]) -> list[tuple[int, bytes, int, float]]:
            return await self.answer(asked)

    kind = settings.devices[0].partition(":")[0]
    resources = {"num_cpus": max(1, settings.threads), "num_gpus": 1 if kind == "cuda" else 0}
    deployment = serve.deployment(
        Replica,
        name=_NAME,
        num_replicas=replicas,
        max_ongoing_requests=4 * settings.batch,
        ray_actor_options=resources,
    )
    names = set(bundle.source.names())
    files = {name: bundle.source.read(name) for name in names}
    bound = deployment.bind(files, kind, max(1, settings.threads), settings.limits)
    return serve.run(bound, name=_NAME, route_prefix=None)


def _connected(address: str) -> tuple[Any, Any]:
    """Return ``ray`` and ``ray.serve``, connected.

    Raises
    ------
    EnvironmentFault
        ``cluster.no_ray``, ``cluster.none``.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        from ray import serve
        from ray.serve.config import ProxyLocation
    except ImportError as error:
        raise EnvironmentFault(
            "cluster.no_ray", "Ray isn't installed.", "Install overread[cluster], here and on every machine."
        ) from error
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        quiet |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, namespace=_NAME, **quiet)
    except ConnectionError as error:
        raise EnvironmentFault(
            "cluster.none",
            f"No Ray cluster answers at “{address}”.",
            "Start one with “ray start --head”, or give --address local.",
        ) from error
    serve.start(proxy_location=ProxyLocation.Disabled, logging_config={"log_level": "ERROR"})
    return ray, serve


def _leave(address: str) -> None:
    """Take the deployment down. Of a cluster of our own nothing stays: its agents outlive it by a minute."""
    import ray
    from ray import serve

    if not ray.is_initialized():
        return
    if address != "local":
        serve.delete(_NAME)
        ray.shutdown()
        return
    serve.shutdown()
    family = psutil.Process().children(recursive=True)
    ray.shutdown()
    _, alive = psutil.wait_procs(family, timeout=_FAREWELL_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
