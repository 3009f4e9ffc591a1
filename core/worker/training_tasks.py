"""What the training worker does with its tasks: train by a recipe, compare two bundles on the test cases."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psutil

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.digest import bundle_digest
from core.bundles.manifest import MANIFEST_FILE
from core.bundles.writer import sign_bundle
from core.config.atomic import atomic_path
from core.config.sealed_file import mounted
from core.domain.errors import BugError, EnvironmentFault
from core.domain.progress import CancelToken, Progress
from core.domain.training import chosen_in_words
from core.jobs.messages import CompareTask, Event, JobMetric, JobNote, JobPaused, JobResumed, Task, TrainTask
from core.worker.attached import AttachedArrays
from core.worker.dispatch import as_json
from core.worker.reading_pause import ReadingPause

LOG = logging.getLogger(__name__)
_BEGIN, _END = 0.05, 0.85
"""Where the bar stands when the optimisation begins and when it ends: the engine counts each of its phases anew."""
_LOSS_EVERY_S = 0.2
_MEMORY_EVERY_S = 1.0
Listener = Callable[[dict[str, Any]], None]


class Train(Protocol):
    """``core.compute.training.run.train_recipe``, as far as it is used here."""

    def __call__(
        self,
        recipe: Any,
        *,
        data: Path | None,
        out: Path,
        resume: bool,
        device: str,
        progress: Progress,
        cancel: CancelToken | None,
        pause: ReadingPause | None,
        on_event: Listener | None,
        initial: Bundle | None,
    ) -> dict[str, Any]:
        """Train and return the run's outcome with the path of its ``bundle``."""


class Compare(Protocol):
    """``core.worker.comparing.compare_bundles``, as far as it is used here."""

    def __call__(
        self, task: CompareTask, *, progress: Progress, cancel: CancelToken, pause: ReadingPause
    ) -> dict[str, Any]:
        """Return the comparison as a JSON document."""


