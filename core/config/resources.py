"""Files that ship with the program, found in the source tree and in the frozen build alike."""

from __future__ import annotations

import sys
from pathlib import Path


def shipped_root() -> Path:
    """Return the folder that holds ``resources/`` and ``models/``: PyInstaller's, else the repository's."""
    frozen = getattr(sys, "_MEIPASS", None)
    return Path(frozen) if frozen else Path(__file__).resolve().parents[2]


def resource_path(relative: str | Path) -> Path:
    """Return the path of a shipped file or folder such as ``"themes/dark.toml"`` under ``resources/``.

    Raises
    ------
    FileNotFoundError
        If the file isn't shipped: a fault of the build.
    ValueError
        If ``relative`` leaves ``resources/``.
    """
    base = shipped_root() / "resources"
    path = base / relative
    if not path.resolve().is_relative_to(base.resolve()):
        raise ValueError(f"{relative} is not under resources/")
    if not path.exists():
        raise FileNotFoundError(f"resources/{relative} is not part of this build")
    return path


def shipped_bundles_dir() -> Path:
    """Return the folder of the model bundles that ship with the program."""
    return shipped_root() / "models" / "bundles"
