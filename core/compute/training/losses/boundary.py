"""Losses of distance to the border, computed by MONAI: boundary and Hausdorff by distance transforms.

Distances are in pixels or voxels and computed on the processor: expect slower steps with large patches.
"""

from __future__ import annotations

from monai.losses.boundary_loss import BoundaryLoss
from monai.losses.hausdorff_loss import HausdorffDTLoss
from torch import Tensor, nn

from core.compute.training.losses.convention import probabilities_and_onehot


class Boundary(nn.Module):
    """Mean of probability × signed distance to the true border (negative inside), in 2-D and 3-D.

    Notes
    -----
    It is negative when the structure is found, and says nothing of a structure that is absent: combine it
    with an overlap loss, as its authors do. Source: H. Kervadec et al., "Boundary loss for highly unbalanced
    segmentation", MIDL 2019, equation 5.
    """

    def __init__(self, include_background: bool = False) -> None:
        super().__init__()
        self.include_background = include_background
        self.loss = BoundaryLoss()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, H, W)`` or ``(N, C, D, H, W)`` logits against labels."""
        result: Tensor = self.loss(*probabilities_and_onehot(logits, target, self.include_background))
        return result


class HausdorffDistance(nn.Module):
    """Mean of squared error × (distance to the predicted border^α + distance to the true border^α).

    Parameters
    ----------
    alpha : float
        How much a far error counts more than a near one.
    include_background : bool
        Whether class 0 counts.

    Notes
    -----
    Source: D. Karimi and S. Salcudean, "Reducing the Hausdorff Distance in Medical Image Segmentation with
    Convolutional Neural Networks", IEEE TMI 2019, equation 8.
    """

    def __init__(self, alpha: float = 2.0, include_background: bool = False) -> None:
        super().__init__()
        self.include_background = include_background
        self.loss = HausdorffDTLoss(alpha=alpha, include_background=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, H, W)`` or ``(N, C, D, H, W)`` logits against labels."""
        result: Tensor = self.loss(*probabilities_and_onehot(logits, target, self.include_background))
        return result
