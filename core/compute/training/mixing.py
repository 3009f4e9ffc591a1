"""A batch on its device, in pieces, and mixup. Source: H. Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR
2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.compute.training.arithmetic import Arithmetic, Outputs, loss_of


@dataclass(frozen=True, eq=False)
class Mixture:
    """Images ``(N, C, …)``, their targets, and where mixed the targets and share of the second images.

    ``targets`` are a tensor, or of several tasks a dict of tensors; ``text`` holds word pieces ``(N, L)``.
    """

    images: Tensor
    targets: Outputs
    others: Tensor | None = None
    share: float = 0.0
    text: Tensor | None = None

    @classmethod
    def of(cls, batch: Mapping[str, Any], device: torch.device | str | None = None) -> Mixture:
        """Return a batch of the loader, on a device where one is given."""
        images, targets, text = batch["image"], batch["target"], batch.get("text")
        if device is not None:
            images, targets = images.to(device), on_device(targets, device)
            text = None if text is None else text.to(device)
        return cls(images, targets, text=text)

    def piece(self, start: int, stop: int) -> Mixture:
        """Return some samples."""
        targets = (
            {task: one[start:stop] for task, one in self.targets.items()}
            if isinstance(self.targets, dict)
            else self.targets[start:stop]
        )
        others = None if self.others is None else self.others[start:stop]
        text = None if self.text is None else self.text[start:stop]
        return Mixture(self.images[start:stop], targets, others, self.share, text)

    def loss(self, network: nn.Module, loss: nn.Module, how: Arithmetic) -> Tensor:
        """Return the loss, the mean of those of both targets weighed by their shares where mixed."""
        first = loss_of(network, loss, self.images, self.targets, how, self.text)
        if self.others is None:
            return first
        second = loss_of(network, loss, self.images, self.others, how, self.text)
        return (1 - self.share) * first + self.share * second


def on_device(targets: Outputs, device: torch.device | str) -> Outputs:
    """Return targets on a device."""
    if isinstance(targets, dict):
        return {task: one.to(device) for task, one in targets.items()}
    return targets.to(device)


def mix(plain: Mixture, alpha: float, generator: torch.Generator) -> Mixture:
    """Blend each image with another of the batch; the share is drawn from Beta(alpha, alpha)."""
    assert isinstance(plain.targets, Tensor)
    seed = int(torch.randint(0, 2**62, (1,), generator=generator))
    share = float(_beta(alpha, seed))
    order = torch.randperm(len(plain.images), generator=generator).to(plain.images.device)
    images = torch.lerp(plain.images, plain.images[order], share)
    return Mixture(images, plain.targets, plain.targets[order], share)


def _beta(alpha: float, seed: int) -> float:
    import numpy as np

    return float(np.random.default_rng(seed).beta(alpha, alpha))
