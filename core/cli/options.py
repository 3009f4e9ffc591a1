"""Options that every command takes, and how a command opens the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from core.config.logs import configure_logging
from core.config.paths import Paths
from core.services.engine import Engine, open_engine
from core.services.job_board import JobBoard
from core.services.registered_models import registered_bundle

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of all user data (else OVERREAD_HOME, else the platform's)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder that receives the files.")]


def model_at(model: str, home: Path | None) -> str:
    """Return the bundle's path of a registered model (``NAME@ALIAS``, ``NAME@X.Y.Z``); any other text as it is.

    Raises
    ------
    AppError
        For a reference that names nothing, or whose files were changed.
    """
    known = registered_bundle(Paths.resolve(home), model)
    return model if known is None else str(known.path)


@contextmanager
def engine_at(home: Path | None) -> Iterator[Engine]:
    """Open the engine for the length of one command."""
    engine = open_engine(home, configure=_log_to_file)
    try:
        yield engine
    finally:
        engine.close()


def _log_to_file(paths: Paths) -> None:
    configure_logging(paths, name="overread-cli")


@contextmanager
def engine_and_board(home: Path | None) -> Iterator[tuple[Engine, JobBoard]]:
    """Open the engine and a job board (which starts the worker process on its first job)."""
    with engine_at(home) as engine:
        board = JobBoard(engine, resume=False)
        try:
            yield engine, board
        finally:
            board.shutdown()
