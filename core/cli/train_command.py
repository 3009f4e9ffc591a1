"""``overread train``: a recipe from its data to an evaluated bundle."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from core.cli.options import HomeOption, JsonOption
from core.cli.output import TerminalProgress, answer, tell
from core.config.paths import Paths
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress, no_progress

if TYPE_CHECKING:
    from core.recipes.schema import Recipe


def train_command(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a recipe's YAML file.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run (else below training/ of the home).")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the training data.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. training.epochs=3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    progress: Annotated[
        str, typer.Option("--progress", help="text, json (one event per line on standard error) or none.")
    ] = "text",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    initial: Annotated[
        Path | None, typer.Option("--initial", help="Bundle whose weights training begins with.")
    ] = None,
    sign_with: Annotated[
        Path | None, typer.Option("--sign-with", help="Private key (PEM) that signs the bundle.")
    ] = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Measure time and memory of the training, into profile/ of the run."),
    ] = False,
    backend: Annotated[
        str, typer.Option("--backend", help="process (this one), or ray: as a job on a Ray cluster.")
    ] = "process",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes on the Ray cluster, each with its batch.")
    ] = 1,
    address: Annotated[
        str, typer.Option("--address", help="Ray cluster: auto, local (this machine only) or host:port.")
    ] = "auto",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model by a recipe, evaluate it on cases it has not seen, and write its bundle."""
    from core.recipes.load import load_recipe

    if progress not in ("text", "json", "none"):
        raise InputError("train.progress", f"There is no progress “{progress}”.", "Use text, json or none.")
    if backend not in ("process", "ray"):
        raise InputError("train.backend", f"There is no backend “{backend}”.", "Use process or ray.")
    if backend == "process" and workers > 1:
        raise InputError(
            "train.workers",
            f"{workers} workers are asked for without a cluster.",
            "Add --backend ray, or start the processes by torch.distributed.run.",
        )
    chosen = load_recipe(recipe, settings or [])
    folder = out or Paths.resolve(home).training / f"{chosen.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    if not resume and folder.exists() and any(folder.iterdir()) and not _follower():
        raise InputError(
            "train.out_not_empty",
            "The output folder is not empty.",
            "Give --resume to go on with the training in it, or another folder.",
        )
    shared: dict[str, Any] = {
        "data": data,
        "out": folder,
        "resume": resume or _follower(),
        "device": device,
        "progress": _bar(progress),
        "on_event": _print_event if progress == "json" else None,
        "private_key_file": sign_with,
        "profile": profile,
    }
    with cancelled_by_signals() as cancel:
        if backend == "ray":
            from core.compute.training.cluster import train_on_cluster

            document = train_on_cluster(
                chosen, workers=workers, address=address, initial=initial, cancel=cancel, **shared
            )
        else:
            document = _train_here(chosen, initial, cancel, shared)
    if not _follower():
        answer(document, as_json, lambda: [f"{k}: {v}" for k, v in document.items()])


def _train_here(
    recipe: Recipe, initial: Path | None, cancel: CancelToken, shared: dict[str, Any]
) -> dict[str, Any]:
    # torch is loaded by this command only.
    from core.bundles.bundle import read_bundle
    from core.compute.training.run import train_recipe

    start = None if initial is None else read_bundle(initial)
    return train_recipe(recipe, initial=start, cancel=cancel, **shared)


def _follower() -> bool:
    """Whether ``torch.distributed.run`` started this process beside the first one."""
    import os

    return int(os.environ.get("RANK", "0")) > 0


def _bar(kind: Literal["text", "json", "none"] | str) -> Progress:
    return TerminalProgress() if kind == "text" and not _follower() else no_progress


def _print_event(document: dict[str, Any]) -> None:
    tell(json.dumps(document, ensure_ascii=False))


@contextmanager
def cancelled_by_signals() -> Iterator[CancelToken]:
    """Yield a token that SIGINT and SIGTERM set; a second one ends the process as usual."""
    cancel = CancelToken()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        cancel.cancel()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(train_command)
