"""Layers that would lose the channels-last layout on the processor, and the time that it saves, keep it.

Instance normalisation answers in the contiguous layout whatever it is given, so that the gradients of the activation
behind it mix two layouts; the gradient of PReLU is not vectorised. Both compute the same as before (the sum of PReLU's
gradient in float32).
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_INSTANCE = (nn.InstanceNorm2d, nn.InstanceNorm3d)


def keep_layout(network: nn.Module) -> int:
    """Let a network's layers keep channels last in training; returns how many were changed."""
    count = 0
    for module in network.modules():
        forward: Callable[..., Tensor] | None = None
        if isinstance(module, _INSTANCE):
            forward = _normalised
        elif isinstance(module, nn.PReLU) and module.num_parameters == 1:
            forward = _activated
        if forward is not None and "forward" not in module.__dict__:
            module.forward = types.MethodType(forward, module)
            count += 1
    return count


def _normalised(self: nn.Module, given: Tensor) -> Tensor:
    answer: Tensor = type(self).forward(self, given)
    if not self.training or given.is_cuda or given.ndim not in (4, 5):
        return answer
    layout = torch.channels_last if given.ndim == 4 else torch.channels_last_3d
    return answer.contiguous(memory_format=layout)


def _activated(self: nn.PReLU, given: Tensor) -> Tensor:
    if not (self.training and torch.is_grad_enabled()) or given.is_cuda:
        plain: Tensor = nn.PReLU.forward(self, given)
        return plain
    answer: Tensor = _OneSlope.apply(given, self.weight)
    return answer


class _OneSlope(torch.autograd.Function):
    """PReLU with one slope. Source: K. He et al., Delving Deep into Rectifiers, ICCV 2015, equations 1 and 3."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, slope: Tensor) -> Tensor:
        """Return max(0, x) + slope · min(0, x)."""
        ctx.save_for_backward(given)
        ctx.slope = float(slope.detach())
        return functional.leaky_relu(given, ctx.slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the input and of the slope."""
        (given,), gradient = ctx.saved_tensors, gradients[0]
        of_input = torch.ops.aten.leaky_relu_backward(gradient, given, ctx.slope, False)
        of_slope = given.clamp(max=0).mul_(gradient).sum(dtype=torch.float32).reshape(1)
        return of_input, of_slope
