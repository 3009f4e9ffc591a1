"""Numbers for Prometheus, in a registry of the application's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from core.server.item import PoolState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts requests, answers and processes; routes are labels, never paths as they were sent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "overread_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "overread_request_seconds",
            "Seconds from the headers to the end of the answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "overread_batch_size",
            "Images that the network saw together, once per image.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self._inference = Histogram(
            "overread_inference_seconds",
            "Seconds of reading, preparing and computing per image.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._open = Gauge(
            "overread_requests_open", "Requests being received or answered.", registry=self.registry
        )
        self._queue = Gauge(
            "overread_queue_depth", "Images waiting for or in a model.", registry=self.registry
        )
        self._ready = Gauge(
            "overread_models_ready", "Model processes that are ready.", registry=self.registry
        )
        self._restarts = Gauge(
            "overread_model_restarts",
            "Model processes started again since the start.",
            registry=self.registry,
        )
        self._memory = Gauge(
            "overread_resident_memory_bytes", "Resident memory.", ("process",), registry=self.registry
        )

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def image(self, batch: int, milliseconds: float) -> None:
        """Count an answered image."""
        self._batch.observe(batch)
        self._inference.observe(milliseconds / 1000)

    def page(self, state: PoolState, open_requests: int) -> bytes:
        """Return the page that Prometheus reads."""
        self._open.set(open_requests)
        self._queue.set(state.waiting)
        self._ready.set(state.ready)
        self._restarts.set(state.restarts)
        for name, count in state.memory_bytes.items():
            self._memory.labels(name).set(count)
        return generate_latest(self.registry)
