"""Multi-head attention over tokens by torch's fused kernels.

Source: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2; T. Dao et al.,
"FlashAttention", NeurIPS 2022 (the kernel behind ``flash``).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.networks.mri_multitask.tracing import exporting

Kernel = Literal["auto", "flash", "efficient", "math"]

_PREFERENCES: dict[str, list[SDPBackend]] = {
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH],
    "math": [SDPBackend.MATH],
}


def check_heads(width: int, heads: int, kernel: str) -> None:
    """Refuse a width that the heads don't divide, or an unknown kernel.

    Raises
    ------
    ValueError
        With the numbers that don't fit.
    """
    if heads < 1 or width % heads:
        raise ValueError(f"A width of {width} can't be shared by {heads} heads.")
    if kernel not in get_args(Kernel):
        raise ValueError(f"The attention kernel is one of {get_args(Kernel)}, not {kernel!r}.")


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    kernel: Kernel = "auto",
) -> Tensor:
    """Return ``softmax(query · keyᵀ / √d + mask) · value``.

    Parameters
    ----------
    query, key, value : Tensor
        ``(N, heads, n, d)``, ``(N, heads, m, d)``, ``(N, heads, m, e)``.
    mask : Tensor, optional
        Broadcast to ``(N, heads, n, m)``: boolean, True where the query may look at the key, or a float
        that is added to the scores.
    dropout : float
        Share of the attention weights set to zero; the caller passes 0 outside of training.
    kernel : Kernel
        The preferred kernel. One that can't take this input (device, type, mask) is passed over for the
        next, down to the plain formula; ``auto`` leaves the choice to torch.

    Returns
    -------
    Tensor
        ``(N, heads, n, e)``.
    """
    if mask is not None and not torch.is_grad_enabled():
        # The fused kernels pass over a mask that could want a gradient, even when none is recorded.
        mask = mask.detach()
    if kernel == "auto" or exporting():
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout)
    with sdpa_kernel(_PREFERENCES[kernel], set_priority=True):
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout)


def joint_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, dtype: torch.dtype
) -> Tensor | None:
    """Return one mask for ``attend`` from a mask of pairs and a mask of padded keys.

    Parameters
    ----------
    attn_mask : Tensor, optional
        ``(n, m)``, ``(N, n, m)`` or ``(N, heads, n, m)``: boolean (True: may look) or float (added).
    key_padding_mask : Tensor, optional
        ``(N, m)`` boolean, True where the key is padding and nobody may look.
    dtype : torch.dtype
        Type of the scores, for a float mask.

    Returns
    -------
    Tensor or None
        Broadcasts to ``(N, heads, n, m)``.
    """
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.unsqueeze(1)
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        attn_mask = attn_mask.to(dtype)
    if key_padding_mask is None:
        return attn_mask
    seen = ~key_padding_mask[:, None, None, :]
    if attn_mask is None:
        return seen
    if attn_mask.dtype == torch.bool:
        return attn_mask & seen
    return attn_mask.masked_fill(~seen, float("-inf"))


class MultiHeadAttention(nn.Module):
    """Self-attention, or cross-attention to a context, over tokens ``(N, n, width)``.

    Parameters
    ----------
    width : int
        Features per token; the heads share them.
    heads : int
        Number of heads.
    qkv_bias : bool
        Whether the projections to queries, keys and values have a bias.
    dropout : float
        Share of the attention weights dropped during training.
    projection_dropout : float
        Share of the output's features dropped during training.
    kernel : Kernel
        See ``attend``.
    context_width : int, optional
        Features of the context's tokens, when they differ from ``width``.

    Notes
    -----
    A query that may look at no key at all gets zeros before the last projection.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        projection_dropout: float = 0.0,
        kernel: Kernel = "auto",
        context_width: int | None = None,
    ) -> None:
        super().__init__()
        check_heads(width, heads, kernel)
        self.heads = heads
        self.dropout = dropout
        self.kernel: Kernel = kernel
        self.query = nn.Linear(width, width, bias=qkv_bias)
        self.key_value = nn.Linear(context_width or width, 2 * width, bias=qkv_bias)
        self.projection = nn.Linear(width, width)
        self.projection_dropout = nn.Dropout(projection_dropout)

    @property
    def draws_randomness(self) -> bool:
        """Whether a forward pass takes random numbers now."""
        return self.training and self.dropout > 0.0

    def forward(
        self,
        tokens: Tensor,
        context: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the attended tokens.

        Parameters
        ----------
        tokens : Tensor
            ``(N, n, width)``.
        context : Tensor, optional
            ``(N, m, context_width)``, where keys and values come from; None: the tokens themselves.
        attn_mask, key_padding_mask : Tensor, optional
            See ``joint_mask``: True in ``attn_mask`` allows, True in ``key_padding_mask`` hides.

        Returns
        -------
        Tensor
            ``(N, n, width)``.
        """
        source = tokens if context is None else context
        query = self._split(self.query(tokens))
        key, value = (self._split(part) for part in self.key_value(source).chunk(2, dim=-1))
        mask = joint_mask(attn_mask, key_padding_mask, query.dtype)
        attended = attend(query, key, value, mask, self.dropout if self.training else 0.0, self.kernel)
        merged = attended.transpose(1, 2).flatten(2)
        result: Tensor = self.projection_dropout(self.projection(merged))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """``(N, n, width)`` → ``(N, heads, n, width / heads)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
