"""``derived``: objects that were made from images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.options import HomeOption, JsonOption, engine_at
from core.cli.output import answer
from core.domain.errors import InputError

_SHOW = "show"
_LISTED_ITEMS = 200


def derived_command(
    words: Annotated[
        list[str], typer.Argument(help="SERIES_UID, or: show SOP_UID", metavar="SERIES_UID | show SOP_UID")
    ],
    over: Annotated[str, typer.Option("--over", help="Series that the object is shown over.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for NIfTI, JSON or PNG files (show).")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the segmentations, structures, reports … of a series, or show one of them."""
    if words[0] == _SHOW:
        if len(words) != 2:
            raise InputError("cli.usage", "One object can be shown.", "Write: overread derived show SOP_UID")
        show(words[1], over, out, home, as_json)
        return
    if len(words) != 1 or out is not None or over:
        raise InputError(
            "cli.usage", "One series can be listed.", "Write: overread derived SERIES_UID, or … show SOP_UID"
        )
    list_of_series(words[0], home, as_json)


def list_of_series(series_uid: str, home: Path | None, as_json: bool) -> None:
    """List what was made from a series, or what a derived series holds."""
    from core.services import derived_objects, export_derived

    with engine_at(home) as engine:
        headers = derived_objects.derived_of(engine, series_uid)
    document = {"objects": [export_derived.header_document(header) for header in headers]}

    def lines() -> list[str]:
        found = []
        for h in headers:
            found.append(f"{h.kind.value:8} {h.created:16} {h.label}  {h.sop_instance_uid}")
            found.extend(f"       ! {issue.message}" for issue in h.issues)
        return found or ["Nothing was made from this series."]

    answer(document, as_json, lines)


def show(sop_uid: str, over: str, out: Path | None, home: Path | None, as_json: bool) -> None:
    """Describe one object and write it."""
    from core.services import export_derived

    with engine_at(home) as engine:
        document = export_derived.show_derived(engine, sop_uid, over or None, out)
    answer(document, as_json, lambda: show_lines(document))


def show_lines(document: dict[str, Any]) -> list[str]:
    """Return an object's description for a person."""
    lines = [f"{document['kind']}: {document.get('title') or document['label']}"]
    lines += [f"  {document[key]}" for key in ("description", "maker", "created") if document[key]]
    lines += [f"  ! {issue['message']}" for issue in document["issues"]]
    for layer in document.get("layers", ()):
        for segment in layer["segments"]:
            volume = f"{segment['volume_ml']:.2f} ml"
            lines.append(f"  {segment['value']:4} {segment['label']}: {segment['voxels']} voxels, {volume}")
    for region in document.get("structures", ()):
        lines.append(f"  {region['number']:4} {region['name']}: {region['contours']} contours")
    for item in document.get("items", ())[:_LISTED_ITEMS]:
        text = " ".join(part for part in (item["value"], item["unit"]) if part)
        lines.append(f"  {'  ' * item['depth']}{item['name']}{': ' if item['name'] and text else ''}{text}")
    if document["kind"] == "kos":
        lines += [f"  image {image['sop_instance_uid']}" for image in document["images"]]
    for key in ("quantity", "unit", "min", "max", "pages", "unsupported", "annotations"):
        value = document.get(key)
        if value not in (None, "", []):
            lines.append(f"  {key}: {len(value) if key == 'annotations' else value}")
    return lines + [f"wrote {file}" for file in document.get("files", ())]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("derived")(derived_command)
