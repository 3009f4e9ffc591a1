"""The actions of the training screens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.actions.action import Action, ActionRegistry
from app.actions.window_actions import MODELS, PANELS
from app.presenters.training_desk import TrainingDesk

RUNS = ("panel.training", "training.improve", "training.follow", "training.compare", "training.monitor")
"""Actions that need the window: ``add_training_actions`` is told what they do."""


def add_training_actions(
    registry: ActionRegistry, desk: TrainingDesk, runs: Mapping[str, Callable[[], None]]
) -> None:
    """Add the actions; raises KeyError when ``runs`` misses one of ``RUNS``."""
    trainings = desk.runs

    def add(
        action_id: str,
        title: str,
        group: str,
        icon: str,
        run: Callable[[], None],
        when: Callable[[], bool] = lambda: True,
    ) -> None:
        registry.add(Action(action_id, title, group, run, icon, when))

    add("panel.training", "Training", PANELS, "training", runs["panel.training"])
    add("training.improve", "Improve a model…", MODELS, "training", runs["training.improve"])
    add("training.follow", "Follow the training", MODELS, "jobs", runs["training.follow"])
    add("training.compare", "Compare a candidate with its model", MODELS, "columns", runs["training.compare"])
    add("training.monitor", "How readers and models agree", MODELS, "verified", runs["training.monitor"])
    add(
        "training.pause",
        "Pause the training, or let it go on",
        MODELS,
        "pause",
        trainings.pause_or_resume_active,
        lambda: trainings.state.active is not None,
    )
