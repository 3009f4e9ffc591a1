"""``overread explore``, ``stats`` and ``init``: looking at a data set before anything is trained.

What reads images loads when one of them runs: every other command starts without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from core.cli.options import HomeOption, JsonOption, OutFolder
from core.cli.output import TerminalProgress, answer, tell
from core.domain.errors import InputError

if TYPE_CHECKING:
    from core.recipes.proposal import Proposal
    from core.recipes.statistics import Statistics

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
    from core.cli.data_sets import explored

    del home
    document = explored(data, out, recipe, overrides or [], TerminalProgress())
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
        "statistics.json"
    ),
    overrides: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mean and deviation of the training part: show them, save them, or check that saved ones are of this data."""
    from core.cli.data_sets import measured

    del home
    statistics = measured(data, recipe, overrides or [], mode, file, TerminalProgress())
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
    from core.cli.data_sets import proposed, write_recipe
    from core.recipes.draft import draft_recipe
    from core.recipes.load import parse_recipe

    del home
    ask = not (yes or as_json)
    if data is None:
        if not ask:
            raise InputError("init.no_data", "There is no data folder to look at.", "Give it with --data.")
        data = Path(typer.prompt("Data folder", err=True))
    proposal = proposed(data, task)
    network = network or _network(proposal, ask=ask)
    name = data.resolve().name
    if ask:
        name = typer.prompt("Name of the recipe", default=name, err=True)
    document = draft_recipe(proposal, name, network)
    recipe = parse_recipe(document)
    file = out or Path(f"{recipe.name}.yaml")
    if out is None and ask:
        file = Path(typer.prompt("File", default=str(file), err=True))
    _require_free(file, replace=yes, ask=ask)
    write_recipe(file, document)
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
    from core.recipes.draft import fitting_networks, usual_network

    usual = usual_network(proposal)
    if not ask:
        return usual
    tell(f"Networks: {', '.join(fitting_networks(proposal.task, proposal.spatial_dims))}")
    return str(typer.prompt("Network", default=usual, err=True))


def _require_free(file: Path, *, replace: bool, ask: bool) -> None:
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise InputError("init.file", f"“{file.name}” doesn't end in .yaml.", "Choose a name that does.")
    if file.exists() and not replace and not (ask and typer.confirm(f"Replace {file.name}?", err=True)):
        raise InputError(
            "init.exists", f"“{file.name}” exists already.", "Choose another name, or give --yes."
        )
