"""Commands about many trainings and the machine under them: search, compare, monitor."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.options import HomeOption, JsonOption, OutFolder
from core.cli.output import TerminalProgress, answer, plain, tell
from core.config.hardware import HardwareReading, advise, read_hardware
from core.domain.errors import InputError
from core.domain.progress import CancelToken
from core.recipes.load import load_recipe
from core.recipes.overrides import parsed
from core.recipes.runs import RunRow, compare_runs
from core.recipes.search import load_space


def search_command(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe or its YAML file.")],
    space: Annotated[Path, typer.Option("--space", help="YAML file of what may change.")],
    out: OutFolder,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the cases.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="How many trainings.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value for every training.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe with many settings and tell which did best; goes on where an earlier search stopped."""
    del home
    ranges = load_space(space)
    if trials is not None:
        ranges = ranges.model_copy(update={"trials": trials})
    fixed = parsed(settings or [])
    base = load_recipe(recipe, fixed)
    # torch is loaded by this command only.
    from core.compute.training.run import train_recipe
    from core.compute.training.search import search

    def train(
        overrides: Mapping[str, Any],
        out: Path,
        on_event: Callable[[Mapping[str, Any]], None],
        cancel: CancelToken,
    ) -> Mapping[str, Any]:
        changed = load_recipe(recipe, {**fixed, **overrides})
        return train_recipe(changed, data=data, out=out, cancel=cancel, on_event=on_event)

    rows = search(base.name, ranges, train, out, progress=TerminalProgress())
    document = {"recipe": base.name, "objective": ranges.objective, "trials": rows}
    answer(document, as_json, lambda: [_trial_line(row) for row in rows])


def _trial_line(row: Any) -> str:
    value = "–" if row.value is None else f"{row.value:.5g}"
    parameters = ", ".join(f"{key}={value}" for key, value in row.parameters.items())
    return f"{row.number:4}  {row.state:9} {value:>10}  {parameters}  {row.reason}".rstrip()


def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lay runs beside each other: what differs in their recipes, and what came out."""
    del home
    rows = compare_runs(runs)
    answer({"runs": rows}, as_json, lambda: run_table(rows))


def run_table(rows: Sequence[RunRow]) -> list[str]:
    """Return a table with a line per run: state, time, differing settings, then the metrics that all share."""
    shared = [key for key in (rows[0].metrics if rows else {}) if all(key in row.metrics for row in rows)]
    heads = ["run", "state", "minutes", *(rows[0].differs if rows else {}), *shared]
    lines = [heads]
    for row in rows:
        minutes = "–" if row.seconds is None else f"{row.seconds / 60:.1f}"
        values = [_short(row.metrics[key]) for key in shared]
        lines.append(
            [row.folder, row.state or "–", minutes, *map(_short, row.differs.values()), *values],
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) for v in value):
        return f"{value[0]:.3f} ({value[1]:.3f}…{value[2]:.3f})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)[:40]


def monitor_command(
    once: Annotated[
        bool, typer.Option("--once", help="One look instead of a line every few seconds.")
    ] = False,
    interval_s: Annotated[float, typer.Option("--interval", min=0.2, help="Seconds between looks.")] = 5.0,
    processes: Annotated[bool, typer.Option("--processes/--no-processes", help="List the largest.")] = True,
    save: Annotated[Path | None, typer.Option("--save", help="Append each look to this file.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch processor, memory, disk and graphics cards, with advice; Ctrl+C ends it."""
    if as_json and not once:
        raise InputError("monitor.endless", "One JSON document needs one look.", "Add --once, or use --save.")
    readings: list[HardwareReading] = []
    try:
        while True:
            readings.append(
                read_hardware(home, interval_s=min(interval_s, 0.5), processes=5 if processes else 0)
            )
            del readings[:-120]
            document = {"reading": readings[-1], "advice": advise(readings)}
            if save is not None:
                with save.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(plain(document)) + "\n")
            answer(document, as_json, lambda: reading_lines(readings))
            if once:
                return
            time.sleep(max(0.0, interval_s - 0.5))
    except KeyboardInterrupt:
        tell("")


def reading_lines(readings: Sequence[HardwareReading]) -> list[str]:
    """Return the latest reading and the advice as lines."""
    last = readings[-1]
    lines = [
        f"{last.time_utc}  processor {last.cpu_percent:.0f} %  memory {last.memory_used_mb / 1024:.1f} of "
        f"{last.memory_total_mb / 1024:.1f} GB  disk {last.disk_free_mb / 1024:.0f} GB free"
    ]
    for card in last.gpus:
        figures = [
            (card.utilisation_percent, "%"),
            (card.memory_used_mb, "MB used"),
            (card.temperature_c, "°C"),
            (card.power_w, "W"),
        ]
        shown = "  ".join(f"{value:.0f} {unit}" for value, unit in figures if value is not None)
        lines.append(f"  graphics card {card.index} {card.name}: {shown}")
    lines += [f"  {p.pid:>8} {p.name:24} {p.memory_mb:8.0f} MB" for p in last.processes]
    return lines + [f"  → {line}" for line in advise(readings)]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("search")(search_command)
    app.command("compare")(compare_command)
    app.command("monitor")(monitor_command)
