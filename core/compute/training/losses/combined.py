"""Losses of several losses: a weighted sum, and several tasks weighed by their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Combined(nn.Module):
    """Weighted sum of losses of one task.

    Parameters
    ----------
    losses : sequence of torch.nn.Module
        Each called with logits and target.
    weights : sequence of float
        As many.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        if not losses or len(losses) != len(weights):
            raise ValueError(f"{len(losses)} losses with {len(weights)} weights can't be combined")
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(float(weight) for weight in weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the weighted losses."""
        terms = [
            weight * loss(logits, target) for weight, loss in zip(self.weights, self.losses, strict=True)
        ]
        return torch.stack(terms).sum()


class UncertaintyWeighted(nn.Module):
    """Losses of several tasks, each divided by a learned variance: ``Σ ½ (e^(−s) L + s)``, ``s = log σ²``.

    Parameters
    ----------
    losses : mapping of str to torch.nn.Module
        Task name to loss; every loss must be at least 0 (no boundary loss alone), else σ² falls to 0.

    Notes
    -----
    At the optimum σ² is the task's loss. ``log_variances`` (T,) are parameters: give them to the optimiser,
    without weight decay. Source: A. Kendall, Y. Gal, R. Cipolla, "Multi-Task Learning Using Uncertainty to
    Weigh Losses for Scene Geometry and Semantics", CVPR 2018, equation 7; its form for classification differs
    by a factor of two, which the variance takes in.
    """

    def __init__(self, losses: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("no task is given")
        self.tasks = tuple(losses)
        self.losses = nn.ModuleList(losses.values())
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return the weighed sum; logits and targets by task name."""
        pairs = zip(self.tasks, self.losses, strict=True)
        return self.weigh(torch.stack([loss(outputs[task], targets[task]) for task, loss in pairs]))

    def weigh(self, losses: Tensor) -> Tensor:
        """Return the weighed sum of the tasks' losses ``(T,)``."""
        logs = self.log_variances.to(losses.dtype)
        return 0.5 * (torch.exp(-logs) * losses + logs).sum()

    def variances(self) -> dict[str, float]:
        """Return σ² by task, for the log."""
        values = self.log_variances.detach().exp().tolist()
        return dict(zip(self.tasks, values, strict=True))
