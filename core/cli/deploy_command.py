"""``deploy``: a model as TorchScript, ONNX, INT8, OpenVINO and for other systems, pruned on wish, with a table."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from core.cli.options import HomeOption, JsonOption, OutFolder, model_at
from core.cli.output import TerminalProgress, answer
from core.domain.errors import EnvironmentFault

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")


def deploy_command(
    model: Annotated[
        str,
        typer.Argument(help="Model of the catalogue, bundle's path, folder of a training, or checkpoint."),
    ],
    out: OutFolder,
    formats: Annotated[
        str, typer.Option("--as", help="torchscript, onnx, openvino, monai, mlflow, triton; with commas.")
    ] = "torchscript,onnx",
    int8: Annotated[
        str | None, typer.Option("--int8", help="static (needs --data), dynamic, or both.")
    ] = None,
    prune: Annotated[
        float | None, typer.Option("--prune", help="Share of the channels to remove, for example 0.3.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Cases with a known answer: to calibrate with and to measure on."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Other cases to calibrate with; --data is measured on."),
    ] = None,
    cases: Annotated[
        int | None, typer.Option("--cases", help="At most so many cases are measured on.", min=1)
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Trains a pruned model further; of a training its own is used."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Of the training after pruning; 0: none.", min=0)
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Of the timing.", min=1, max=1000)] = 10,
    sign_with: Annotated[
        Path | None, typer.Option("--sign-with", help="Private key (PEM) that signs the new bundle.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model in forms for other runtimes, checked against it, timed and measured on cases."""
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise EnvironmentFault(
            "deploy.packages",
            f"Models can't be deployed here: {', '.join(missing)} is not installed.",
            "Install overread[train].",
        )
    # torch is loaded by this command only.
    from core.compute.deploy.deploy import deploy

    document = deploy(
        model_at(model, home),
        formats=formats,
        int8=cast(Literal["static", "dynamic", "both"] | None, int8),
        prune=prune,
        data=data,
        calibration=calibration,
        out=out,
        home=home,
        limit=cases,
        epochs=epochs,
        recipe=recipe,
        rounds=rounds,
        private_key_file=sign_with,
        progress=TerminalProgress(),
    )
    answer(document, as_json, lambda: _lines(document))


def _lines(document: dict[str, Any]) -> Sequence[str]:
    rows = [
        f"{'→' if row['chosen'] else ' '} {row['title']:40} {row['size_mb']:9.2f} MB {row['latency_ms']:9.2f} ms  "
        f"{_quality(row):14} {row['reason']}"
        for row in document["table"]
    ]
    pruning = document["pruning"]
    if pruning:
        numbers = pruning["parameters"]
        rows.append(f"pruned: {numbers['before']:,} → {numbers['after']:,} parameters")
        rows += [
            f"{'passed' if gate['passed'] else 'NOT PASSED':10} {gate['name']}: {gate['reason']}"
            for gate in pruning["gates"]
        ]
    rows += [f"note: {note}" for note in document["notes"]]
    if document["bundle"]:
        rows.append(f"bundle: {document['bundle']}")
    return [*rows, *(f"{name}: {path}" for name, path in document["files"].items())]


def _quality(row: dict[str, Any]) -> str:
    found = [f"{name} {row[name]:.3f}" for name in ("accuracy", "dice", "numbers") if row[name] is not None]
    return ", ".join(found) or "–"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("deploy")(deploy_command)
