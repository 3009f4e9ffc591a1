"""Transformer blocks over the tokens of a volume, and the trunk that they form.

Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021 (normalisation before each branch);
H. Touvron et al., "Going deeper with Image Transformers", ICCV 2021 (layer scale); Z. Liu et al., "Swin
Transformer", ICCV 2021 (windows, every second block shifted by half a window).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.layers import mlp
from models.networks.mri_multitask.attention import Kernel, MultiHeadAttention
from models.networks.mri_multitask.depth import drop_path, linear_rates
from models.networks.mri_multitask.experts import MixtureOfExperts
from models.networks.mri_multitask.memory import saved
from models.networks.mri_multitask.windowed import WindowedAttention3d

_PLACES = 16


@dataclass(frozen=True)
class BlockOptions:
    """How the blocks of a trunk are made.

    Attributes
    ----------
    window : int, optional
        Edge of the attention's windows in tokens; None: each token looks at all.
    experts, top_k : int
        Perceptrons per mixture and how many each token uses; 0 experts: one plain perceptron. Every second
        block has the mixture.
    mlp_ratio : int
        Width of the perceptrons' inner layer over that of the tokens.
    dropout, drop_path : float
        Dropout in attention and perceptrons, and stochastic depth of the last block.
    layer_scale : float
        Factor of each branch at the start; 0: none.
    kernel : str
        See ``attention.attend``.
    """

    window: int | None = None
    experts: int = 0
    top_k: int = 2
    mlp_ratio: int = 4
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float = 0.1
    kernel: Kernel = "auto"


class LayerScale(nn.Module):
    """A learnt factor per feature."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(…, width)`` scaled."""
        return x * self.scale.to(x.dtype)


class TransformerBlock(nn.Module):
    """Attention and a perceptron (or a mixture of experts), each normalised before and added.

    Parameters
    ----------
    width, heads : int
        Features per token and heads of the attention.
    options : BlockOptions
        How the block is made.
    shifted : bool
        Whether the windows are moved by half their edge.
    mixture : bool
        Whether the perceptron is a mixture of experts (when the options have any).
    rate : float
        Stochastic depth of this block.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        options: BlockOptions | None = None,
        *,
        shifted: bool = False,
        mixture: bool = False,
        rate: float = 0.0,
    ) -> None:
        super().__init__()
        made = options or BlockOptions()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = _attention(width, heads, made, shifted)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = _feedforward(width, made, mixture)
        self.attention_scale = _scale(width, made)
        self.feedforward_scale = _scale(width, made)
        self.drop_path = drop_path(rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(N, D, H, W, width)`` of the same shape."""
        attended = self._attend(self.attention_norm(tokens))
        tokens = tokens + self.drop_path(self.attention_scale(attended))
        further = self.feedforward(self.feedforward_norm(tokens))
        result: Tensor = tokens + self.drop_path(self.feedforward_scale(further))
        return result

    def _attend(self, tokens: Tensor) -> Tensor:
        if isinstance(self.attention, WindowedAttention3d):
            windows: Tensor = self.attention(tokens)
            return windows
        flat: Tensor = self.attention(tokens.flatten(1, 3))
        return flat.reshape(tokens.shape)


def _attention(width: int, heads: int, options: BlockOptions, shifted: bool) -> nn.Module:
    if options.window is None:
        return MultiHeadAttention(width, heads, dropout=options.dropout, kernel=options.kernel)
    return WindowedAttention3d(
        width, heads, options.window, shifted=shifted, dropout=options.dropout, kernel=options.kernel
    )


def _feedforward(width: int, options: BlockOptions, mixture: bool) -> nn.Module:
    hidden = width * options.mlp_ratio
    if mixture and options.experts:
        return MixtureOfExperts(
            width, hidden, experts=options.experts, top_k=options.top_k, dropout=options.dropout
        )
    return mlp(width, hidden, options.dropout)


def _scale(width: int, options: BlockOptions) -> nn.Module:
    return LayerScale(width, options.layer_scale) if options.layer_scale else nn.Identity()


class Trunk(nn.Module):
    """Tokens of a feature map, told where they are, through transformer blocks.

    Parameters
    ----------
    inputs, width : int
        Channels of the map, and features of the tokens.
    layers, heads : int
        Number of blocks, and heads of each.
    options : BlockOptions
        How the blocks are made.

    Notes
    -----
    Positions are learnt at sixteen places along each axis of the whole volume and read linearly between them,
    so that every size of volume has them.
    """

    def __init__(
        self, inputs: int, width: int, layers: int, heads: int, options: BlockOptions | None = None
    ) -> None:
        super().__init__()
        made = options or BlockOptions()
        self.enter = nn.Conv3d(inputs, width, 1)
        self.positions = nn.Parameter(torch.randn(3, _PLACES, width) * 0.02)
        rates = linear_rates(made.drop_path, layers)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, made, shifted=odd, mixture=odd, rate=rate)
            for rate, odd in zip(rates, (index % 2 == 1 for index in range(layers)), strict=True)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, again: bool = False) -> Tensor:
        """Return the tokens ``(N, width, D, H, W)`` of a map ``(N, inputs, D, H, W)``.

        ``again``: compute each block again for the gradient, instead of keeping its inner values.
        """
        tokens = self.enter(features).permute(0, 2, 3, 4, 1)
        deep, high, wide = (self._places(axis, tokens.shape[axis + 1]) for axis in range(3))
        told = deep[:, None, None] + high[None, :, None] + wide[None, None, :]
        tokens = tokens + told.to(tokens.dtype)
        for block in self.blocks:
            tokens = saved(block, tokens, again=again)
        normal: Tensor = self.norm(tokens)
        return normal.permute(0, 4, 1, 2, 3)

    def _places(self, axis: int, count: int) -> Tensor:
        """Return the positions ``(count, width)`` along one axis, linear between the learnt ones."""
        device = self.positions.device
        where = (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (_PLACES / count) - 0.5
        where = where.clamp(0.0, _PLACES - 1.0)
        learnt = torch.arange(_PLACES, device=device, dtype=torch.float32)
        weights = (1.0 - (where[:, None] - learnt[None]).abs()).clamp(min=0.0)
        return weights.to(self.positions.dtype) @ self.positions[axis]
