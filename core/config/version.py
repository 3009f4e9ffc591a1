"""The program's version."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def app_version() -> str:
    """Return the installed version of Overread, ``"unknown"`` when run from an uninstalled tree."""
    try:
        return version("overread")
    except PackageNotFoundError:
        return "unknown"
