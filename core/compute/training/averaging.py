"""An exponential moving average of a network's weights and statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averaged copies of the floating-point state of a network; other state is copied.

    The decay is short at the beginning, min(decay, (n + 1) / (n + 10)), so that random weights are forgotten.

    Parameters
    ----------
    network : torch.nn.Module
        Its present state is where the average starts.
    decay : float
        0 means that the average is the network itself.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take the network after its ``step``-th step in."""
        if not self.decay:
            return
        decay = min(self.decay, (step + 1) / (step + 10))
        state = network.state_dict()
        averaged = [key for key, value in state.items() if value.dtype.is_floating_point]
        if averaged:
            torch._foreach_lerp_(
                [self.values[key] for key in averaged], [state[key] for key in averaged], 1.0 - decay
            )
        for key in state.keys() - set(averaged):
            self.values[key].copy_(state[key])

    @contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """Let the network have the averaged state for a while."""
        if not self.decay:
            yield
            return
        own = {key: value.detach().clone() for key, value in network.state_dict().items()}
        network.load_state_dict(self.values)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_for_export(self, network: nn.Module) -> dict[str, Tensor]:
        """Return copies of what is to be used: the average, or the network where nothing is averaged."""
        source = self.values if self.decay else network.state_dict()
        return {key: value.detach().clone() for key, value in source.items()}
