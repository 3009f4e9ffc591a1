"""The calling convention of all losses.

Logits are ``(N, C, …)`` of any float type; they are computed with in float32 at least. Targets are integer
labels ``(N, …)`` (segmentation) or ``(N,)`` (classification); ``(N, 1, …)`` as MONAI's transforms give it is
taken too. With one channel the logit is that of class 1 against class 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def precise(logits: Tensor) -> Tensor:
    """Return the logits in float32, or in float64 when they are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def labels_of(logits: Tensor, target: Tensor) -> Tensor:
    """Return int64 labels ``(N, …)`` that belong to the logits.

    Raises
    ------
    ValueError
        When the shapes don't belong together.
    """
    if target.ndim == logits.ndim and target.shape[1] == 1:
        target = target[:, 0]
    if target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(f"labels {tuple(target.shape)} don't belong to logits {tuple(logits.shape)}")
    return target.long()


def class_logits(logits: Tensor) -> Tensor:
    """Return precise logits with at least two channels: one channel z becomes (0, z)."""
    logits = precise(logits)
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def probabilities_and_onehot(logits: Tensor, target: Tensor, background: bool) -> tuple[Tensor, Tensor]:
    """Return probabilities and one-hot labels, both ``(N, K, …)`` in the precision of the loss.

    K is C, without class 0 unless ``background``; with one channel it is that channel.
    """
    labels = labels_of(logits, target)
    logits = precise(logits)
    channels = logits.shape[1]
    if channels == 1:
        return torch.sigmoid(logits), labels[:, None].to(logits.dtype)
    onehot = functional.one_hot(labels, channels).movedim(-1, 1).to(logits.dtype)
    probabilities = torch.softmax(logits, dim=1)
    first = 0 if background else 1
    return probabilities[:, first:], onehot[:, first:]


def weights_tensor(weights: Sequence[float] | Tensor | None) -> Tensor | None:
    """Return class weights as float32, or None.

    Raises
    ------
    ValueError
        When a weight is negative or not a number.
    """
    if weights is None:
        return None
    tensor = torch.as_tensor(weights, dtype=torch.float32)
    if not bool(torch.isfinite(tensor).all()) or bool((tensor < 0).any()):
        raise ValueError(f"class weights must be numbers of at least 0, not {tensor.tolist()}")
    return tensor