class TrainingRunner:
    """Does the tasks of the training worker.

    Parameters
    ----------
    train, compare : callable or None
        Other functions than the engine's; tests give them.
    """

    def __init__(self, train: Train | None = None, compare: Compare | None = None) -> None:
        self._train = train
        self._compare = compare
        self.send: Callable[[Event], None] = _nobody
        self.pause = ReadingPause()
        self.job_id = ""

    def warm_up(self) -> None:
        """Load the training libraries, unless others stand in for them."""
        if self._train is None:
            import core.compute.training.run  # noqa: F401

    def run(
        self,
        task: Task,
        arrays: AttachedArrays,  # noqa: ARG002
        progress: Progress,
        cancel: CancelToken,
    ) -> dict[str, Any]:
        """Do a task and return its outcome.

        Raises
        ------
        BugError
            For a task of another worker (``jobs.unknown_task``).
        """
        if isinstance(task, TrainTask):
            with mounted(Path(task.sealed_folder), bytes.fromhex(task.sealed_key)):
                return self._do_train(task, progress, cancel)
        if isinstance(task, CompareTask):
            with mounted(Path(task.sealed_folder), bytes.fromhex(task.sealed_key)):
                return as_json(self._comparer()(task, progress=progress, cancel=cancel, pause=self.pause))
        raise BugError("jobs.unknown_task", f"The training worker can't do a {type(task).__name__}.")

    def _do_train(self, task: TrainTask, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        from core.recipes.load import parse_recipe

        folder = Path(task.folder)
        base = read_bundle(Path(task.base_path))
        limit = _MemoryLimit(task.max_memory_mb)
        limit_graphics_memory(task.device, task.max_memory_mb)
        listener = _Listener(self.job_id, self.send, self.pause, limit)

        def told(phase: str, fraction: float) -> None:
            limit.look()
            progress(phase, overall(phase, fraction))

        outcome = self._trainer()(
            parse_recipe(json.loads(task.recipe)),
            data=folder / "cases",
            out=folder / "run",
            resume=task.resume,
            device=task.device,
            progress=told,
            cancel=cancel,
            pause=self.pause,
            on_event=listener,
            initial=base,
        )
        cancel.raise_if_cancelled()
        candidate = as_successor(Path(str(outcome["bundle"])), base)
        return as_json(
            {
                "bundle": str(candidate.path),
                "version": candidate.manifest.version,
                "bundle_sha256": bundle_digest(candidate),
                "epochs": outcome.get("epochs", 0),
                "seconds": outcome.get("seconds", 0.0),
            }
        )

    def _trainer(self) -> Train:
        if self._train is not None:
            return self._train
        from core.compute.training.run import train_recipe

        return train_recipe

    def _comparer(self) -> Compare:
        if self._compare is not None:
            return self._compare
        from core.worker.comparing import compare_bundles

        return compare_bundles


def _nobody(event: Event) -> None:
    """Stand in until the worker can send."""
    del event


class _Listener:
    """Turns the engine's events into messages."""

    def __init__(
        self, job_id: str, send: Callable[[Event], None], pause: ReadingPause, limit: _MemoryLimit
    ) -> None:
        self._job_id, self._send, self._pause, self._limit = job_id, send, pause, limit
        self._sent_s = -math.inf

    def __call__(self, document: dict[str, Any]) -> None:
        event = document.get("event")
        if event == "step":
            self._limit.look()
            self._step(document)
        elif event == "epoch":
            for name, value in document.get("values", {}).items():
                self._metric(name, value, int(document.get("step", 0)))
            self._metric("epoch", int(document.get("epoch", 0)) + 1, int(document.get("step", 0)))
        elif event == "chosen":
            self._send(JobNote(self._job_id, "chosen", chosen_in_words(document)))
        elif event == "note":
            self._send(JobNote(self._job_id, str(document["code"]), str(document["message"])))
        elif event == "paused":
            self._send(JobPaused(self._job_id, self._pause.held_by or "reader"))
        elif event == "resumed":
            self._send(JobResumed(self._job_id))

    def _step(self, document: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._sent_s < _LOSS_EVERY_S:
            return
        self._sent_s = now
        for name in ("loss", "learning_rate"):
            self._metric(name, document.get(name), int(document.get("step", 0)))

    def _metric(self, name: str, value: object, step: int) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            self._send(JobMetric(self._job_id, name, float(value), step))


class _MemoryLimit:
    """Ends a training that takes more memory than it may; what it saved stays."""

    def __init__(self, limit_mb: int) -> None:
        self._limit_mb = limit_mb
        self._process = psutil.Process()
        self._looked_s = -math.inf

    def look(self) -> None:
        """Compare, at most once a second.

        Raises
        ------
        EnvironmentFault
            ``training.memory``.
        """
        now = time.monotonic()
        if not self._limit_mb or now - self._looked_s < _MEMORY_EVERY_S:
            return
        self._looked_s = now
        used_mb = self._process.memory_info().rss >> 20
        if used_mb > self._limit_mb:
            raise EnvironmentFault(
                "training.memory",
                f"The training took {used_mb} MB of memory; {self._limit_mb} MB were allowed.",
                "Allow more memory in the settings and start again, or leave out the largest series.",
            )


def overall(phase: str, fraction: float) -> float:
    """Return how far the whole training is when a phase of the engine is at ``fraction``."""
    if phase == "Training":
        return _BEGIN + (_END - _BEGIN) * fraction
    if phase.startswith(("Preparing", "Reading")):
        return _BEGIN * fraction
    return _END + (1 - _END) * fraction


def limit_graphics_memory(device: str, limit_mb: int) -> None:
    """Let this process take at most ``limit_mb`` of a CUDA card; does nothing without one."""
    if device == "cpu" or not limit_mb:
        return
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_mb * 2**20 / total), 0)


def as_successor(folder: Path, base: Bundle) -> Bundle:
    """Give a trained bundle what a recipe doesn't carry: which findings are made, which layers explain.

    The two must stay as they are in the model in use, or its results would change their kind with its weights.
    """
    trained = read_bundle(folder)
    wanted = trained.manifest.model_copy(
        update={"findings": base.manifest.findings, "explain": base.manifest.explain}
    )
    if wanted != trained.manifest:
        with atomic_path(folder / MANIFEST_FILE) as part:
            part.write_bytes(wanted.to_json())
        sign_bundle(folder, None)
    return read_bundle(folder)
