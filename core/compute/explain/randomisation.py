"""Does a map depend on what the network learnt?

The weights are drawn anew, the same map is made again, and both are compared. A map that hardly changes (an
edge detector in disguise) says nothing about the model. Source: Adebayo et al., "Sanity Checks for Saliency
Maps", NeurIPS 2018 (model parameter randomisation test, all layers at once, Spearman rank correlation).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy import stats
from torch import nn

# A random network's map is an arbitrary mixture of random features: over several draws its correlation with the
# true map averages near 0, while a map that ignores the weights has 1. Half-way is the line.
THRESHOLD = 0.5
DRAWS = 5
_CELLS = 16
_FIRST_SEED = 104_729

MapOf = Callable[[nn.Module], torch.Tensor]
Pool = Callable[[torch.Tensor, Any], torch.Tensor]


def randomisation_correlation(network: nn.Module, map_of: MapOf, draws: int = DRAWS) -> float | None:
    """Return the mean Spearman correlation between the map and the maps of re-initialised copies.

    Parameters
    ----------
    map_of : callable
        Makes the signed map ``(1, 1, …)`` of a network; called once with ``network`` and once per draw.

    Returns
    -------
    float or None
        -1…1; None when the map is constant, so that ranks mean nothing.
    """
    original = _ranked(map_of(network))
    if original is None:
        return None
    found = []
    for seed in range(draws):
        other = _ranked(map_of(randomised(network, seed)))
        if other is not None:
            found.append(float(stats.spearmanr(original, other).statistic))
    return float(np.mean(found)) if found else None


def is_sane(correlation: float | None) -> bool | None:
    """Whether the correlation is below ``THRESHOLD``; None when it is unknown."""
    return None if correlation is None else correlation < THRESHOLD


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """Return a copy whose every layer is initialised anew; the global random state is left alone."""
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_FIRST_SEED + seed)
        for module in other.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                _draw(module)
    return other.eval().requires_grad_(False)


@torch.no_grad()
def _draw(module: nn.Module) -> None:
    """Draw a module's own parameters (class token, positions, joint projections) anew, spread as they are."""
    for parameter in module.parameters(recurse=False):
        if parameter.is_floating_point() and parameter.numel() > 1:
            spread, middle = torch.std_mean(parameter)
            parameter.copy_(torch.randn_like(parameter) * spread + middle)


def _ranked(heat: torch.Tensor) -> NDArray[np.float64] | None:
    """At most 16 cells along each axis, flattened; None for a constant map."""
    size = [min(_CELLS, length) for length in heat.shape[2:]]
    pool: Pool = functional.adaptive_avg_pool3d if len(size) == 3 else functional.adaptive_avg_pool2d
    values = pool(heat.float(), tuple(size)).reshape(-1).double().cpu().numpy()
    return None if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())) else values
