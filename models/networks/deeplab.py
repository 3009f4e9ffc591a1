"""DeepLabV3+ in two and three dimensions.

Source: L.-C. Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018: a residual encoder of output stride 16 whose last stage is dilated, atrous spatial
pyramid pooling with separable convolutions and image pooling, and a decoder that joins it with the features
of stride 4. The three-dimensional form replaces each layer by its volumetric one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


class _Layers:
    """Layers of one dimension and one normalisation."""

    def __init__(self, spatial_dims: int, norm: str) -> None:
        if (norm, spatial_dims) not in _NORMS:
            raise ValueError(f"norm {norm!r} in {spatial_dims} dimensions; known: batch, instance in 2 and 3")
        self.convolution = _CONVOLUTIONS[spatial_dims]
        self._norm = _NORMS[norm, spatial_dims]

    def norm(self, channels: int) -> nn.Module:
        return self._norm(channels, affine=True)

    def unit(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        separable: bool = False,
        rectified: bool = True,
    ) -> nn.Sequential:
        """Return convolution(s), normalisation and ReLU that keep the size (divided by the stride)."""
        unit = nn.Sequential()
        padding = dilation * (kernel - 1) // 2
        if separable:
            depthwise = self.convolution(
                inputs, inputs, kernel, stride, padding, dilation, groups=inputs, bias=False
            )
            unit.add_module("depthwise", depthwise)
            kernel, stride, padding, dilation = 1, 1, 0, 1
        unit.add_module(
            "convolution", self.convolution(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        )
        unit.add_module("norm", self.norm(outputs))
        if rectified:
            unit.add_module("relu", nn.ReLU(inplace=False))
        return unit


class _Residual(nn.Module):
    """Two convolutions with a shortcut."""

    def __init__(self, layers: _Layers, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.first = layers.unit(inputs, outputs, 3, stride, dilation)
        self.second = layers.unit(outputs, outputs, 3, 1, dilation, rectified=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = layers.unit(inputs, outputs, 1, stride, rectified=False)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(self.second(self.first(x)) + self.shortcut(x))
        return result


class _Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: 1 × 1, three dilated separable convolutions, and the image's mean.

    The mean has no normalisation: over one value per image it has no variance.
    """

    def __init__(self, layers: _Layers, inputs: int, outputs: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([layers.unit(inputs, outputs, 1)])
        for rate in rates:
            self.branches.append(layers.unit(inputs, outputs, 3, dilation=rate, separable=True))
        self.image = nn.Sequential(layers.convolution(inputs, outputs, 1), nn.ReLU(inplace=False))
        self.project = layers.unit((len(self.branches) + 1) * outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.image(x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)).expand(-1, -1, *x.shape[2:])
        result: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1))
        return result


class DeepLabV3Plus(nn.Module):
    """Segmentation with a wide view and sharp borders.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image and classes of the output.
    spatial_dims : int
        Two or three.
    features : int
        Channels of the first stage; they double with each of the next three.
    blocks : sequence of int
        Residual blocks of the four stages.
    pyramid_channels, rates : int, sequence of int
        Channels and dilations of the pyramid.
    norm : str
        ``batch`` or ``instance``.
    dropout : float
        Before the last convolution.

    Notes
    -----
    Input ``(N, in_channels, …)`` float32 of any size of at least 32, output logits of the same size.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        spatial_dims: int = 3,
        features: int = 32,
        blocks: Sequence[int] = (2, 2, 2, 2),
        pyramid_channels: int = 128,
        rates: Sequence[int] = (6, 12, 18),
        norm: str = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        layers = _Layers(spatial_dims, norm)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        widths = [features * 2**level for level in range(4)]
        self.stem = layers.unit(in_channels, features, 3, stride=2)
        plan = zip([features, *widths[:-1]], widths, (2, 2, 2, 1), (1, 1, 1, 2), blocks, strict=True)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    _Residual(
                        layers, before if index == 0 else width, width, stride if index == 0 else 1, dilation
                    )
                    for index in range(count)
                )
            )
            for before, width, stride, dilation, count in plan
        )
        self.pyramid = _Pyramid(layers, widths[-1], pyramid_channels, rates)
        low = max(features // 2, 16)
        self.low = layers.unit(widths[0], low, 1)
        self.decoder = nn.Sequential(
            layers.unit(pyramid_channels + low, pyramid_channels, 3, separable=True),
            layers.unit(pyramid_channels, pyramid_channels, 3, separable=True),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = layers.convolution(pyramid_channels, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of the image's size."""
        low = self.stages[0](self.stem(image))
        deep = low
        for stage in list(self.stages)[1:]:
            deep = stage(deep)
        deep = self._resized(self.pyramid(deep), low)
        decoded = self.decoder(torch.cat([deep, self.low(low)], dim=1))
        return self._resized(self.head(self.dropout(decoded)), image)

    def _resized(self, x: Tensor, like: Tensor) -> Tensor:
        return functional.interpolate(x, size=like.shape[2:], mode=self.mode, align_corners=False)
