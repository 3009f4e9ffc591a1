"""``models``, ``run``, ``explain`` and ``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.contrasts import ContrastOption, TextOption, named, report_text
from core.cli.documents import result_document
from core.cli.options import DeviceOption, HomeOption, JsonOption, OutFolder, engine_and_board, engine_at
from core.cli.output import EXIT_REFUSED, TerminalProgress, answer, tell
from core.domain.errors import InputError
from core.domain.result import ModelResult, unit_shown
from core.services import (
    explain_finding,
    list_models,
    manage_models,
    remote_models,
    run_model,
    selftest_model,
)

models_app = typer.Typer(help="The catalogue of models.", no_args_is_help=False, rich_markup_mode=None)


@models_app.callback(invoke_without_command=True)
def models_command(
    context: typer.Context,
    fit: Annotated[str, typer.Option("--fit", help="Say for each model whether it fits this series.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the models, or with --fit those that fit a series and why."""
    if context.invoked_subcommand:
        return
    with engine_at(home) as engine:
        rows = list_models.list_models(engine, fit or None)
        rows += remote_models.list_remote_models(engine, fit or None)
    answer(
        {"models": rows},
        as_json,
        lambda: [
            f"{_get(r, 'id'):18} {_get(r, 'version'):8} {_get(r, 'verified'):9} {_get(r, 'title')}  {_get(r, 'why')}"
            for r in rows
        ],
    )


def _get(row: Any, name: str) -> str:
    value = row.get(name, "") if isinstance(row, dict) else getattr(row, name, "")
    return str(value)


@models_app.command("add")
def models_add(
    path: Annotated[Path, typer.Argument(help="Bundle folder or ZIP, or an ONNX model with its card.")],
    model_id: Annotated[str, typer.Option("--id", help="Identifier in the catalogue.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a model to the user's catalogue after checking it."""
    with engine_at(home) as engine:
        document = manage_models.add_model(engine, path, model_id or None)
    answer(document, as_json, lambda: [f"added {document}"])


@models_app.command("remove")
def models_remove(
    model_id: Annotated[str, typer.Argument()], home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Remove a model that the user added."""
    with engine_at(home) as engine:
        document = manage_models.remove_model(engine, model_id)
    answer(document, as_json, lambda: [f"removed {model_id}"])


@models_app.command("selftest")
def models_selftest(
    model_id: Annotated[str, typer.Argument()],
    device: DeviceOption = "auto",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a model on its own reference input and compare."""
    with engine_and_board(home) as (engine, board):
        document = selftest_model.selftest_model(engine, board, model_id, device, progress=TerminalProgress())
    answer(document, as_json, lambda: [f"{k}: {v}" for k, v in document.items()])
    if not document.get("passed", False):
        raise typer.Exit(EXIT_REFUSED)


def write_result_files(engine: Any, result: ModelResult, out: Path | None) -> list[dict[str, Any]]:
    """Write the label map as NIfTI to ``out`` where the result has one."""
    if out is None or result.label_map_file is None:
        return []
    # highdicom, which the exporters need, takes its time to load: only here.
    from core.services import export_result

    files = export_result.export_result(engine, result.result_id, ["nifti"], out)
    return [{"kind": f.kind, "path": str(f.path)} for f in files]


def run_command(
    model_id: Annotated[str, typer.Argument()],
    series: Annotated[str, typer.Option("--series", help="Series Instance UID.")],
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="Folder that receives the label map.")] = None,
    contrast: ContrastOption = None,
    text: TextOption = None,
    engine_name: Annotated[
        str, typer.Option("--engine", help="Run the model of this server; see “overread engine”.")
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a model on a series in the worker process, or on a server by --engine.

    A model of several contrasts finds the others in the study by their descriptions; --contrast says otherwise, and
    an empty value leaves one out.
    """
    chosen, report = named(contrast), report_text(text)
    if engine_name:
        model_id = remote_models.remote_id(engine_name, model_id)
    with engine_and_board(home) as (engine, board):
        result = run_model.run_model(
            engine,
            board,
            model_id,
            series,
            device,
            progress=TerminalProgress(),
            contrasts=chosen,
            text=report,
        )
        files = write_result_files(engine, result, out)
    document = result_document(result, files)

    def lines() -> list[str]:
        rows = [f"result {result.result_id} by {result.model.id} {result.model.version} on {result.device}"]
        rows += [f"  {s.label:16} {s.volume_ml:10.1f} ml" for s in result.segments]
        rows += [f"  {c.label:16} {c.probability:6.3f}" for c in result.classes]
        rows += [f"  {m.name:16} {m.value:10.4g} {unit_shown(m.unit)}" for m in result.measurements]
        rows += [f"  {note}" for note in result.fallbacks]
        return rows

    answer(document, as_json, lines)


def explain_command(
    result_id: Annotated[str, typer.Argument()],
    out: OutFolder,
    method: Annotated[
        str, typer.Option("--method", help="gradcam, gradcam++, layercam, ig or occlusion.")
    ] = "gradcam",
    class_label: Annotated[str, typer.Option("--class", help="Class or segment to explain.")] = "",
    layer: Annotated[str, typer.Option("--layer", help="Layer of the network.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a model looked, in the series' geometry."""
    with engine_and_board(home) as (engine, board):
        explanation = explain_finding.explain(
            engine, board, result_id, method, class_label, layer, progress=TerminalProgress()
        )
        from core.services import export_result

        file = export_result.export_explanation_nifti(engine, result_id, explanation, out)
    document = {
        "file": str(file),
        "method": explanation.method,
        "class": explanation.class_label,
        "layer": explanation.layer,
        "resolution_mm": list(explanation.resolution_mm),
        "sanity": {
            "randomisation_correlation": explanation.randomisation_correlation,
            "passed": explanation.sanity_passed,
        },
        "pointing_game": explanation.pointing_game,
    }
    answer(document, as_json, lambda: [f"{k}: {v}" for k, v in document.items()])


def predict_command(
    model: Annotated[str, typer.Argument(help="Catalogue id, bundle or checkpoint.")],
    out: OutFolder,
    inputs: Annotated[
        list[Path] | None, typer.Argument(help="DICOM folders, NIfTI files or pictures.")
    ] = None,
    contrast: ContrastOption = None,
    text: TextOption = None,
    device: DeviceOption = "auto",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict many inputs without the library, or one case of several contrasts given by --contrast."""
    contrasts, report = named(contrast), report_text(text)
    if bool(inputs) == bool(contrasts):
        raise InputError(
            "predict.inputs",
            "Give inputs, or the contrasts of one case by --contrast, but not both.",
            "For example: overread predict MODEL --contrast T1=t1.nii.gz --contrast T2=t2.nii.gz --out FOLDER",
        )
    # torch is loaded by this command only: the others talk to the worker process.
    from core.cli.predict import predict

    files = {name: Path(value) for name, value in contrasts.items()}
    document = predict(
        model, inputs or [], out, device, home, TerminalProgress(), contrasts=files, text=report
    )

    def lines() -> list[str]:
        rows = []
        for r in document["results"]:
            best = r["classes"][0] if r["classes"] else None
            rows.append(
                f"{r['input']}: "
                + (f"{best['label']} {best['probability']:.3f}" if best else str(r["files"]))
            )
        return rows

    answer(document, as_json, lines)
    failed = [r for r in document["results"] if r.get("error")]
    if failed:
        tell(f"{len(failed)} of {len(document['results'])} inputs were refused; see their error.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(models_app, name="models")
    app.command("run")(run_command)
    app.command("explain")(explain_command)
    app.command("predict")(predict_command)
