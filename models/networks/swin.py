"""Swin Transformer for pictures.

Source: Z. Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021.
Parameters are named as in torchvision, so that its ImageNet files fit as they are. Sizes that are no
multiple of the window are padded inside a block and cut again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.layers import Permute, StochasticDepth, depth_rates, mlp


class WindowAttention(nn.Module):
    """Self-attention within windows of ``(N, H, W, C)``, rolled by ``shift``."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        table = torch.empty((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", _relative_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended features, size unchanged."""
        window = self.window
        _, height, width, _ = x.shape
        x = functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        _, rows, columns, _ = x.shape
        # A window that covers an axis has nothing to be shifted into.
        shift = (0 if window >= rows else self.shift, 0 if window >= columns else self.shift)
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), dims=(1, 2))
        windows = self._attend(_windows(x, window), self._bias(x, shift))
        x = _joined(windows, x.shape, window)
        if any(shift):
            x = torch.roll(x, shift, dims=(1, 2))
        return x[:, :height, :width]

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        count, number, tokens, width = x.shape
        joint = self.qkv(x).reshape(count, number, tokens, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        # Windows and heads share one axis: four axes are what exporters of attention take.
        query, key, value = joint.reshape(3, count, number * self.heads, tokens, -1)
        bias = bias.expand(number, -1, -1, -1).reshape(1, number * self.heads, tokens, tokens)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        attended = attended.reshape(count, number, self.heads, tokens, -1).transpose(2, 3)
        result: Tensor = self.proj(attended.reshape(count, number, tokens, width))
        return result

    def _bias(self, x: Tensor, shift: tuple[int, int]) -> Tensor:
        tokens = self.window**2
        bias = self.relative_position_bias_table[self.relative_position_index.reshape(-1)]
        bias = bias.reshape(tokens, tokens, self.heads).permute(2, 0, 1)[None]
        if not any(shift):
            return bias
        regions = _regions(x.shape[1], x.shape[2], self.window, shift, x.device)
        different = regions[:, :, None] != regions[:, None, :]
        return bias + different[:, None].to(bias.dtype) * -100.0


class SwinBlock(nn.Module):
    """Attention within windows and a perceptron, each normalised before and with a shortcut."""

    def __init__(self, width: int, heads: int, window: int, shift: int, rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window, shift)
        self.stochastic_depth = StochasticDepth(rate)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        result: Tensor = x + self.stochastic_depth(self.mlp(self.norm2(x)))
        return result


class PatchMerging(nn.Module):
    """Halve the resolution, double the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, H / 2, W / 2, 2 C)`` of ``(N, H, W, C)``."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        result: Tensor = self.reduction(self.norm(torch.cat(parts, dim=-1)))
        return result


class SwinEncoder(nn.Module):
    """The network without its classifier: ``(N, 3, H, W)`` to ``(N, 8 × width)``.

    ``permute`` gives the last features as ``(N, C, H, W)``.
    """

    def __init__(
        self,
        width: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.2,
    ) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, width, 4, stride=4), Permute(0, 2, 3, 1), nn.LayerNorm(width))
        self.features = nn.Sequential(stem)
        for level, rates in enumerate(depth_rates(drop_path, depths)):
            if level:
                self.features.append(PatchMerging(width))
                width *= 2
            blocks = (
                SwinBlock(width, heads[level], window, window // 2 if index % 2 else 0, rate)
                for index, rate in enumerate(rates)
            )
            self.features.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(width)
        self.permute = Permute(0, 3, 1, 2)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the pooled features."""
        features: Tensor = self.permute(self.norm(self.features(image))).mean(dim=(2, 3))
        return features


def _relative_index(window: int) -> Tensor:
    """Return ``(window⁴,)`` int64: row of the bias table for each pair of places in a window."""
    axis = torch.arange(window)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
    offset = places[:, :, None] - places[:, None, :] + window - 1
    return (offset[0] * (2 * window - 1) + offset[1]).flatten()


def _windows(x: Tensor, window: int) -> Tensor:
    """Return ``(N, windows, window², C)`` of ``(N, H, W, C)``."""
    count, height, width, channels = x.shape
    x = x.reshape(count, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(count, -1, window * window, channels)


def _joined(windows: Tensor, shape: torch.Size, window: int) -> Tensor:
    """Return ``(N, H, W, C)``: the inverse of ``_windows``."""
    count, height, width, channels = shape
    x = windows.reshape(count, height // window, width // window, window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(count, height, width, channels)


def _regions(height: int, width: int, window: int, shift: tuple[int, int], device: torch.device) -> Tensor:
    """Return ``(windows, window²)``: number of the connected region each place of the rolled grid came from."""
    rows = _bands(height, window, shift[0], device)
    columns = _bands(width, window, shift[1], device)
    grid = rows[:, None] * 3 + columns[None, :]
    return _windows(grid[None, :, :, None], window)[0, :, :, 0]


def _bands(size: int, window: int, shift: int, device: torch.device) -> Tensor:
    places = torch.arange(size, device=device)
    return (places >= size - window).long() + (places >= size - shift).long()
