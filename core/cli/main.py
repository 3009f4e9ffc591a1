"""Entry point of ``overread``.

Without arguments it opens the window (as a process of its own: the command line itself never loads a GUI
library). Exit status: 0 done, 1 refused, 2 usage, 3 a bug of ours.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import typer

from core.cli import (
    deploy_command,
    derived_commands,
    engine_commands,
    evaluate_command,
    experiment_commands,
    finetune_commands,
    import_commands,
    keeping_commands,
    library_commands,
    model_commands,
    recipe_commands,
    registry_commands,
    review_commands,
    serve_command,
    system_commands,
    train_command,
)
from core.cli.output import EXIT_USAGE, refuse, tell
from core.config.logs import places, quiet_library_warnings, told
from core.domain.errors import AppError, BugError

app = typer.Typer(
    name="overread",
    help="Clinical review: read studies, run and explain models, record verdicts, send results back. "
    "For research and review support; not for primary diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
library_commands.register(app)
keeping_commands.register(app)
import_commands.register(app)
derived_commands.register(app)
model_commands.register(app)
review_commands.register(app)
system_commands.register(app)
train_command.register(app)
evaluate_command.register(app)
deploy_command.register(app)
recipe_commands.register(app)
finetune_commands.register(app)
experiment_commands.register(app)
serve_command.register(app)
registry_commands.register(app)
engine_commands.register(app)


def open_window() -> int:
    """Start the GUI process and wait for it."""
    executable = Path(sys.executable)
    command = [str(executable), "-m", "app"]
    if getattr(sys, "frozen", False):
        command = [str(executable.with_name(f"overread{executable.suffix}"))]
    return subprocess.run(command, check=False).returncode


def hush_third_parties() -> None:
    """Keep libraries from printing values of DICOM elements: their texts may quote a patient's data."""
    quiet_library_warnings()
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def report_bug(error: BaseException, as_json: bool) -> int:
    """Log and print where an unexpected error arose, without its text (it may hold identity)."""
    frames = places((type(error), error, error.__traceback__))
    logging.getLogger("core.cli").error("unexpected %s", told(error), exc_info=error)
    where = frames[-1] if frames else "unknown place"
    return refuse(
        BugError("bug.unexpected", f"Unexpected {told(error)} at {where}.", "Report this place."), as_json
    )


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return (and, as console script, exit with) its status."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        return open_window()
    hush_third_parties()
    as_json = "--json" in given
    try:
        status = app(given, standalone_mode=False)
    except AppError as error:
        return refuse(error, as_json)
    except KeyboardInterrupt:
        tell("overread: stopped.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: translated, logged, never swallowed
        if _is_usage_error(error):
            tell(f"overread: {error.format_message()}\nTry: overread --help")  # type: ignore[attr-defined]
            return EXIT_USAGE
        return report_bug(error, as_json)
    return int(status or 0)


def _is_usage_error(error: Exception) -> bool:
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


if __name__ == "__main__":
    sys.exit(run())
