"""Losses of numbers: squared error and its blend with the absolute error. What isn't known (NaN) doesn't count."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from core.compute.training.losses.convention import precise


class MeanSquared(nn.Module):
    """Mean of ``(x − y)²`` over the known numbers; 0 when none is known."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, R)`` outputs against ``(N, R)`` numbers, NaN where unknown."""
        known, wanted = _known(outputs, target)
        return _mean(functional.mse_loss(precise(outputs), wanted, reduction="none"), known)


class SmoothL1(nn.Module):
    """Mean of ``½ (x − y)² / β`` where the error is below ``beta``, else ``|x − y| − β/2``: outliers pull less.

    Notes
    -----
    Source: R. Girshick, "Fast R-CNN", ICCV 2015, equation 3. The Huber loss is β times it.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if beta <= 0:
            raise ValueError("beta is greater than 0")
        self.beta = beta

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, R)`` outputs against ``(N, R)`` numbers, NaN where unknown."""
        known, wanted = _known(outputs, target)
        errors = functional.smooth_l1_loss(precise(outputs), wanted, reduction="none", beta=self.beta)
        return _mean(errors, known)


class Huber(SmoothL1):
    """Mean of ``½ (x − y)²`` where the error is below ``delta``, else ``δ (|x − y| − δ/2)``.

    Notes
    -----
    Source: P. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 1964.
    """

    def __init__(self, delta: float = 1.0) -> None:
        if delta <= 0:
            raise ValueError("delta is greater than 0")
        super().__init__(beta=delta)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, R)`` outputs against ``(N, R)`` numbers, NaN where unknown."""
        return self.beta * super().forward(outputs, target)


def _known(outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is known, and the numbers with the (constant) outputs in the place of the unknown ones."""
    if outputs.shape != target.shape:
        raise ValueError(f"numbers {tuple(target.shape)} don't belong to outputs {tuple(outputs.shape)}")
    known = target.isfinite()
    exact = precise(outputs)
    return known, exact.detach().where(~known, target.to(exact.dtype))


def _mean(errors: Tensor, known: Tensor) -> Tensor:
    return errors.sum() / known.sum().clamp(min=1)
