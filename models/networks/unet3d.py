"""A plain 3-D U-Net with strided convolutions.

Source: Ö. Çiçek et al., "3D U-Net", MICCAI 2016; strided down-sampling as in nnU-Net (F. Isensee 2021).
Batch normalisation is used because in evaluation it is a fixed affine map: the output at a voxel then
depends on its receptive field only, not on the tile or batch around it, and it folds into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _conv_norm_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm3d(outputs, momentum=0.05),
        nn.ReLU(inplace=False),
    )


class UNet3d(nn.Module):
    """Encoder and decoder with skip connections.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image and classes of the output.
    channels : sequence of int
        Channels per level, finest first; each further level halves the resolution.

    Notes
    -----
    Input ``(N, in_channels, D, H, W)`` float32, output ``(N, out_channels, D, H, W)`` logits. Sizes must be
    multiples of ``2 ** (len(channels) - 1)`` (see ``divisor``).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 8,
        channels: Sequence[int] = (16, 32, 64, 80, 80),
    ) -> None:
        super().__init__()
        widths = [int(c) for c in channels]
        inputs = [in_channels, *widths[:-1]]
        self.divisor = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                _conv_norm_relu(before, width, stride=1 if level == 0 else 2), _conv_norm_relu(width, width)
            )
            for level, (before, width) in enumerate(zip(inputs, widths, strict=True))
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(deep, width, kernel_size=2, stride=2) for deep, width in pairs
        )
        self.decoder = nn.ModuleList(_conv_norm_relu(2 * width, width) for _, width in pairs)
        self.head = nn.Conv3d(widths[0], out_channels, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of the image's size."""
        skips: list[Tensor] = []
        features = image
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        for level in range(len(self.decoder) - 1, -1, -1):
            features = self.decoder[level](torch.cat([self.up[level](features), skips[level]], dim=1))
        logits: Tensor = self.head(features)
        return logits
