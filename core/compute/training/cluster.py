"""A training as a job on a Ray cluster, where a department shares its graphics cards.

Every worker runs ``train_recipe`` as under ``torch.distributed.run``: gradients are averaged by the same DDP, so a
batch is ``batch_size`` times the workers. The output folder, the data and a bundle to begin with must lie on storage
that all machines share under the same path; this is checked before anything is trained. Only settings, events and the
answer travel through Ray, never images.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.compute.training.cluster_worker import FAMILIES, LetterBox, work
from core.domain.errors import AppError, BugError, EnvironmentFault
from core.domain.progress import Cancelled, CancelToken, Progress, no_progress
from core.recipes.load import recipe_document
from core.recipes.schema import Recipe

OnEvent = Callable[[dict[str, Any]], None]
_LOOK_S = 0.3
_OBJECT_STORE_BYTES = 128 << 20


def train_on_cluster(
    recipe: Recipe,
    *,
    workers: int,
    address: str = "auto",
    data: Path | None = None,
    out: Path,
    resume: bool = True,
    device: str = "auto",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    on_event: OnEvent | None = None,
    private_key_file: Path | None = None,
    initial: Path | None = None,
    profile: bool = False,
) -> dict[str, Any]:
    """Train a recipe on a Ray cluster and wait for it.

    Parameters
    ----------
    workers : int
        Processes; each has a processor, and a graphics card where the cluster has one for each of them.
    address : str
        ``"auto"`` (the cluster that this machine belongs to), ``"local"`` (a cluster of this machine only, for this
        training) or ``host:port``.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    initial : pathlib.Path, optional
        Folder of a bundle whose weights training begins with.
    progress, cancel, on_event, others
        As ``train_recipe``; called in this thread.

    Returns
    -------
    dict
        As ``train_recipe``.

    Raises
    ------
    EnvironmentFault
        ``cluster.no_ray``, ``cluster.none``, ``cluster.too_small``, ``cluster.storage``, ``cluster.uneven``,
        ``cluster.failed``.
    InputError, SafetyError, Cancelled
        As ``train_recipe``.
    """
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with _connected(address, workers) as ray:
        use_gpu = _use_gpu(ray.cluster_resources(), workers, device)
        box = ray.remote(LetterBox).options(num_cpus=0).remote()
        token = f".cluster-{uuid.uuid4().hex}"
        job = {
            "recipe": recipe_document(recipe),
            "data": _text(data),
            "out": str(out),
            "token": token,
            "resume": resume,
            "device": "cuda" if use_gpu else "cpu",
            "private_key_file": _text(private_key_file),
            "initial": _text(initial),
            "profile": profile,
            "box": box,
        }
        (out / token).touch()
        try:
            run = _Run(_trainer(job, workers, use_gpu, out), progress, on_event)
            return run.wait(lambda: ray.get(box.take.remote()), lambda: ray.get(box.cancel.remote()), cancel)
        finally:
            (out / token).unlink(missing_ok=True)
            shutil.rmtree(out / token.lstrip("."), ignore_errors=True)


def _trainer(job: dict[str, Any], workers: int, use_gpu: bool, out: Path) -> Any:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    return TorchTrainer(
        work,
        train_loop_config=job,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(name=str(job["token"]).lstrip("."), storage_path=str(out)),
    )


class _Run:
    """A job in a thread of its own; letters are read in the caller's, which keeps its signals."""

    def __init__(self, trainer: Any, progress: Progress, on_event: OnEvent | None) -> None:
        self._trainer, self._progress, self._on_event = trainer, progress, on_event
        self._answer: dict[str, Any] | None = None
        self._error: AppError | None = None
        self._cancelled = False
        self._failure: Exception | None = None

    def wait(
        self, take: Callable[[], list[dict[str, Any]]], stop: Callable[[], None], cancel: CancelToken | None
    ) -> dict[str, Any]:
        """Return the answer of the first worker, or raise what it told."""
        thread = threading.Thread(target=self._fit, name="overread-cluster", daemon=True)
        thread.start()
        asked = False
        while thread.is_alive():
            thread.join(_LOOK_S)
            if cancel is not None and cancel.is_cancelled and not asked:
                asked = True
                stop()
            self._read(take())
        self._read(take())
        if self._error is not None:
            raise self._error
        if self._cancelled:
            raise Cancelled
        if self._answer is None:
            reason = type(self._failure).__name__ if self._failure else "no answer"
            raise EnvironmentFault(
                "cluster.failed",
                f"The training on the cluster failed ({reason}).",
                "Look into the cluster's logs, and start it again with --resume.",
            ) from self._failure
        return self._answer

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # noqa: BLE001 (raised in the caller's thread)
            self._failure = error

    def _read(self, letters: list[dict[str, Any]]) -> None:
        for letter in letters:
            if "event" in letter and self._on_event is not None:
                self._on_event(letter["event"])
            elif "progress" in letter:
                self._progress(*letter["progress"])
            elif "answer" in letter:
                self._answer = letter["answer"]
            elif "cancelled" in letter:
                self._cancelled = True
            elif "error" in letter and self._error is None:
                family, code, message, remedy = letter["error"]
                self._error = FAMILIES.get(family, BugError)(code, message, remedy)


@contextmanager
def _connected(address: str, workers: int) -> Iterator[Any]:
    """Yield ``ray``, connected; a connection that was there before stays."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    try:
        import ray
        import ray.train.torch
    except ImportError as error:
        raise EnvironmentFault(
            "cluster.no_ray", "Ray isn't installed.", "Install overread[cluster], here and on every machine."
        ) from error
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        quiet |= {
            "num_cpus": max(workers, os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    try:
        with _own_signals():
            ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise EnvironmentFault(
            "cluster.none",
            f"No Ray cluster answers at “{address}”.",
            "Start one with “ray start --head”, or give --address local.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Take back the signals that Ray would end this process by without ending its cluster."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _use_gpu(resources: dict[str, float], workers: int, device: str) -> bool:
    """Return whether each worker gets a graphics card.

    Raises
    ------
    EnvironmentFault
        ``cluster.too_small``.
    """
    cards, processors = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if processors < workers:
        raise EnvironmentFault(
            "cluster.too_small",
            f"The cluster has {processors} processors; {workers} workers are asked for.",
            "Ask for fewer workers with --workers.",
        )
    if device == "cuda" and cards < workers:
        raise EnvironmentFault(
            "cluster.too_small",
            f"The cluster has {cards} graphics cards; {workers} workers are asked for.",
            "Ask for fewer workers with --workers, or give --device cpu.",
        )
    return device != "cpu" and cards >= workers


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
