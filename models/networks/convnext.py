"""ConvNeXt.

Source: Z. Liu et al., "A ConvNet for the 2020s", CVPR 2022. Parameters are named as in torchvision, so that
its ImageNet files fit (its last normalisation, ``classifier.0``, is ``norm`` here).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.layers import LayerNorm2d, Permute, StochasticDepth, depth_rates


class Block(nn.Module):
    """A wide depthwise convolution and a perceptron per position, scaled, with a shortcut."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))
        self.stochastic_depth = StochasticDepth(rate)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        result: Tensor = x + self.stochastic_depth(self.layer_scale * self.block(x))
        return result


class ConvNextEncoder(nn.Module):
    """The network without its classifier: ``(N, 3, H, W)`` to ``(N, widths[-1])``."""

    def __init__(
        self,
        widths: tuple[int, ...] = (96, 192, 384, 768),
        depths: tuple[int, ...] = (3, 3, 9, 3),
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), LayerNorm2d(widths[0], eps=1e-6))
        )
        for level, (width, rates) in enumerate(zip(widths, depth_rates(drop_path, depths), strict=True)):
            if level:
                before = widths[level - 1]
                self.features.append(
                    nn.Sequential(LayerNorm2d(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2))
                )
            self.features.append(nn.Sequential(*(Block(width, rate) for rate in rates)))
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the pooled, normalised features."""
        features: Tensor = self.norm(self.features(image).mean(dim=(2, 3)))
        return features
