"""Stochastic depth that grows with the block's position.

Source: G. Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, section 3 (linear decay).
"""

from __future__ import annotations

from torch import nn

from models.networks.layers import StochasticDepth


def linear_rates(rate: float, blocks: int) -> list[float]:
    """Return the probability of dropping each block, from 0 at the first to ``rate`` at the last.

    Raises
    ------
    ValueError
        If ``rate`` isn't in [0, 1) or ``blocks`` is negative.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"The rate of stochastic depth must be in [0, 1), not {rate}.")
    if blocks < 0:
        raise ValueError(f"The number of blocks can't be {blocks}.")
    if blocks == 1:
        return [rate]
    return [rate * index / (blocks - 1) for index in range(blocks)]


def drop_path(rate: float) -> nn.Module:
    """Return the module around one residual branch: the identity when nothing is ever dropped."""
    return StochasticDepth(rate) if rate > 0.0 else nn.Identity()


def drop_paths(rate: float, blocks: int) -> nn.ModuleList:
    """Return one ``drop_path`` module per block, with the rates of ``linear_rates``."""
    return nn.ModuleList(drop_path(value) for value in linear_rates(rate, blocks))
