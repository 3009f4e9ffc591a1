"""Where lesions are, cell by cell: the loss of networks that answer for a coarse grid of cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.recipes.cases import UNJUDGED


class Cells(nn.Module):
    """Binary cross-entropy of each foreground label in each cell.

    Parameters
    ----------
    cell : int
        Side of a cell in pixels; the logits are constant within one.
    present, absent : float
        A cell holds a label when at least ``present`` of it is covered, and doesn't below ``absent``; cells in between
        don't count.
    positive_weight : float
        Weight of the cells that hold a label.

    Notes
    -----
    Logits ``(N, C, H, W)``, labels ``(N, H, W)`` with 0 for background and ``UNJUDGED`` where nothing is known: cells
    that are mostly so don't count either. Channel 0 carries nothing. Returns 0 when no cell counts.
    """

    def __init__(
        self, cell: int = 16, present: float = 0.35, absent: float = 0.1, positive_weight: float = 3.0
    ) -> None:
        super().__init__()
        if not 0 <= absent < present <= 1 or cell < 1:
            raise ValueError("0 ≤ absent < present ≤ 1, and a cell has at least one pixel")
        self.cell, self.present, self.absent = cell, present, absent
        self.positive_weight = positive_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the cells that count."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        target = target[:, 0] if target.ndim == logits.ndim else target
        cells = functional.avg_pool2d(logits[:, 1:], self.cell)
        labels = torch.stack([target == value for value in range(1, logits.shape[1])], dim=1)
        cover = functional.avg_pool2d(labels.to(logits.dtype), self.cell)
        unknown = functional.avg_pool2d((target == UNJUDGED).to(logits.dtype)[:, None], self.cell)
        counts = ((cover >= self.present) | (cover < self.absent)) & (unknown < 0.5)
        weight = counts.to(logits.dtype)
        loss = functional.binary_cross_entropy_with_logits(
            cells,
            (cover >= self.present).to(logits.dtype),
            reduction="none",
            pos_weight=logits.new_tensor(self.positive_weight),
        )
        return (loss * weight).sum() / weight.sum().clamp(min=1)
