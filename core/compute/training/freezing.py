"""Freezing of the backbone, unfreezing stage by stage, and rates of their own."""

from __future__ import annotations

from typing import Any

from torch import nn

from core.recipes.schema import Adam, Adamax, AdamW, Freezing, Recipe, Sgd
from models.networks.parts import backbone_parameters, head_parameters, stages

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class Freezer:
    """Which parameters train in an epoch; normalisation in frozen stages keeps its statistics."""

    def __init__(self, network: nn.Module, settings: Freezing) -> None:
        self._network, self._settings = network, settings
        self._stages = stages(network) if settings.backbone else []

    def trained_stages(self, epoch: int) -> int:
        """Return how many stages of the backbone train in an epoch, counted from the head."""
        every = self._settings.unfreeze_every
        return 0 if every is None else min(len(self._stages), epoch // every)

    def apply(self, epoch: int, *, keep_gradients: bool = False) -> int | None:
        """Freeze what doesn't train in this epoch; returns the number of trained stages, None without freezing.

        With ``keep_gradients`` (distributed training, whose reducer needs the same gradients in every epoch) the frozen
        parameters get gradients that ``drop_gradients`` then forgets.
        """
        if not self._settings.backbone:
            return None
        free = self.trained_stages(epoch)
        first = len(self._stages) - free
        for index, stage in enumerate(self._stages):
            for parameter in stage.parameters:
                parameter.requires_grad_(index >= first or keep_gradients)
        self._frozen = self._stages[:first]
        self.freeze_statistics()
        return free

    def freeze_statistics(self) -> None:
        """Put normalisation of the frozen stages into evaluation mode."""
        for stage in getattr(self, "_frozen", []):
            for module in stage.modules:
                for part in module.modules():
                    if isinstance(part, _NORMS):
                        part.eval()

    def drop_gradients(self) -> None:
        """Forget the gradients of frozen parameters."""
        for stage in getattr(self, "_frozen", []):
            for parameter in stage.parameters:
                parameter.grad = None


def build_optimizer(recipe: Recipe, network: nn.Module, loss: nn.Module | None = None) -> Any:
    """Return the recipe's optimiser; the backbone's group has the rate times ``backbone_factor``.

    What the loss learns (weights of tasks) is a group of its own, without weight decay. Each group remembers its own
    full rate as ``full_rate``.
    """
    import torch

    settings = recipe.optimizer
    head, backbone = head_parameters(network), backbone_parameters(network)
    groups: list[dict[str, Any]] = []
    for parameters, factor in ((head, 1.0), (backbone, settings.backbone_factor)):
        if parameters:
            rate = settings.learning_rate * factor
            groups.append({"params": parameters, "lr": rate, "full_rate": rate})
    learnt = [] if loss is None else list(loss.parameters())
    if learnt:
        rate = settings.learning_rate
        groups.append({"params": learnt, "lr": rate, "full_rate": rate, "weight_decay": 0.0})
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if isinstance(settings, Sgd):
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.nesterov, **common)
    kinds: dict[type, Any] = {Adam: torch.optim.Adam, AdamW: torch.optim.AdamW, Adamax: torch.optim.Adamax}
    return kinds[type(settings)](groups, **common)
