"""A small residual network that judges a picture cell by cell and the whole from its cells.

The answer for the picture is the log-sum-exp of the cells' answers: one cell that shows a lesion is enough, as in
multiple-instance learning (P. O. Pinheiro, R. Collobert, CVPR 2015). The same network can be asked where: its cells are
then the answer, which lets it learn from where something was painted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class CellNet(nn.Module):
    """Classifier, or map of cells, of single-channel pictures.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the picture; classes (``dense`` False) or background and labels (``dense`` True).
    channels : sequence of int
        Channels of the stem and of each stage; each halves the resolution: cells are ``2 ** len(channels)`` pixels.
    dropout : float
        Of the features of a cell.
    dense : bool
        Whether the network answers where instead of what.

    Notes
    -----
    Input ``(N, in_channels, H, W)``; each picture is brought to mean 0 and deviation 1 first. Output ``(N,
    out_channels)`` logits, or ``(N, out_channels, H, W)`` constant within cells, channel 0 being 0. The state is the
    same in both cases; channel c of the map is class c.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 3,
        channels: Sequence[int] = (24, 32, 64, 128),
        dropout: float = 0.2,
        dense: bool = False,
    ) -> None:
        super().__init__()
        widths = [int(c) for c in channels]
        stages = [_Block(before, width, 2) for before, width in pairwise(widths)]
        self.features = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(in_channels, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
            ),
            *stages,
            _Block(widths[-1], widths[-1], 1),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(widths[-1], out_channels, 1)
        self.dense = dense

    def cells(self, image: Tensor) -> Tensor:
        """Return ``(N, out_channels, h, w)`` logits of the cells."""
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        spread = image.var(dim=(1, 2, 3), keepdim=True, unbiased=False).sqrt()
        logits: Tensor = self.head(self.dropout(self.features((image - mean) / (spread + 1e-4))))
        return logits

    def located(self, image: Tensor) -> Tensor:
        """Return ``(N, out_channels, H, W)``: the map of the cells in the picture's size, channel 0 being 0."""
        cells = self.cells(image)
        cells = torch.cat([torch.zeros_like(cells[:, :1]), cells[:, 1:]], dim=1)
        return functional.interpolate(cells, size=image.shape[-2:], mode="nearest")

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit per class, or the map."""
        if self.dense:
            return self.located(image)
        cells = self.cells(image).flatten(2)
        return torch.logsumexp(cells, dim=2) - math.log(cells.shape[2])
