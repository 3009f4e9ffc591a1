"""The frozen application: the window; with a command's name first, the command line.

The command line lives in the worker executable, beside torch: this process stays light. On Windows this is a
program of the desktop, for which a shell doesn't wait: scripts call ``overread-worker cli COMMAND …`` there.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from child_environment import restore_library_path

COMMANDS = frozenset(
    {"import", "list", "tags", "volume", "render", "models", "run", "explain", "predict", "decide"}
    | {"export", "audit", "phantom", "demo", "doctor", "train", "watch", "--help"}
    | {"derived", "remove", "retention", "backup", "check", "evaluate", "finetune", "candidates", "promote"}
    | {"deploy", "rollback", "explore", "stats", "init", "search", "compare", "monitor"}
    | {"register", "registry", "serve", "engine"}
)
_ATTACH_PARENT_PROCESS = 0xFFFFFFFF


def main() -> int:
    """Open the window, or hand a command to the worker executable."""
    multiprocessing.freeze_support()
    restore_library_path()
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        return hand_over(arguments)
    from app.__main__ import main as open_window

    return int(open_window() or 0)


def hand_over(arguments: list[str]) -> int:
    """Run a command in the worker executable, on the caller's own standard streams.

    On POSIX the worker executable takes this process's place, so that a signal reaches the command itself.
    """
    suffix = ".exe" if sys.platform == "win32" else ""
    worker = str(Path(sys.executable).with_name(f"overread-worker{suffix}"))
    if sys.platform != "win32":
        os.execv(worker, [worker, "cli", *arguments])
    try:
        return subprocess.run(
            [worker, "cli", *arguments], check=False, creationflags=_console_flags()
        ).returncode
    except KeyboardInterrupt:
        return 130


def _console_flags() -> int:
    """Join the caller's console; without one, keep the child from opening a new window."""
    import ctypes

    attached = ctypes.windll.kernel32.AttachConsole(_ATTACH_PARENT_PROCESS)
    return 0 if attached else subprocess.CREATE_NO_WINDOW


if __name__ == "__main__":
    sys.exit(main())
