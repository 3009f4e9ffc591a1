"""Layers that don't do on the processor what they should: they keep the channels-last layout, and exact gradients.

Instance normalisation answers in the contiguous layout whatever it is given, so that the gradients of the activation
behind it mix two layouts; the gradient of PReLU is not vectorised. Both compute the same as before (the sum of PReLU's
gradient in float32).

The bfloat16 gradient of a 3³ convolution's weights is wrong where the map has two slices (torch 2.13 with oneDNN; it
reads memory that nobody wrote): these are computed in float32.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_INSTANCE = (nn.InstanceNorm2d, nn.InstanceNorm3d)
_FAULTY_SLICES = 2


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


def keep_gradients(network: nn.Module) -> int:
    """Let convolutions of two slices compute in float32 under autocast on the processor; returns how many may do so."""
    count = 0
    for module in network.modules():
        if type(module) is nn.Conv3d and max(module.kernel_size) > 1 and "forward" not in module.__dict__:
            setattr(module, "forward", types.MethodType(_of_few_slices, module))  # noqa: B010 - a typed method
            count += 1
    return count


def _of_few_slices(self: nn.Conv3d, given: Tensor) -> Tensor:
    reduced = torch.is_autocast_enabled("cpu") and not given.is_cuda
    if not reduced or given.shape[2] != _FAULTY_SLICES or not torch.is_grad_enabled():
        plain: Tensor = nn.Conv3d.forward(self, given)
        return plain
    with torch.autocast("cpu", enabled=False):
        answer: Tensor = nn.Conv3d.forward(self, given.to(self.weight.dtype))
    return answer.to(torch.get_autocast_dtype("cpu"))


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
