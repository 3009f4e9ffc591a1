"""Losses of overlap, computed by MONAI: Dice, generalised Dice, Tversky, and Dice with focal loss."""

from __future__ import annotations

from collections.abc import Sequence

from monai.losses.dice import DiceLoss, GeneralizedDiceLoss
from monai.losses.tversky import TverskyLoss
from torch import Tensor, nn

from core.compute.training.losses.convention import probabilities_and_onehot
from core.compute.training.losses.entropy import Focal


class Dice(nn.Module):
    """1 − mean over classes of ``2 Σ p g / (Σ p + Σ g)``.

    Parameters
    ----------
    include_background : bool
        Whether class 0 counts.
    batch : bool
        Sum over the batch first (an absent structure then weighs less) instead of per item.
    smooth : float
        Added to numerator and denominator.
    squared : bool
        Square the terms of the denominator, as V-Net does.

    Notes
    -----
    Source: F. Milletari et al., V-Net, 3DV 2016.
    """

    def __init__(
        self,
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1e-5,
        squared: bool = False,
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.loss = DiceLoss(batch=batch, smooth_nr=smooth, smooth_dr=smooth, squared_pred=squared)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits against ``(N, …)`` labels."""
        result: Tensor = self.loss(*probabilities_and_onehot(logits, target, self.include_background))
        return result


class GeneralizedDice(nn.Module):
    """1 − ``2 Σ_c w_c Σ p g / Σ_c w_c Σ (p + g)`` with ``w_c = 1 / (Σ g)²``: small structures count as much.

    Notes
    -----
    A class without a voxel gets the largest weight of the others. Source: C. Sudre et al., "Generalised Dice
    overlap as a deep learning loss function for highly unbalanced segmentations", DLMIA 2017.
    """

    def __init__(self, include_background: bool = True, batch: bool = True, smooth: float = 1e-5) -> None:
        super().__init__()
        self.include_background = include_background
        self.loss = GeneralizedDiceLoss(batch=batch, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits against ``(N, …)`` labels."""
        result: Tensor = self.loss(*probabilities_and_onehot(logits, target, self.include_background))
        return result


class Tversky(nn.Module):
    """1 − mean over classes of ``TP / (TP + α FP + β FN)``.

    Parameters
    ----------
    alpha, beta : float
        Weights of false positives and false negatives; β > α prefers finding a structure. 0.5 and 0.5 is
        Dice.

    Notes
    -----
    Source: S. Salehi et al., "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", MLMI 2017.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.loss = TverskyLoss(alpha=alpha, beta=beta, batch=batch, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits against ``(N, …)`` labels."""
        result: Tensor = self.loss(*probabilities_and_onehot(logits, target, self.include_background))
        return result


class DiceFocal(nn.Module):
    """Dice plus focal loss.

    Parameters
    ----------
    dice_weight, focal_weight : float
        Weights of the two.
    gamma, class_weights
        See ``Focal``.
    include_background : bool
        Whether class 0 counts in the Dice.
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        focal_weight: float = 1.0,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
        include_background: bool = False,
    ) -> None:
        super().__init__()
        self.dice_weight, self.focal_weight = dice_weight, focal_weight
        self.dice = Dice(include_background)
        self.focal = Focal(gamma, class_weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, …)`` logits against ``(N, …)`` labels."""
        result: Tensor = self.dice_weight * self.dice(logits, target)
        return result + self.focal_weight * self.focal(logits, target)
