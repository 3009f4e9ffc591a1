"""What runs on the machines of a Ray cluster: one process of a distributed training, and the letter box of the run.

Only JSON values travel between the machines. The module loads neither torch nor Ray by itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.domain.errors import AppError, BugError, EnvironmentFault, InputError, SafetyError
from core.domain.progress import Cancelled, CancelToken

FAMILIES: dict[str, type[AppError]] = {
    family.__name__: family for family in (InputError, EnvironmentFault, SafetyError, BugError)
}
_ASK_S, _PROGRESS_S = 0.5, 0.2
Send = Callable[[dict[str, Any]], None]


class LetterBox:
    """Letters from the workers to the one who started them, and his wish to stop. One process, one thread."""

    def __init__(self) -> None:
        self._letters: list[dict[str, Any]] = []
        self._cancelled = False

    def put(self, letter: dict[str, Any]) -> None:
        """Leave a letter."""
        self._letters.append(letter)

    def take(self) -> list[dict[str, Any]]:
        """Return the letters since the last call, in their order."""
        letters, self._letters = self._letters, []
        return letters

    def cancel(self) -> None:
        """Ask the workers to stop."""
        self._cancelled = True

    def is_cancelled(self) -> bool:
        """Whether they are asked to stop."""
        return self._cancelled


def work(job: dict[str, Any]) -> None:
    """Train as one of several processes; Ray calls it on every worker.

    Parameters
    ----------
    job : dict
        ``recipe`` (document), ``data``, ``out``, ``token`` (a file in ``out``), ``resume``, ``device``,
        ``private_key_file``, ``initial`` (bundle's folder), ``profile``, ``box`` (the letter box's handle).

    Raises
    ------
    AppError
        As ``train_recipe``, after a letter about it; a cancelled training ends without an error.
    """
    import ray

    box = job["box"]
    rank = _as_torchrun()

    def send(letter: dict[str, Any]) -> None:
        ray.get(box.put.remote(letter))

    try:
        with _asking(lambda: bool(ray.get(box.is_cancelled.remote()))) as cancel:
            answer = _train(job, send if rank == 0 else _nowhere, cancel)
        if rank == 0:
            send({"answer": answer})
    except Cancelled:
        send({"cancelled": True})
    except AppError as error:
        family = next(
            (name for name, kind in FAMILIES.items() if isinstance(error, kind)), "EnvironmentFault"
        )
        send({"error": [family, error.code, error.user_message, error.remedy]})
        raise


def _as_torchrun() -> int:
    """Complete the environment to what ``torch.distributed.run`` gives; returns the rank.

    Raises
    ------
    EnvironmentFault
        ``cluster.uneven`` when the machines got different numbers of workers.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if world % here:
        raise EnvironmentFault(
            "cluster.uneven",
            f"The {world} workers are spread unevenly: {here} of them on one machine.",
            "Choose a number of workers that every machine has an equal share of.",
        )
    os.environ["GROUP_RANK"] = os.environ.get("NODE_RANK", "0")
    # By this Lightning knows that the processes are there already.
    os.environ["TORCHELASTIC_RUN_ID"] = "ray"
    return rank


def _train(job: dict[str, Any], send: Send, cancel: CancelToken) -> dict[str, Any]:
    from core.bundles.bundle import read_bundle
    from core.compute.training.run import train_recipe
    from core.recipes.load import parse_recipe

    out = Path(job["out"])
    if not (out / job["token"]).is_file():
        raise EnvironmentFault(
            "cluster.storage",
            "A machine of the cluster doesn't see the output folder.",
            "Choose a folder on storage that all machines share under the same path.",
        )
    return train_recipe(
        parse_recipe(job["recipe"]),
        data=_path(job["data"]),
        out=out,
        resume=job["resume"],
        device=job["device"],
        progress=_Throttled(send),
        cancel=cancel,
        on_event=lambda event: send({"event": event}),
        private_key_file=_path(job["private_key_file"]),
        initial=None if job["initial"] is None else read_bundle(Path(job["initial"])),
        profile=job["profile"],
    )


class _Throttled:
    """Progress as letters, at most five a second."""

    def __init__(self, send: Send) -> None:
        self._send, self._last, self._phase = send, 0.0, ""

    def __call__(self, phase: str, fraction: float) -> None:
        """Report."""
        if phase != self._phase or time.monotonic() - self._last > _PROGRESS_S:
            self._phase, self._last = phase, time.monotonic()
            self._send({"progress": [phase, fraction]})


@contextmanager
def _asking(is_cancelled: Callable[[], bool]) -> Iterator[CancelToken]:
    """Yield a token that a thread sets when somebody asks to stop."""
    cancel, done = CancelToken(), threading.Event()

    def ask() -> None:
        while not done.wait(_ASK_S):
            if is_cancelled():
                cancel.cancel()
                return

    thread = threading.Thread(target=ask, name="overread-cluster-cancel", daemon=True)
    thread.start()
    try:
        yield cancel
    finally:
        done.set()
        thread.join()


def _nowhere(letter: dict[str, Any]) -> None:
    del letter


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
