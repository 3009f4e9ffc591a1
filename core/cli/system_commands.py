"""``phantom``, ``demo`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.options import HomeOption, JsonOption, OutFolder
from core.cli.output import EXIT_REFUSED, TerminalProgress, answer
from core.domain.errors import InputError
from core.services import doctor


def phantom_command(
    kind: Annotated[str, typer.Argument(help="ct-thorax, mr-brain or cxr.")],
    out: OutFolder,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. slice_thickness_mm=2.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a synthetic DICOM study with its ground truth as DICOM SEG."""
    del home
    from core.services import make_phantom

    document = make_phantom.make_phantom(kind, out, seed=seed, **parse_settings(settings or []))
    answer(document, as_json, lambda: [f"{k}: {v}" for k, v in document.items() if k != "files"])


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Parse ``key=value`` pairs; numbers become numbers."""
    out: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InputError(
                "cli.setting", f"{pair!r} is not of the form key=value.", "Write --set key=value."
            )
        value: Any = text
        for convert in (int, float):
            try:
                value = convert(text)
                break
            except ValueError:
                continue
        if text.lower() in ("true", "false"):
            value = text.lower() == "true"
        out[key] = value
    return out


def demo_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder that receives what the demonstration writes.")
    ] = Path("overread-demo"),
    seed: Annotated[int, typer.Option("--seed")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do the main job on the embedded sample: import, run, explain, decide, export, verify, draw, train."""
    from core.cli.demo_training import train_on_reports
    from core.services import demo

    document = demo.run_demo(
        out, home=home, seed=seed, progress=TerminalProgress(), training=train_on_reports
    )

    def lines() -> list[str]:
        rows = [
            f"{step['step']:10} {step['seconds']:6.1f} s  {step['summary']}" for step in document["steps"]
        ]
        rows += [f"{f['kind']:14} {f['path']}" for f in document["files"]]
        audit = document["audit"]
        rows.append(f"audit: {audit['events']} events, {'chain intact' if audit['ok'] else 'BROKEN'}")
        rows.append(f"everything lies in {document['out']}")
        return rows

    answer(document, as_json, lines)
    if not document["ok"]:
        raise typer.Exit(EXIT_REFUSED)


def doctor_command(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check processor, memory, disk, display, codecs, database and models, with remedies."""
    report = doctor.examine(home)

    def lines() -> list[str]:
        rows = []
        for check in report["checks"]:
            rows.append(f"{check['status']:4} {check['name']:18} {check['detail']}")
            if check["remedy"]:
                rows.append(f"     {'':18} -> {check['remedy']}")
        return rows

    answer(report, as_json, lines)
    if not report["ok"]:
        raise typer.Exit(EXIT_REFUSED)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("phantom")(phantom_command)
    app.command("demo")(demo_command)
    app.command("doctor")(doctor_command)
