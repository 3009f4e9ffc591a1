"""How the features of a picture and those of its report become one vector.

All three take ``(N, T, image)`` tokens of the picture, ``(N, L, text)`` states of the report and ``(N, L)`` bool, True
where a token is, and return ``(N, width)``. A row without any token is a picture without a report: the learnt embedding
“no report” stands for it, or the gate is shut.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FUSIONS = ("concat", "cross_attention", "gated")


def build_fusion(name: str, image: int, text: int, width: int, heads: int, dropout: float) -> nn.Module:
    """Build a fusion by name.

    Raises
    ------
    ValueError
        For an unknown name, and for a width that isn't a multiple of the heads.
    """
    if name == "concat":
        return ConcatFusion(image, text, width, dropout)
    if name == "gated":
        return GatedFusion(image, text, width, dropout)
    if name == "cross_attention":
        if width % heads:
            raise ValueError(f"width {width} is no multiple of {heads} heads")
        return CrossAttentionFusion(image, text, width, heads, dropout)
    raise ValueError(f"fusion {name!r}; known: {', '.join(FUSIONS)}")


class ConcatFusion(nn.Module):
    """Mean of the picture's tokens and the report's first state side by side, then two layers."""

    def __init__(self, image: int, text: int, width: int, dropout: float) -> None:
        super().__init__()
        self.no_report = nn.Parameter(torch.zeros(text))
        self.mix = nn.Sequential(
            nn.LayerNorm(image + text),
            nn.Linear(image + text, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
        )

    def forward(self, picture: Tensor, report: Tensor, there: Tensor) -> Tensor:
        """Return the fused features."""
        summary = torch.where(there.any(dim=1, keepdim=True), report[:, 0], self.no_report)
        fused: Tensor = self.mix(torch.cat([picture.mean(dim=1), summary], dim=1))
        return fused


class CrossAttentionFusion(nn.Module):
    """The picture's tokens look at the report's, and the report's at the picture's; both means side by side.

    Source: J. Lu et al., ViLBERT, NeurIPS 2019 (co-attention), one layer.
    """

    def __init__(self, image: int, text: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(image, width), nn.Linear(text, width)
        self.no_report = nn.Parameter(torch.zeros(width))
        self.image_looks = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.text_looks = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.image_norm, self.text_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Dropout(dropout))

    def forward(self, picture: Tensor, report: Tensor, there: Tensor) -> Tensor:
        """Return the fused features."""
        present = there.any(dim=1, keepdim=True)
        first = torch.zeros_like(there)
        first[:, 0] = True
        used = torch.where(present, there, first)
        tokens = self.image(picture)
        words = torch.where(present[..., None], self.text(report), self.no_report)
        seen = self.image_looks(tokens, words, words, key_padding_mask=~used, need_weights=False)[0]
        read = self.text_looks(words, tokens, tokens, need_weights=False)[0]
        pictures = self.image_norm(tokens + seen).mean(dim=1)
        share = used[..., None].to(words.dtype)
        reports = (self.text_norm(words + read) * share).sum(dim=1) / share.sum(dim=1)
        fused: Tensor = self.mix(torch.cat([pictures, reports], dim=1))
        return fused


class GatedFusion(nn.Module):
    """A gate per feature weighs report against picture; without a report it is shut.

    Source: J. Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR workshop 2017.
    """

    def __init__(self, image: int, text: int, width: int, dropout: float) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.LayerNorm(image), nn.Linear(image, width), nn.Tanh())
        self.text = nn.Sequential(nn.LayerNorm(text), nn.Linear(text, width), nn.Tanh())
        self.weigh = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def gate(self, picture: Tensor, report: Tensor, there: Tensor) -> Tensor:
        """Return ``(N, width)``: the report's share of each feature, 0 without a report."""
        both = torch.cat([self.image(picture.mean(dim=1)), self.text(report[:, 0])], dim=1)
        return torch.sigmoid(self.weigh(both)) * there.any(dim=1, keepdim=True)

    def forward(self, picture: Tensor, report: Tensor, there: Tensor) -> Tensor:
        """Return the fused features."""
        gate = self.gate(picture, report, there)
        fused: Tensor = self.dropout(
            (1 - gate) * self.image(picture.mean(dim=1)) + gate * self.text(report[:, 0])
        )
        return fused
