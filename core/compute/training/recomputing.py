"""Gradient checkpointing: activations of a stage are computed again on the way back instead of kept.

Source: T. Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016 (``torch.utils.checkpoint``).
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from models.networks.parts import stages


def recompute_stages(network: nn.Module) -> int:
    """Let each stage of the backbone recompute its activations; returns how many modules do."""
    count = 0
    for stage in stages(network):
        for module in stage.modules:
            if type(module).forward is not nn.Module.forward and any(True for _ in module.children()):
                module.forward = types.MethodType(_recomputed, module)
                count += 1
    return count


def keep_stages(network: nn.Module) -> None:
    """Undo ``recompute_stages`` (and ``layouts.keep_layout``)."""
    for module in network.modules():
        module.__dict__.pop("forward", None)


def _recomputed(self: nn.Module, *given: Any, **named: Any) -> Any:
    forward = partial(type(self).forward, self)
    if not (self.training and torch.is_grad_enabled()):
        return forward(*given, **named)
    return checkpoint(forward, *given, use_reentrant=False, context_fn=partial(_contexts, self), **named)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(module)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep running statistics from being updated twice: in the second pass the new ones have no weight."""
    norms = [
        part
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
    ]
    counted = [None if one.num_batches_tracked is None else one.num_batches_tracked.clone() for one in norms]
    momenta = [part.momentum for part in norms]
    for part in norms:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum, count in zip(norms, momenta, counted, strict=True):
            part.momentum = momentum
            if part.num_batches_tracked is not None and count is not None:
                part.num_batches_tracked.copy_(count)
