"""Vision Transformer.

Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. Parameters are named as in
torchvision, so that its ImageNet files fit as they are. The position table belongs to pictures of
``image_size`` and is interpolated for others.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.layers import mlp


class SelfAttention(nn.Module):
    """Multi-head self-attention over ``(N, tokens, width)``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended tokens."""
        count, tokens, width = x.shape
        joint = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = joint.reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out_proj(attended.transpose(1, 2).reshape(count, tokens, width))
        return result


class EncoderBlock(nn.Module):
    """Attention and a perceptron, each after a layer normalisation and with a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = SelfAttention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = mlp(width, hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's tokens."""
        x = x + self.dropout(self.self_attention(self.ln_1(x)))
        result: Tensor = x + self.mlp(self.ln_2(x))
        return result


class Tokens(nn.Module):
    """Positions, blocks and the last normalisation."""

    def __init__(self, count: int, depth: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, count, width).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            OrderedDict(
                (f"encoder_layer_{index}", EncoderBlock(width, heads, hidden, dropout))
                for index in range(depth)
            )
        )
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the tokens after all blocks; ``grid`` is the number of patches (rows, columns)."""
        result: Tensor = self.ln(self.layers(self.dropout(tokens + self._positions(grid))))
        return result

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        side = round((self.pos_embedding.shape[1] - 1) ** 0.5)
        if grid == (side, side):
            return self.pos_embedding
        table = self.pos_embedding[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        resized = functional.interpolate(table, size=grid, mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embedding[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


class VitEncoder(nn.Module):
    """The network without its classifier: ``(N, 3, H, W)``, multiples of the patch, to ``(N, width)``."""

    def __init__(
        self,
        image_size: int = 224,
        patch: int = 16,
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        hidden: int = 3072,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = Tokens((image_size // patch) ** 2 + 1, depth, width, heads, hidden, dropout)
        nn.init.trunc_normal_(self.conv_proj.weight, std=(3 * patch * patch) ** -0.5)
        nn.init.zeros_(self.conv_proj.bias if self.conv_proj.bias is not None else torch.empty(0))

    def forward(self, image: Tensor) -> Tensor:
        """Return the class token after all blocks."""
        patches: Tensor = self.conv_proj(image)
        grid = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.encoder(tokens, grid)[:, 0]
