"""The frozen worker: serves jobs over its pipes.

The first word may ask for something else: ``cli`` the command line, ``decode`` frames, ``pages`` of documents,
``scan`` headers, ``import-process`` imports for the window.
"""

from __future__ import annotations

import multiprocessing
import sys

from child_environment import restore_library_path


def main() -> int:
    """Run the command line or serve jobs."""
    multiprocessing.freeze_support()
    restore_library_path()
    if sys.argv[1:2] == ["cli"]:
        return run_command(sys.argv[2:])
    if sys.argv[1:2] == ["decode"]:
        from core.dicom.decoder_process import main as decode

        return decode()
    if sys.argv[1:2] == ["pages"]:
        from core.dicom.derived.page_process import main as draw_pages

        return draw_pages()
    if sys.argv[1:2] == ["scan"]:
        from core.dicom.scanner_process import main as scan

        return scan()
    if sys.argv[1:2] == ["import-process"]:
        from core.worker.importer import main as serve_imports

        return int(serve_imports(sys.argv[2:]))
    if sys.argv[1:2] == ["train-process"]:
        from core.worker.trainer import main as serve_trainings

        return int(serve_trainings(sys.argv[2:]))
    from core.worker.dispatch import Dispatcher
    from core.worker.entry import main as serve

    return int(serve(Dispatcher()) or 0)


def run_command(arguments: list[str]) -> int:
    """Run a command of the command line; training, measuring and serving models aren't part of a frozen build."""
    if arguments[:1] in (["train"], ["search"], ["evaluate"], ["serve"]) and "--help" not in arguments:
        return refuse_training("--json" in arguments)
    from core.cli.main import run

    return run(arguments)


def refuse_training(as_json: bool) -> int:
    """Say why, and where training is possible."""
    from core.cli.output import refuse
    from core.domain.errors import EnvironmentFault

    error = EnvironmentFault(
        "train.not_in_this_build",
        "This build reads studies and runs models; it can't train, measure or serve them.",
        "Install Overread with pip (overread[train], overread[serve]) and do it there.",
    )
    return refuse(error, as_json)


if __name__ == "__main__":
    sys.exit(main())
