"""The frozen worker: serves jobs over its pipes; with ``cli`` first, the command line; with ``decode``, frames."""

from __future__ import annotations

import multiprocessing
import sys


def main() -> int:
    """Run the command line or serve jobs."""
    multiprocessing.freeze_support()
    if sys.argv[1:2] == ["cli"]:
        from core.cli.main import run

        return run(sys.argv[2:])
    if sys.argv[1:2] == ["decode"]:
        from core.dicom.decoder_process import main as decode

        return decode()
    from core.worker.__main__ import main as serve

    return int(serve() or 0)


if __name__ == "__main__":
    sys.exit(main())
