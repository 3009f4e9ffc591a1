"""Losses and transforms that other installed packages bring, by entry point group and name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from core.domain.errors import EnvironmentFault


def plugin_names(group: str) -> tuple[str, ...]:
    """Return the names that installed packages bring for a group, sorted; nothing is imported."""
    return tuple(sorted(entry_points(group=group).names))


def load_plugin(group: str, name: str) -> Any:
    """Return the callable that an entry point names; the first one when several packages bring the name.

    Raises
    ------
    EnvironmentFault
        ``training.plugin`` when it isn't there, can't be imported or can't be called.
    """
    try:
        loaded = next(iter(entry_points(group=group, name=name))).load()
    except Exception as error:
        raise EnvironmentFault(
            "training.plugin",
            f"“{name}” of {group} can't be loaded ({type(error).__name__}).",
            "Reinstall the package that brings it.",
        ) from error
    if not callable(loaded):
        raise EnvironmentFault(
            "training.plugin",
            f"“{name}” of {group} can't be called.",
            "Reinstall the package that brings it.",
        )
    return loaded
