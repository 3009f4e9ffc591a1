"""``list``, ``tags``, ``volume`` and ``render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.cli.documents import study_document
from core.cli.options import HomeOption, JsonOption, engine_at
from core.cli.output import answer
from core.domain.errors import InputError
from core.domain.window import Window
from core.services import list_studies, load_volume, read_tags, render


def list_command(
    query: Annotated[str, typer.Option("--query", help="Text to look for.")] = "",
    modality: Annotated[str, typer.Option("--modality", help="CT, MR, DX …")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the studies of the library."""
    with engine_at(home) as engine:
        studies = list_studies.list_studies(engine, query, modality)
    answer(
        {"studies": [study_document(s) for s in studies]},
        as_json,
        lambda: (
            [
                f"{s.pseudonym}  {'/'.join(s.modalities):8} {s.status:11} {s.description}  {s.study_uid}"
                for s in studies
            ]
            or ["No studies. Import some with: overread import PATH"]
        ),
    )


def tags_command(
    instance_or_file: Annotated[str, typer.Argument(help="SOP Instance UID in the library, or a file.")],
    query: Annotated[str, typer.Option("--query", help="Part of a tag, keyword or value.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the DICOM elements of an instance."""
    with engine_at(home) as engine:
        elements = read_tags.read_tags(engine, instance_or_file, query)
    answer(
        {"elements": elements},
        as_json,
        lambda: [
            f"{'  ' * int(e['depth'])}{e['tag']} {e['vr']:2} {e['keyword']:36} {e['value']}" for e in elements
        ],
    )


def volume_command(
    series_uid: Annotated[str, typer.Argument()],
    out: Annotated[Path, typer.Option("--out", help="NIfTI file to write (.nii or .nii.gz).")],
    time_point: Annotated[int, typer.Option("--time-point", help="Which time point, from 0.")] = 0,
    suv: Annotated[bool, typer.Option("--suv", help="PET as SUV by body weight.")] = False,
    as_acquired: Annotated[
        bool, typer.Option("--as-acquired", help="Don't straighten gantry tilt or irregular spacing.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the assembled volume as NIfTI, geometry and units kept."""
    with engine_at(home) as engine:
        document = load_volume.export_volume(
            engine, series_uid, out, time_point=time_point, suv=suv, correct=not as_acquired
        )
    answer(document, as_json, lambda: [f"{k}: {v}" for k, v in document.items()])


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``WxH``."""
    try:
        width, height = (int(n) for n in text.lower().split("x"))
    except ValueError as error:
        raise InputError(
            "render.size", f"Size {text!r} is not of the form 1280x800.", "Give width x height."
        ) from error
    if not (64 <= width <= 8192 and 64 <= height <= 8192):
        raise InputError(
            "render.size", f"Size {text} is outside 64…8192 pixels.", "Give a smaller or larger size."
        )
    return width, height


def render_command(
    series_uid: Annotated[str, typer.Argument()],
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")],
    layout: Annotated[str, typer.Option("--layout", help="stack, mpr or 3d.")] = "stack",
    slice_number: Annotated[int | None, typer.Option("--slice", help="Slice index k, from 0.")] = None,
    window: Annotated[tuple[float, float] | None, typer.Option("--window", help="Centre and width.")] = None,
    result: Annotated[str, typer.Option("--result", help="Result whose segments are drawn.")] = "",
    heatmap: Annotated[str, typer.Option("--heatmap", help="METHOD:CLASS of a stored explanation.")] = "",
    time_point: Annotated[int, typer.Option("--time-point", help="Which time point, from 0.")] = 0,
    size: Annotated[str, typer.Option("--size", help="Pixels, WxH.")] = "1280x960",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a series off-screen as the viewer does."""
    with engine_at(home) as engine:
        document = render.render(
            engine,
            series_uid,
            layout=layout,
            slice=slice_number,
            window=Window(*window) if window else None,
            result_id=result or None,
            heatmap=heatmap or None,
            time_point=time_point,
            size=parse_size(size),
            out=out,
        )
    answer(document, as_json, lambda: [f"wrote {out}"])


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("list")(list_command)
    app.command("tags")(tags_command)
    app.command("volume")(volume_command)
    app.command("render")(render_command)
