"""Small layers that several networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Permute(nn.Module):
    """Reorder the axes of a tensor (a module, so that hooks can read its output)."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with its axes in the given order."""
        return x.permute(self.order)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of ``(N, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normalised per position."""
        last = functional.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return last.permute(0, 3, 1, 2)


class StochasticDepth(nn.Module):
    """Drop a residual branch of single samples during training.

    Parameters
    ----------
    rate : float
        Probability of dropping; the kept branches are divided by ``1 - rate``, so the expectation stays.

    Notes
    -----
    Source: G. Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch, zero for the dropped samples."""
        if not self.training or self.rate == 0.0:
            return branch
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        kept = torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(1.0 - self.rate)
        return branch * (kept / (1.0 - self.rate))


def mlp(width: int, hidden: int, dropout: float = 0.0) -> nn.Sequential:
    """Return two linear layers with GELU between (linear layers at places 0 and 3)."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, width),
        nn.Dropout(dropout),
    )


def depth_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Return the rate of stochastic depth per stage and block, rising evenly from 0 to ``rate``."""
    total = sum(depths)
    steps = [rate * index / max(total - 1, 1) for index in range(total)]
    rates = []
    for depth in depths:
        rates.append(steps[:depth])
        steps = steps[depth:]
    return rates


def without_inplace(network: nn.Module) -> nn.Module:
    """Let no activation overwrite its input, so that hooks (explanations) read what was computed.

    MONAI's memory-efficient swish becomes the plain one: it computes the same, and can be traced.
    """
    for module in network.modules():
        if getattr(module, "inplace", False) is True and not type(module).__name__.endswith("Swish"):
            module.inplace = False  # type: ignore[assignment]
        for name, child in list(module.named_children()):
            if type(child).__name__ in {"MemoryEfficientSwish", "Swish"}:
                setattr(module, name, nn.SiLU())
    return network
