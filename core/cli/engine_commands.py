"""``engine``: model servers that this workstation may use as engines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from core.cli.options import HomeOption, JsonOption, engine_at
from core.cli.output import EXIT_REFUSED, answer
from core.domain.errors import EnvironmentFault, InputError

engine_app = typer.Typer(
    help="Model servers: voxels and geometry are sent there, no identity.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Name = Annotated[str, typer.Argument(help="What you call the server.")]
_MAX_TOKEN_FILE = 4096


@engine_app.command("add")
def add_command(
    name: _Name,
    url: Annotated[str, typer.Option("--url", help="For example https://reading-room.example:8000")],
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File whose first line is the token; - reads standard input."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="PEM file of the authority that signed its certificate.")
    ] = None,
    allow_plain: Annotated[
        bool, typer.Option("--allow-http", help="Let pictures travel unencrypted to another computer.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Connect a server and use its model from now on; the token goes into the keyring."""
    from core.services.remote_engine import connect_engine

    token = "" if token_file is None else read_token(token_file)
    with engine_at(home) as engine:
        row = connect_engine(engine, name, url, token, ca_file=str(ca or ""), allow_plain=allow_plain)
    answer(
        row,
        as_json,
        lambda: [
            f"{row.name}: {row.model_title} {row.model_version} at {row.url}, run with --engine {row.name}"
        ],
    )


@engine_app.command("list")
def list_command(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the connected servers; nothing is asked of them."""
    from core.services.remote_engine import list_engines

    with engine_at(home) as engine:
        rows = list_engines(engine)
    answer(
        {"engines": rows},
        as_json,
        lambda: (
            [f"{row.name:16} {row.model_id:18} {row.model_version:8} {row.url}" for row in rows] or ["none"]
        ),
    )


@engine_app.command("test")
def test_command(
    name: _Name,
    accept: Annotated[bool, typer.Option("--accept", help="Use the model that the server has now.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a server how it is, whether it knows the token, and whether it has the model that was listed."""
    from core.services.remote_engine import check_engine, reconnect_engine

    with engine_at(home) as engine:
        if accept:
            reconnect_engine(engine, name)
        state = check_engine(engine, name)
    answer(state, as_json, lambda: [f"{state.name}: {state.words}"])
    if not state.ready:
        raise typer.Exit(EXIT_REFUSED)


@engine_app.command("remove")
def remove_command(name: _Name, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Use a server no longer and forget its token; results that it made stay."""
    from core.services.remote_engine import forget_engine

    with engine_at(home) as engine:
        forget_engine(engine, name)
    answer({"name": name, "removed": True}, as_json, lambda: [f"removed {name}"])


def read_token(file: Path) -> str:
    """Return the first line of a token file, or of standard input for ``-``.

    Raises
    ------
    EnvironmentFault
        ``engine.token_file`` when it can't be read.
    InputError
        ``engine.token`` when it is empty.
    """
    try:
        if str(file) == "-":
            text = sys.stdin.readline(_MAX_TOKEN_FILE)
        else:
            text = file.read_bytes()[:_MAX_TOKEN_FILE].decode("ascii", "replace")
    except OSError as error:
        raise EnvironmentFault(
            "engine.token_file", f"The token file can't be read ({error.strerror}).", "Check its path."
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(
            "engine.token", "The token file is empty.", "Put the server's token on its first line."
        )
    return lines[0]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(engine_app, name="engine")
