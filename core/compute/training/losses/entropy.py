"""Losses of each pixel's or picture's own probability: cross-entropy, focal, binary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.compute.training.losses.convention import class_logits, labels_of, precise, weights_tensor


class CrossEntropy(nn.Module):
    """Mean of −log p of the right class.

    Parameters
    ----------
    class_weights : sequence of float, optional
        One per class; the mean is weighted by them.
    label_smoothing : float
        Part of the target that is spread evenly over the classes.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", weights_tensor(class_weights))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits against ``(N, …)`` labels."""
        labels, logits = labels_of(logits, target), class_logits(logits)
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        return functional.cross_entropy(logits, labels, weights, label_smoothing=self.label_smoothing)


class WeightedCrossEntropy(CrossEntropy):
    """Cross-entropy whose class weights must be given."""

    def __init__(self, class_weights: Sequence[float], label_smoothing: float = 0.0) -> None:
        super().__init__(class_weights, label_smoothing)


class Focal(nn.Module):
    """Mean of ``−w (1 − p)^γ log p`` of the right class: what is right already counts little.

    Parameters
    ----------
    gamma : float
        0 is cross-entropy.
    class_weights : sequence of float, optional
        The paper's α, one per class; the mean is weighted by them, as in cross-entropy.

    Notes
    -----
    Source: T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. Written here because
    MONAI's averages over the classes too and computes in float32 only.
    """

    class_weights: Tensor | None

    def __init__(self, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("class_weights", weights_tensor(class_weights))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits against ``(N, …)`` labels."""
        labels = labels_of(logits, target)
        log_right = torch.log_softmax(class_logits(logits), dim=1).gather(1, labels[:, None])[:, 0]
        # Kept off 0, where a power below 1 has no finite slope.
        wrong = (1.0 - log_right.exp()).clamp(min=1e-7)
        loss = -(wrong**self.gamma) * log_right
        if self.class_weights is None:
            return loss.mean()
        weights = self.class_weights.to(loss.dtype)[labels]
        return (weights * loss).sum() / weights.sum()


class BinaryCrossEntropy(nn.Module):
    """Mean of each channel's binary cross-entropy: findings that may occur together.

    Parameters
    ----------
    positive_weights : sequence of float, optional
        One per channel: how much more a positive counts.

    Notes
    -----
    The target is ``(N, C, …)`` of 0 and 1, or labels ``(N, …)``: with one channel 0 and 1, with more the
    channel that is positive.
    """

    positive_weights: Tensor | None

    def __init__(self, positive_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.register_buffer("positive_weights", weights_tensor(positive_weights))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits."""
        logits = precise(logits)
        channels = logits.shape[1]
        if target.shape == logits.shape:
            truth = target.to(logits.dtype)
        elif channels == 1:
            truth = labels_of(logits, target)[:, None].to(logits.dtype)
        else:
            truth = functional.one_hot(labels_of(logits, target), channels).movedim(-1, 1).to(logits.dtype)
        weights = self.positive_weights
        if weights is not None:
            weights = weights.to(logits.dtype).reshape(-1, *([1] * (logits.ndim - 2)))
        return functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=weights)
