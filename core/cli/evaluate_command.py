"""``evaluate``: a model on data with a known answer, with intervals, gates, comparison and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.options import DeviceOption, HomeOption, JsonOption, OutFolder, model_at
from core.cli.output import TerminalProgress, answer
from core.domain.errors import InputError

_SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc_roc", "mean_dice", "mean_hd95_mm", "mean_nsd",
          "missed_share", "latency_ms")  # fmt: skip


def evaluate_command(
    model: Annotated[
        str, typer.Argument(help="Model of the catalogue, bundle's path, or folder of a training.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="One folder per class, folders images and masks, or a table (manifest.csv)."
        ),
    ],
    out: OutFolder,
    gates: Annotated[
        str | None, typer.Option("--gates", help="Gates file, or brain-tumour, classification, segmentation.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option("--compare", help="Another model, on the same cases; repeat for more.")
    ] = None,
    reader_study: Annotated[
        Path | None,
        typer.Option("--reader-study", help="Table: reader, case, truth, without, with, seconds_without, …"),
    ] = None,
    tolerance_mm: Annotated[
        float, typer.Option("--tolerance-mm", help="Of the surface Dice.", min=0.0)
    ] = 2.0,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Draws of the bootstrap.", min=100, max=100_000)
    ] = 2000,
    device: DeviceOption = "auto",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model on cases whose truth is known; write metrics.json, report.html and report.pdf."""
    if out.exists() and not out.is_dir():
        raise InputError("evaluation.out", "The output is a file.", "Give a folder with --out.")
    # torch and matplotlib are loaded by this command only.
    from core.compute.evaluation.reader_study import read_readings
    from core.compute.evaluation.reader_study import reader_study as study_of
    from core.compute.evaluation.run import evaluate

    study = study_of(read_readings(reader_study)) if reader_study else None
    document = evaluate(
        model_at(model, home),
        data,
        gates=gates,
        compare=[model_at(other, home) for other in compare or ()],
        out=out,
        home=home,
        device=device,
        tolerance_mm=tolerance_mm,
        resamples=resamples,
        study=study,
        progress=TerminalProgress(),
    )
    answer(document, as_json, lambda: _lines(document))


def _lines(document: dict[str, Any]) -> Sequence[str]:
    rows = []
    metrics = document["metrics"]
    for name in _SHOWN:
        if name in metrics:
            low, high = metrics["ci95"][name]
            rows.append(f"{name:18} {_number(metrics[name])}  ({_number(low)} – {_number(high)})")
    for gate in document["gates"]:
        rows.append(f"{'passed' if gate['passed'] else 'NOT PASSED':10} {gate['name']}: {gate['reason']}")
    for other in document["comparisons"]:
        for row in other["comparisons"][:1]:
            change = f"{_number(row['difference'])} ({_number(row['ci95'][0])} – {_number(row['ci95'][1])})"
            rows.append(f"against {other['other']['id']}: {row['metric']} {change}, p {_number(row['p'])}")
    rows += [f"note: {note}" for note in document["notes"]]
    return [*rows, f"report: {document['report_html']}", f"report: {document['report_pdf']}"]


def _number(value: float | str | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, str) else f"{value:.4g}"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("evaluate")(evaluate_command)
