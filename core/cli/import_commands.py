"""``import`` and ``watch``."""

from __future__ import annotations

import getpass
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from core.cli.documents import import_document
from core.cli.options import HomeOption, JsonOption, engine_at
from core.cli.output import TerminalProgress, answer, tell
from core.domain.errors import AppError, InputError
from core.domain.study import ImportReport
from core.services import import_study
from core.services.engine import Engine
from core.services.watch_folders import FolderWatch

_FROM_STDIN = "-"


def import_command(
    paths: Annotated[list[Path], typer.Argument(help="Folder, file, DICOMDIR, ZIP, NIfTI or picture.")],
    link: Annotated[
        bool, typer.Option("--link", help="Leave the files where they are (the default).")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files into the library.")] = False,
    password: Annotated[
        str | None,
        typer.Option("--password", help="Of encrypted ZIP archives; - reads it from standard input."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import studies into the library."""
    if link and copy:
        raise InputError("import.mode", "Both --link and --copy were given.", "Choose one of them.")
    missing = [p for p in paths if not p.exists()]
    if missing:
        raise InputError(
            "import.not_found",
            f"{len(missing)} of {len(paths)} paths do not exist.",
            "Check the spelling of the path.",
        )
    secret = read_password() if password == _FROM_STDIN else password
    with engine_at(home) as engine:
        report = import_study.import_paths(
            engine,
            paths,
            mode="copy" if copy else "link",
            progress=TerminalProgress(),
            cancel=None,
            password=secret,
        )
    answer(import_document(report), as_json, lambda: report_lines(report))


def watch_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders to watch with everything below.")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files into the library.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")
    ] = 5.0,
    once: Annotated[
        bool, typer.Option("--once", help="Take what is complete now and stop, instead of watching on.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import what arrives in folders, once it is complete, until interrupted. With --json a document per import."""
    absent = [folder for folder in folders if not folder.is_dir()]
    if absent:
        raise InputError(
            "watch.not_a_folder",
            f"{len(absent)} of {len(folders)} paths are no folders.",
            "Give folders that exist.",
        )
    with engine_at(home) as engine:
        watch_with(engine, folders, "copy" if copy else "link", interval_s, once=once, as_json=as_json)


def watch_with(
    engine: Engine, folders: Sequence[Path], mode: str, interval_s: float, *, once: bool, as_json: bool
) -> None:
    """Watch folders in this thread."""

    def take(files: Sequence[Path]) -> None:
        report = import_study.import_paths(engine, files, mode=mode)
        answer(import_document(report), as_json, lambda: report_lines(report))

    watch = FolderWatch([folder.absolute() for folder in folders], interval_s, take)
    pause = threading.Event()
    tell(f"watching {len(folders)} folder(s); Ctrl+C stops")
    watch.look()
    while True:
        pause.wait(interval_s)
        try:
            watch.look()
        except AppError as error:
            tell(f"overread: {error.user_message}")
        if once:
            return


def read_password() -> str:
    """Read a password from standard input; a terminal doesn't show it."""
    if sys.stdin.isatty():
        return getpass.getpass("Password of the archive: ")
    return sys.stdin.readline().rstrip("\r\n")


def report_lines(report: ImportReport) -> list[str]:
    """Return what an import did, for a person."""
    out = []
    for study in report.studies:
        out.append(f"{study.pseudonym}  {study.description or 'study'}  {study.study_uid}")
        for s in study.series:
            size = "x".join(str(n) for n in s.shape_kji) if s.shape_kji else f"{s.instances} instances"
            out.append(f"  {s.modality:4} {size:14} {s.kind.value:7} {s.description}  {s.key}")
            out.extend(f"       ! {issue.message}" for issue in s.issues)
    out.append(
        f"{report.already_present} already present, {len(report.skipped)} skipped, {report.seconds:.1f} s"
    )
    out.extend(f"  skipped {s.file}: {s.message}" for s in report.skipped)
    return out


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("import")(import_command)
    app.command("watch")(watch_command)
