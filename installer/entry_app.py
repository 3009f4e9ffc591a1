"""The frozen application: the window; with a command's name first, the command line.

The command line lives in the worker executable, beside torch: this process stays light.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMANDS = frozenset(
    {"import", "list", "tags", "volume", "render", "models", "run", "explain", "predict", "decide"}
    | {"export", "audit", "phantom", "demo", "doctor", "train", "--help", "-h"}
)


def main() -> int:
    """Open the window, or hand a command to the worker executable."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        suffix = ".exe" if sys.platform == "win32" else ""
        worker = Path(sys.executable).with_name(f"overread-worker{suffix}")
        return subprocess.run([str(worker), "cli", *arguments], check=False).returncode
    from app.__main__ import main as open_window

    return int(open_window() or 0)


if __name__ == "__main__":
    sys.exit(main())
