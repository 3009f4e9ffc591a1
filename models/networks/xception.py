"""Xception: depthwise separable convolutions with shortcuts.

Source: F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, figure 5.
Modules are named as in the PyTorch ports whose ImageNet weights are in use (R. Cadene, timm), so that such
a file fits. 22 855 952 parameters with 1000 classes, 20 813 099 with three; pictures of 299 × 299.
"""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = 2048


class SeparableConv2d(nn.Module):
    """A 3 × 3 convolution per channel, then a 1 × 1 convolution over the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved features, size unchanged."""
        result: Tensor = self.pointwise(self.conv1(x))
        return result


class Block(nn.Module):
    """Separable convolutions with a shortcut.

    Parameters
    ----------
    inputs, outputs, repeats, stride : int
        Channels, number of separable convolutions, and reduction by a maximum pooling at the end.
    starts_with_relu : bool
        False for the first block, whose input was rectified already.
    grows_first : bool
        Whether the first or the last convolution changes the number of channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        repeats: int,
        stride: int = 1,
        starts_with_relu: bool = True,
        grows_first: bool = True,
    ) -> None:
        super().__init__()
        self.skip: nn.Module | None = None
        if outputs != inputs or stride != 1:
            self.skip = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.skipbn = nn.BatchNorm2d(outputs)
        layers: list[nn.Module] = []
        for index in range(repeats):
            before = outputs if grows_first and index else inputs
            after = outputs if grows_first or index == repeats - 1 else inputs
            layers += [nn.ReLU(inplace=False), SeparableConv2d(before, after), nn.BatchNorm2d(after)]
        if not starts_with_relu:
            layers = layers[1:]
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        shortcut = x if self.skip is None else self.skipbn(self.skip(x))
        result: Tensor = self.rep(x) + shortcut
        return result


class XceptionEncoder(nn.Module):
    """The network without its classifier: ``(N, 3, H, W)`` to ``(N, 2048)``."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = Block(64, 128, 2, stride=2, starts_with_relu=False)
        self.block2 = Block(128, 256, 2, stride=2)
        self.block3 = Block(256, 728, 2, stride=2)
        for number in range(4, 12):
            self.add_module(f"block{number}", Block(728, 728, 3))
        self.block12 = Block(728, 1024, 2, stride=2, grows_first=False)
        self.conv3 = SeparableConv2d(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.conv4 = SeparableConv2d(1536, FEATURES)
        self.bn4 = nn.BatchNorm2d(FEATURES)
        self.act1, self.act2 = nn.ReLU(inplace=False), nn.ReLU(inplace=False)
        self.act3, self.act4 = nn.ReLU(inplace=False), nn.ReLU(inplace=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Return the pooled features."""
        x = self.act1(self.bn1(self.conv1(image)))
        x = self.act2(self.bn2(self.conv2(x)))
        for number in range(1, 13):
            x = self.get_submodule(f"block{number}")(x)
        x = self.act3(self.bn3(self.conv3(x)))
        x = self.act4(self.bn4(self.conv4(x)))
        features: Tensor = self.pool(x).flatten(1)
        return features
