"""Mixup of a batch. Source: H. Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mixture:
    """Images ``(N, C, …)``, their targets, and where mixed the targets and share of the second images."""

    images: Tensor
    targets: Tensor
    others: Tensor | None = None
    share: float = 0.0

    def piece(self, start: int, stop: int) -> Mixture:
        """Return some samples."""
        others = None if self.others is None else self.others[start:stop]
        return Mixture(self.images[start:stop], self.targets[start:stop], others, self.share)

    def loss(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the loss, the mean of those of both targets weighed by their shares where mixed."""
        if self.others is None:
            return loss(self.images, self.targets)
        return (1 - self.share) * loss(self.images, self.targets) + self.share * loss(
            self.images, self.others
        )


def mix(plain: Mixture, alpha: float, generator: torch.Generator) -> Mixture:
    """Blend each image with another of the batch; the share is drawn from Beta(alpha, alpha)."""
    seed = int(torch.randint(0, 2**62, (1,), generator=generator))
    share = float(_beta(alpha, seed))
    order = torch.randperm(len(plain.images), generator=generator).to(plain.images.device)
    images = torch.lerp(plain.images, plain.images[order], share)
    return Mixture(images, plain.targets, plain.targets[order], share)


def _beta(alpha: float, seed: int) -> float:
    import numpy as np

    return float(np.random.default_rng(seed).beta(alpha, alpha))
