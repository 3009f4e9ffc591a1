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

    Parameters
    ----------
    include_background : bool
        Whether class 0 counts.
    relative : bool
        Subtract what the true mask itself would get, a constant: the loss is then at least 0, as weighing by
        uncertainty needs it.

    Notes
    -----
    It is negative when the structure is found (unless ``relative``), and says nothing of a structure that is absent:
    combine it with an overlap loss, as its authors do. Source: H. Kervadec et al., "Boundary loss for highly
    unbalanced segmentation", MIDL 2019, equations 4 (whose second term is the constant) and 5.
    """

    def __init__(self, include_background: bool = False, relative: bool = False) -> None:
        super().__init__()
        self.include_background, self.relative = include_background, relative
        self.loss = BoundaryLoss()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(N, C, H, W)`` or ``(N, C, D, H, W)`` logits against labels."""
        probabilities, onehot = probabilities_and_onehot(logits, target, self.include_background)
        result: Tensor = self.loss(probabilities - onehot if self.relative else probabilities, onehot)
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
