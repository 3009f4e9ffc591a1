"""The worker's loop: one task at a time, a heartbeat beside it, an ear for the order to stop.

Threads: the main thread computes, ``listener`` reads messages (the end of the stream ends the process: an
orphan has nobody to compute for), ``heart`` beats.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import queue
import sys
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import psutil

from core.domain.errors import AppError
from core.domain.progress import CancelToken, Progress
from core.jobs.messages import (
    CancelJob,
    FromWorker,
    Heartbeat,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    StopWorker,
    Task,
    WarmUp,
    WorkerReady,
)
from core.jobs.reporter import Reporter
from core.worker import lifeline
from core.worker.attached import AttachedArrays
from core.worker.channel import Channel
from core.worker.faults import final_message

LOG = logging.getLogger(__name__)


class TaskRunner(Protocol):
    """Does tasks."""

    def warm_up(self) -> None:
        """Load what every task needs."""

    def run(
        self, task: Task, arrays: AttachedArrays, progress: Progress, cancel: CancelToken
    ) -> dict[str, Any]:
        """Do a task and return the outcome, a JSON document; keep no view of ``arrays``."""


class Service:
    """Serves one supervisor until it says stop or goes away."""

    def __init__(self, channel: Channel, runner: TaskRunner, beat_s: float) -> None:
        self._channel = channel
        self._runner = runner
        self._beat_s = beat_s
        self._orders: queue.SimpleQueue[JobSubmitted | WarmUp | StopWorker] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._tokens: dict[str, CancelToken] = {}

    def serve(self) -> int:
        """Run until told to stop; the exit status."""
        for target in (self._listen, self._beat):
            threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True).start()
        self._send(WorkerReady(os.getpid()))
        while True:
            order = self._orders.get()
            if isinstance(order, StopWorker):
                return 0
            if isinstance(order, WarmUp):
                self._warm_up()
            else:
                self._do(order)

    def _do(self, order: JobSubmitted) -> None:
        job_id = order.job_id
        token = self._token(job_id)
        try:
            token.raise_if_cancelled()
            with AttachedArrays(order.task) as arrays:
                self._send(JobStarted(job_id, os.getpid()))
                outcome = self._runner.run(order.task, arrays, Reporter(job_id, self._send), token)
            last: FromWorker = JobSucceeded(job_id, outcome)
        except Exception as error:  # noqa: BLE001 - whatever a model raises becomes the job's failure
            last = final_message(job_id, error)
        self._send(last)
        with self._lock:
            self._tokens.pop(job_id, None)
        gc.collect()  # views of shared blocks in reference cycles keep the memory

    def _warm_up(self) -> None:
        """Load early what will be needed; what fails here will fail again, with its message, in the first task."""
        try:
            self._runner.warm_up()
        except Exception:
            LOG.exception("the compute libraries could not be loaded ahead")
            return
        # What is loaded now stays; without this the collection after each job would walk all of it (0.2 s).
        gc.collect()
        gc.freeze()
        self._send(WorkerReady(os.getpid(), warm=True))

    def _token(self, job_id: str) -> CancelToken:
        with self._lock:
            return self._tokens.setdefault(job_id, CancelToken())

    def _listen(self) -> None:
        try:
            while (message := self._channel.receive()) is not None:
                self._obey(message)
        except (AppError, OSError) as error:
            LOG.error("the supervisor's messages cannot be read: %s", error)
        os._exit(lifeline.PARENT_GONE)

    def _obey(self, message: object) -> None:
        if isinstance(message, CancelJob):
            self._token(message.job_id).cancel()
        elif isinstance(message, StopWorker):
            with self._lock:
                for token in self._tokens.values():
                    token.cancel()
            self._orders.put(message)
        elif isinstance(message, JobSubmitted | WarmUp):
            if isinstance(message, JobSubmitted):
                self._token(message.job_id)
            self._orders.put(message)

    def _beat(self) -> None:
        process = psutil.Process()
        pause = threading.Event()
        number = 0
        while True:
            number += 1
            self._send(Heartbeat(number, process.memory_info().rss / 2**20))
            pause.wait(self._beat_s)

    def _send(self, message: FromWorker) -> None:
        try:
            self._channel.send(message)
        except OSError:
            os._exit(lifeline.PARENT_GONE)


def main(runner: TaskRunner, argv: Sequence[str] | None = None) -> int:
    """Run the worker; the command line carries numbers only."""
    parser = argparse.ArgumentParser(prog="overread-worker", description="Started by Overread, not by hand.")
    parser.add_argument("--parent", type=int, default=0, help="process number of the supervisor")
    parser.add_argument("--beat", type=float, default=5.0, help="seconds between heartbeats")
    parser.add_argument("--nice", type=int, default=0, help="by how much to lower the priority")
    options = parser.parse_args(argv)
    lifeline.die_with_parent(options.parent)
    channel = Channel.over_standard_streams()
    faulthandler.enable(sys.stderr)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    lifeline.yield_to_others(options.nice)
    lifeline.set_thread_policy()
    status = Service(channel, runner, options.beat).serve()
    sys.stderr.flush()
    # The listener still waits for input; joining it would wait for the supervisor.
    os._exit(status)
