"""``register`` and ``registry``: the data scientist's registry of models. MLflow loads with the command."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from core.bundles.bundle import Bundle
from core.cli.options import HomeOption, JsonOption, engine_at
from core.cli.output import answer
from core.config.paths import Paths
from core.domain.errors import InputError
from core.registry.store import ModelRegistry, RegisteredVersion

registry_app = typer.Typer(
    help="Registered models: versions, aliases, tags, lineage.", no_args_is_help=True, rich_markup_mode=None
)
_Reference = Annotated[str, typer.Argument(help="NAME@X.Y.Z or NAME@ALIAS.")]
_By = Annotated[str, typer.Option("--by", help="Who decides; production asks for it.")]


def register_command(
    model: Annotated[str, typer.Argument(help="Run folder, checkpoint, bundle or catalogue id.")],
    version: Annotated[str, typer.Option("--version", help="Semantic version, for example 1.2.0.")],
    name: Annotated[
        str, typer.Option("--name", help="Name in the registry; the model's id by default.")
    ] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; may be given often.")] = None,
    stage: Annotated[str, typer.Option("--stage", help="staging, production or archived.")] = "",
    by: _By = "",
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", help="Folder that “overread evaluate” wrote.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a model as a version that never changes, with its lineage."""
    from core.services.register_model import register_model

    tags = dict(_pair(text) for text in tag or ())
    with engine_at(home) as engine:
        found = register_model(
            engine,
            model,
            version,
            name=name or None,
            tags=tags,
            stage=stage,
            by=by,
            evaluation=evaluation,
            view=_mlflow_view,
        )
        document = version_document(found) | {"registry_uri": ModelRegistry(engine.paths.registry).uri}
    answer(document, as_json, lambda: [_line(document)])


@registry_app.command("list")
def list_command(
    name: Annotated[str, typer.Argument(help="Of this model only.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List registered models and their versions."""
    from core.services.registered_models import registered

    rows = [version_document(one) for one in registered(Paths.resolve(home), name)]
    answer({"versions": rows}, as_json, lambda: [_line(row) for row in rows] or ["nothing is registered"])


@registry_app.command("show")
def show_command(reference: _Reference, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a version with its card and its lineage, from the data to the verdicts."""
    from core.registry.versions import parse_reference
    from core.services.registered_models import registered_bundle

    paths = Paths.resolve(home)
    bundle = registered_bundle(paths, reference)
    if bundle is None:
        raise InputError(
            "registry.unknown", f"“{reference}” names no version.", "Give NAME@X.Y.Z or NAME@ALIAS."
        )
    found = ModelRegistry(paths.registry).find(parse_reference(reference))
    document = version_document(found) | {"card": bundle.card, "lineage": found.lineage()}
    answer(document, as_json, lambda: [_line(document), "", bundle.card, *_lineage_lines(found)])


@registry_app.command("alias")
def alias_command(
    reference: _Reference,
    alias: Annotated[str, typer.Argument(help="For example production.")],
    by: _By = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an alias point to a version; production needs an evaluation whose gates passed."""
    from core.services.register_model import set_alias

    with engine_at(home) as engine:
        document = version_document(set_alias(engine, reference, alias, by=by))
    answer(document, as_json, lambda: [_line(document)])


@registry_app.command("unalias")
def unalias_command(
    reference: Annotated[str, typer.Argument(help="NAME@ALIAS.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove an alias; the version stays."""
    from core.services.register_model import remove_alias

    with engine_at(home) as engine:
        remove_alias(engine, reference)
    answer({"removed": reference}, as_json, lambda: [f"removed {reference}"])


@registry_app.command("tag")
def tag_command(
    reference: _Reference,
    tag: Annotated[str, typer.Argument(help="KEY=VALUE.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a tag of a version."""
    from core.services.register_model import set_tag

    key, value = _pair(tag)
    with engine_at(home) as engine:
        document = version_document(set_tag(engine, reference, key, value))
    answer(document, as_json, lambda: [_line(document)])


def _mlflow_view(bundle: Bundle, folder: Path) -> Path | None:
    """Write what ``mlflow.pyfunc.load_model("models:/NAME@ALIAS")`` opens, where the model has a graph for it."""
    weights = bundle.weights("onnx")
    if weights is None:
        return None
    from core.compute.deploy.views import write_mlflow

    return write_mlflow(
        bundle, bundle.read(weights.file), bundle.manifest.inference.divisor, folder / "mlflow"
    )


def version_document(found: RegisteredVersion) -> dict[str, Any]:
    """Return a version as JSON values."""
    created = datetime.fromtimestamp(found.created_utc_ms / 1000, UTC)
    return {
        "name": found.name,
        "version": found.version,
        "mlflow_version": found.number,
        "stage": found.stage,
        "aliases": list(found.aliases),
        "tags": dict(found.tags),
        "sha256": found.sha256,
        "bundle": str(found.bundle),
        "created_utc": created.isoformat(timespec="seconds"),
    }


def _line(row: dict[str, Any]) -> str:
    aliases = "".join(f" @{alias}" for alias in row["aliases"])
    tags = "".join(f" {key}={value}" for key, value in row["tags"].items())
    return f"{row['name']:24} {row['version']:12} {row['sha256'][:12]}{aliases}{tags}"


def _lineage_lines(found: RegisteredVersion) -> list[str]:
    lineage = found.lineage()
    rows = ["", "Lineage"]
    run = lineage.get("run", {})
    for title, value in (
        ("data", run.get("data_fingerprint")),
        ("split", run.get("split_sha256")),
        ("recipe", lineage.get("recipe_sha256")),
        ("run", run.get("run_id")),
        ("evaluation", lineage.get("evaluation", {}).get("sha256")),
        ("gates passed", lineage.get("evaluation", {}).get("passed")),
        ("candidate", lineage.get("candidate", {}).get("candidate_id")),
        ("verdicts", lineage.get("candidate", {}).get("verdicts")),
        ("bundle", lineage.get("bundle", {}).get("sha256")),
    ):
        rows.append(f"  {title:13} {'–' if value is None else value}")
    return rows


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError("registry.tag", f"“{text}” is no tag.", "Give KEY=VALUE.")
    return key, value


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("register")(register_command)
    app.add_typer(registry_app, name="registry")
