"""Cross-entropy plus soft Dice: the loss of the shipped segmentations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from core.compute.training.losses.convention import class_logits, labels_of, weights_tensor


class DiceCrossEntropy(torch.nn.Module):
    """Cross-entropy plus soft Dice over the classes that occur in the batch.

    Parameters
    ----------
    dice_weight : float
        Weight of the Dice term.
    class_weights : torch.Tensor, sequence of float or None
        Weights of the cross-entropy.

    Notes
    -----
    Dice is computed over the whole batch (numerator and denominator summed first), class 0 left out.
    Source: F. Milletari et al., V-Net, 2016 (soft Dice); F. Isensee et al., nnU-Net, 2021 (the sum).
    """

    class_weights: Tensor | None

    def __init__(
        self, dice_weight: float = 1.0, class_weights: Tensor | Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.register_buffer("class_weights", weights_tensor(class_weights))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits against ``(N, …)`` int64 labels."""
        target = labels_of(logits, target)
        log_probabilities = torch.log_softmax(class_logits(logits), dim=1)
        weights = None if self.class_weights is None else self.class_weights.to(log_probabilities.dtype)
        entropy = functional.nll_loss(log_probabilities, target, weight=weights)
        if self.dice_weight == 0:
            return entropy
        return entropy + self.dice_weight * soft_dice_loss(log_probabilities.exp(), target)


def soft_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return 1 − mean soft Dice over the foreground classes that occur in ``target``."""
    classes = probabilities.shape[1]
    flat = probabilities.transpose(0, 1).reshape(classes, -1)
    labels = target.reshape(-1)
    onehot = torch.zeros_like(flat).scatter_(0, labels[None], 1.0)
    intersection = (flat * onehot).sum(dim=1)
    count = onehot.sum(dim=1)
    dice = (2 * intersection + 1.0) / (flat.sum(dim=1) + count + 1.0)
    present = (count > 0).to(dice.dtype)
    present[0] = 0
    return 1.0 - (dice * present).sum() / present.sum().clamp(min=1)
