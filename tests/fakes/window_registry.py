"""The registry of the main window without a window."""

from __future__ import annotations

from unittest.mock import MagicMock

from app.actions.action import ActionRegistry
from app.actions.browser_actions import add_browser_actions
from app.actions.library_actions import RUNS, add_library_actions
from app.actions.picture_actions import add_object_actions, add_time_actions
from app.actions.training_actions import RUNS as TRAINING_RUNS
from app.actions.training_actions import add_training_actions
from app.actions.window_actions import (
    WINDOW_ACTIONS,
    add_model_actions,
    add_reading_actions,
    add_window_actions,
)


def full_registry() -> ActionRegistry:
    """Return every action of the window, bound to nothing."""
    registry = ActionRegistry()
    add_window_actions(registry, {entry.id: lambda: None for entry in WINDOW_ACTIONS})
    subjects = MagicMock()
    add_reading_actions(registry, subjects)
    add_model_actions(registry, subjects)
    add_browser_actions(registry, subjects)
    add_time_actions(registry, subjects.playback)
    add_object_actions(registry, subjects.derived, subjects.reading)
    add_library_actions(registry, subjects, dict.fromkeys(RUNS, lambda: None))
    add_training_actions(registry, subjects, dict.fromkeys(TRAINING_RUNS, lambda: None))
    return registry
