"""A small residual 2-D network with global average pooling and a linear head (friendly to class activation maps)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class _Block(nn.Module):
    """Two convolutions with a shortcut; ``stride`` 2 halves the resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=False)
        self.relu2 = nn.ReLU(inplace=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        out = self.relu1(self.norm1(self.conv1(x)))
        result: Tensor = self.relu2(self.norm2(self.conv2(out)) + self.shortcut(x))
        return result


class Cnn2d(nn.Module):
    """Classifier of single-channel pictures of any size (trained at 64 × 64).

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image and number of classes.
    channels : sequence of int
        Channels per stage; each stage after the first halves the resolution. The features of the last
        stage (module ``features``) feed the average pooling and the linear head.

    Notes
    -----
    Input ``(N, in_channels, H, W)`` float32, output ``(N, out_channels)`` logits.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 6, channels: Sequence[int] = (24, 48, 96, 128)
    ) -> None:
        super().__init__()
        widths = [int(c) for c in channels]
        stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=False),
        )
        inputs = [widths[0], *widths[:-1]]
        blocks = [
            _Block(before, width, 1 if level == 0 else 2)
            for level, (before, width) in enumerate(zip(inputs, widths, strict=True))
        ]
        self.features = nn.Sequential(stem, *blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit per class."""
        logits: Tensor = self.head(self.pool(self.features(image)).flatten(1))
        return logits
