"""Convolutional blocks around the transformer: residual blocks, steps down and up, logits at full size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.mri_multitask.tracing import exporting

_GROUP = 8
_SLOPE = 0.01
_LIKELY = 3.0
_FAULTY_SLICES = 2


class GroupNorm(nn.GroupNorm):
    """Group normalisation with groups of eight channels, computed in float32 also under autocast.

    Notes
    -----
    Source: Y. Wu and K. He, "Group Normalization", ECCV 2018. It works with one volume per batch, and answers
    in evaluation as in training.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(max(channels // _GROUP, 1), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normalised, of the same type."""
        weight, bias = self.weight.float(), self.bias.float()
        return functional.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class Conv3(nn.Conv3d):
    """A 3³ convolution without bias that keeps the size, or halves it.

    Notes
    -----
    On the CPU torch's bfloat16 gradient of the weights is undefined for maps of two slices (it reads memory that
    nobody wrote; torch 2.13 with oneDNN): these are computed in float32.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, D / stride, …)``."""
        if exporting() or x.shape[2] != _FAULTY_SLICES or x.device.type != "cpu":
            return super().forward(x)
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype)).to(kind)


class ConvNorm(nn.Sequential):
    """A 3³ convolution, normalisation and activation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            Conv3(inputs, outputs, stride),
            GroupNorm(outputs),
            nn.LeakyReLU(_SLOPE),
        )


class ResidualBlock(nn.Module):
    """Two 3³ convolutions with a shortcut.

    Notes
    -----
    Source: K. He et al., "Deep Residual Learning", CVPR 2016.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = Conv3(channels, channels)
        self.norm = GroupNorm(channels)
        self.activation = nn.LeakyReLU(_SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, channels, D, H, W)`` of the same shape."""
        result: Tensor = self.activation(x + self.norm(self.second(self.first(x))))
        return result


class Down(nn.Sequential):
    """Half the resolution, then residual blocks."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__(ConvNorm(inputs, outputs, 2), *(ResidualBlock(outputs) for _ in range(blocks)))


class Up(nn.Module):
    """Double the resolution, add the encoder's features of that resolution, then convolutions."""

    def __init__(self, inputs: int, outputs: int, convolutions: int = 1) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(inputs, outputs, 2, stride=2)
        self.skip = nn.Conv3d(outputs, outputs, 1, bias=False)
        self.convolutions = nn.Sequential(*(ConvNorm(outputs, outputs) for _ in range(convolutions)))

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return ``(N, outputs, …)`` of the size of ``skip``, which has ``outputs`` channels."""
        result: Tensor = self.convolutions(self.up(deep) + self.skip(skip))
        return result


class SubvoxelLogits(nn.Module):
    """Logits at twice the resolution of the features: each feature voxel gives those of its 2³ voxels.

    Notes
    -----
    No convolution works at full resolution, where volumes cost most. Source: W. Shi et al., "Real-Time Single
    Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016.
    At the start the voxels of one feature voxel are alike (A. Aitken et al., "Checkerboard artifact free sub-pixel
    convolution", 2017) and background is the likely answer, as most of a volume is (T.-Y. Lin et al., "Focal Loss for
    Dense Object Detection", ICCV 2017, section 3.3): otherwise hundreds of steps go by before structures appear.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.project = nn.Conv3d(channels, 8 * out_channels, 1)
        with torch.no_grad():
            alike = self.project.weight.unflatten(0, (out_channels, 8))[:, :1].expand(-1, 8, -1, -1, -1, -1)
            self.project.weight.copy_(alike.flatten(0, 1).clone())
            self.project.bias.zero_()  # type: ignore[union-attr]
            self.project.bias[:8] = _LIKELY  # type: ignore[index]

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(N, out_channels, 2·D, 2·H, 2·W)`` of ``(N, channels, D, H, W)``."""
        logits = self.project(features)
        parts = logits.unflatten(1, (self.out_channels, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return torch.flatten(torch.flatten(torch.flatten(parts, 6, 7), 4, 5), 2, 3)
