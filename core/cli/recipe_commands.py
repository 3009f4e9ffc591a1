"""``overread explore``, ``stats`` and ``init``: looking at a data set before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from core.cli.options import HomeOption, JsonOption, OutFolder
from core.cli.output import TerminalProgress, answer, tell
from core.domain.errors import InputError
from core.recipes.cases import Case, Part
from core.recipes.draft import draft_recipe, fitting_networks, usual_network
from core.recipes.explore.page import write_report
from core.recipes.explore.report import explore
from core.recipes.load import load_recipe, parse_recipe
from core.recipes.proposal import Proposal, propose
from core.recipes.reading import read_case
from core.recipes.schema import Recipe
from core.recipes.sources.registry import list_cases
from core.recipes.splits import split_cases
from core.recipes.statistics import (
    STATISTICS_FILE,
    Statistics,
    read_statistics,
    save_statistics,
    training_statistics,
    verify_statistics,
)
from core.recipes.thumbnails import picture_thumbnail
from core.recipes.yaml_text import write_yaml

DataArgument = Annotated[Path, typer.Argument(help="The data folder.")]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="A shipped recipe's name or a path; else it is read off the folder."),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override: data.split.test=0.2")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("explore")(explore_command)
    app.command("stats")(stats_command)
    app.command("init")(init_command)


def explore_command(
    data: DataArgument,
    out: OutFolder = Path("explore"),
    recipe: RecipeOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report on a data set: counts, division, geometry, values, pictures, duplicates."""
    del home
    chosen, notes = _recipe(data, recipe, overrides or [])
    labels = {label.value: label.name for label in chosen.bundle.labels}
    report = explore(
        data,
        chosen.data,
        chosen.seed,
        labels,
        name=data.resolve().name,
        notes=notes,
        progress=TerminalProgress(),
    )
    files = write_report(report, out)
    document = {**report.document(), "files": [{"kind": kind, "path": path} for kind, path in files.items()]}
    answer(document, as_json, lambda: _explored(document))


def _explored(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['cases']} cases of {document['patients']} patients"]
    lines += [f"  {one['name']}: {one['cases']} cases" for one in document["classes"]]
    lines += [f"  {part}: {one['cases']} cases" for part, one in document["parts"].items()]
    lines += [f"! {warning}" for warning in document["warnings"]]
    return [*lines, *(str(one["path"]) for one in document["files"])]


