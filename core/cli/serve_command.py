"""``serve``: one model behind HTTP. The command line hands over to the server's own process, which has no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from core.cli.options import HomeOption, JsonOption
from core.config.child_process import child_environment
from core.domain.errors import EnvironmentFault

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve_command(
    model: Annotated[str, typer.Argument(help="Model of the catalogue, bundle's path, or NAME@ALIAS.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.", min=0, max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="Tokens, one per line; made when there is none (server/token)."),
    ] = None,
    devices: Annotated[
        str, typer.Option("--devices", help="One model process each: auto, cpu, cuda:0,cuda:1 …")
    ] = "auto",
    max_upload_mb: Annotated[
        int, typer.Option("--max-upload-mb", help="Largest request.", min=1, max=16384)
    ] = 512,
    rate_limit: Annotated[
        float, typer.Option("--rate-limit", help="Requests per second and token; 0: no limit.", min=0)
    ] = 100.0,
    batch: Annotated[
        int, typer.Option("--batch", help="Most images that go through the network together.", min=1, max=256)
    ] = 16,
    threads: Annotated[
        int, typer.Option("--threads", help="Of each model process; 0 chooses.", min=0, max=512)
    ] = 0,
    trusted_host: Annotated[
        list[str] | None, typer.Option("--trusted-host", help="Name by which clients call; repeat for more.")
    ] = None,
    docs: Annotated[
        bool, typer.Option("--docs", help="Offer /docs and /openapi.json, without a token.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run the model on a Ray cluster.")] = False,
    address: Annotated[
        str, typer.Option("--address", help="Of the Ray cluster: ray://…, auto or local.")
    ] = "local",
    replicas: Annotated[int, typer.Option("--replicas", help="Model replicas on the cluster.", min=1)] = 1,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a model: GET /health, POST /predict, POST /predict/batch, GET /model/info, GET /metrics."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EnvironmentFault(
            "serve.not_installed",
            f"The server needs {', '.join(missing)}, which this installation lacks.",
            "Install overread[serve].",
        )
    given: dict[str, object] = {
        "host": host,
        "port": port,
        "token-file": token_file,
        "devices": devices,
        "max-upload-mb": max_upload_mb,
        "rate-limit": rate_limit,
        "batch": batch,
        "threads": threads,
        "tls-cert": tls_cert,
        "tls-key": tls_key,
        "address": address,
        "replicas": replicas,
        "home": home,
    }
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    words += [f"--trusted-host={name}" for name in trusted_host or ()]
    words += [f"--{name}" for name, wanted in (("docs", docs), ("ray", ray), ("json", as_json)) if wanted]
    become([sys.executable, "-m", "core.server", *words, "--", model])


def become(command: list[str]) -> None:
    """Let the server take this process's place, so that signals reach it; on Windows, wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execve(command[0], command, child_environment())
    raise typer.Exit(subprocess.run(command, env=child_environment(), check=False).returncode)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("serve")(serve_command)
