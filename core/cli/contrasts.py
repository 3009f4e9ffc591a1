"""``--contrast NAME=…`` and ``--text FILE`` of ``run`` and ``predict``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from core.domain.errors import InputError

_MAX_TEXT_BYTES = 1 << 20

ContrastOption = Annotated[
    list[str] | None,
    typer.Option(
        "--contrast", help="NAME=SERIES or NAME=FILE of a model that takes several contrasts; once for each."
    ),
]
TextOption = Annotated[
    Path | None, typer.Option("--text", help="File with the report, for a model that reads one.")
]


def named(options: Sequence[str] | None) -> dict[str, str]:
    """Return name → value of ``NAME=VALUE`` options, in their order.

    Raises
    ------
    InputError
        ``run.contrast`` for an option without a name, or a name that stands there twice.
    """
    found: dict[str, str] = {}
    for option in options or ():
        name, equals, value = option.partition("=")
        if not equals or not name.strip() or name.strip() in found:
            raise InputError(
                "run.contrast",
                f"--contrast {name or option}: each contrast is named once, as NAME=VALUE.",
                "For example --contrast T1=… --contrast T2=….",
            )
        found[name.strip()] = value.strip()
    return found


def report_text(file: Path | None) -> str | None:
    """Return the text of a report's file.

    Raises
    ------
    InputError
        ``run.text`` when it can't be read, is larger than 1 MB or no UTF-8.
    """
    if file is None:
        return None
    try:
        if file.stat().st_size > _MAX_TEXT_BYTES:
            raise InputError("run.text", "The report is larger than 1 MB.", "Give the text of one report.")
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "run.text", "The report's file can't be read as UTF-8 text.", "Check the path and the encoding."
        ) from error