def stats_command(
    data: DataArgument,
    recipe: RecipeOption = None,
    mode: Annotated[
        Literal["display", "save", "verify"], typer.Option("--mode", help="display, save or verify.")
    ] = "display",
    file: Annotated[Path, typer.Option("--file", help="Where they are saved and verified.")] = Path(
        STATISTICS_FILE
    ),
    overrides: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mean and deviation of the training part: show them, save them, or check that saved ones are of this data."""
    del home
    chosen, _ = _recipe(data, recipe, overrides or [])
    cases = list_cases(chosen.data.source, data, chosen.data.channels, chosen.data.missing)
    split = split_cases(cases, chosen.data.split, chosen.seed, picture_thumbnail)
    training = split.parts[Part.TRAIN]
    if mode == "verify":
        statistics = read_statistics(file)
        verify_statistics(statistics, training)
    else:

        def values(case: Case) -> dict[str, Any]:
            return {name: volume.voxels for name, volume in read_case(case, chosen.data).volumes.items()}

        statistics = training_statistics(
            chosen.name, training, chosen.data.channels, values, progress=TerminalProgress()
        )
        if mode == "save":
            save_statistics(file, statistics)
    document = {**statistics.document(), "mode": mode, "verified": mode == "verify"}
    document |= {"file": file} if mode != "display" else {}
    answer(document, as_json, lambda: _measured(statistics, mode, file))


def _measured(statistics: Statistics, mode: str, file: Path) -> list[str]:
    lines = [f"Training part: {statistics.cases} cases"]
    for name, one in statistics.channels.items():
        low, high = one.normalised_range
        lines.append(
            f"  {name}: mean {one.mean:.6g}, deviation {one.std:.6g}, range {one.minimum:g} … {one.maximum:g}, "
            f"normalised {low:.2f} … {high:.2f}"
        )
    lines += [f"! {warning}" for warning in statistics.warnings()]
    done = {"save": f"Saved: {file}", "verify": f"Verified: {file} is of this training part."}
    return [*lines, done.get(mode, statistics.constants())]


def init_command(
    data: Annotated[Path | None, typer.Option("--data", help="The data folder.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="classification or segmentation.")] = None,
    network: Annotated[str | None, typer.Option("--network", help="Name of a network.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The recipe file to write (.yaml).")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take every proposal; replace an existing file.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a recipe for a data folder, step by step; with --yes without questions."""
    del home
    ask = not (yes or as_json)
    if data is None:
        if not ask:
            raise InputError("init.no_data", "There is no data folder to look at.", "Give it with --data.")
        data = Path(typer.prompt("Data folder", err=True))
    proposal = propose(data)
    if task is not None and task != proposal.task:
        raise InputError(
            "init.task",
            f"“{data.name}” is laid out for {proposal.task}, not for {task}.",
            "Leave --task out, or lay the data out for it.",
        )
    for line in _described(proposal):
        tell(line)
    network = network or _network(proposal, ask=ask)
    name = (
        typer.prompt("Name of the recipe", default=data.resolve().name, err=True)
        if ask
        else data.resolve().name
    )
    document = draft_recipe(proposal, name, network)
    recipe = parse_recipe(document)
    file = out or Path(f"{recipe.name}.yaml")
    if out is None and ask:
        file = Path(typer.prompt("File", default=str(file), err=True))
    _write(file, document, replace=yes, ask=ask)
    told = {
        "file": file,
        "name": recipe.name,
        "task": recipe.task,
        "network": network,
        "source": proposal.source["name"],
        "notes": list(proposal.notes),
    }
    answer(told, as_json, lambda: [f"Written: {file}", f"Train it with: overread train {file} --data {data}"])


def _network(proposal: Proposal, *, ask: bool) -> str:
    usual = usual_network(proposal)
    if not ask:
        return usual
    tell(f"Networks: {', '.join(fitting_networks(proposal.task, proposal.spatial_dims))}")
    return str(typer.prompt("Network", default=usual, err=True))


def _described(proposal: Proposal) -> list[str]:
    k, j, i = proposal.size_kji
    size = f"{i} × {j}" + (f" × {k}" if k > 1 else "")
    names = ", ".join(name for _, name in proposal.labels[:12]) + (" …" if len(proposal.labels) > 12 else "")
    lines = [f"Task: {proposal.task} ({proposal.spatial_dims}-D), source {proposal.source['name']}"]
    lines += [f"Labels: {names}", f"Size of the images: {size}"]
    if proposal.channels != ("image",):
        lines.append(f"Channels: {', '.join(proposal.channels)}")
    return [*lines, *(f"! {note}" for note in proposal.notes)]


def _write(file: Path, document: dict[str, Any], *, replace: bool, ask: bool) -> None:
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise InputError("init.file", f"“{file.name}” doesn't end in .yaml.", "Choose a name that does.")
    if file.exists() and not replace and not (ask and typer.confirm(f"Replace {file.name}?", err=True)):
        raise InputError(
            "init.exists", f"“{file.name}” exists already.", "Choose another name, or give --yes."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    text = (
        "# Every setting that isn't here has its default; `overread train --set name=value` overrides any.\n"
    )
    file.write_text(text + write_yaml(document), encoding="utf-8")
    load_recipe(file)


def _recipe(data: Path, recipe: str | None, overrides: list[str]) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe that is named, or one that fits the folder, with what a person should know of it."""
    if recipe is not None:
        return load_recipe(recipe, overrides), ()
    proposal = propose(data)
    return parse_recipe(draft_recipe(proposal, data.resolve().name), overrides), proposal.notes


__all__ = ["explore_command", "init_command", "register", "stats_command"]
