"""A plain convolutional network: the baseline that every other one has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class SimpleCnnEncoder(nn.Module):
    """Convolution, normalisation, ReLU and pooling per level: ``(N, in_channels, …)`` to ``(N, channels[-1])``.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    channels : sequence of int
        Channels per level; each level halves the resolution.
    spatial_dims : int
        Two or three.
    """

    def __init__(
        self, in_channels: int = 1, channels: Sequence[int] = (32, 64, 128, 128), spatial_dims: int = 2
    ) -> None:
        super().__init__()
        flat = spatial_dims == 2
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if flat else (nn.Conv3d, nn.BatchNorm3d)
        pool = nn.MaxPool2d if flat else nn.MaxPool3d
        widths = [in_channels, *(int(width) for width in channels)]
        self.features = nn.Sequential(
            *(
                nn.Sequential(
                    convolution(before, after, 3, padding=1, bias=False),
                    norm(after),
                    nn.ReLU(inplace=False),
                    pool(2),
                )
                for before, after in pairwise(widths)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1) if flat else nn.AdaptiveAvgPool3d(1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the pooled features."""
        features: Tensor = self.pool(self.features(image)).flatten(1)
        return features
