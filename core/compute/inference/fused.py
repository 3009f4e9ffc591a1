"""Networks rewritten for the processor's convolution library (oneDNN), without changing what they compute.

Three things cost eager torch time around its convolutions: batch normalisation and ReLU are passes over
memory of their own, some shapes take a slow path that unfolds the image, and concatenating two images whose
channels are innermost copies voxel by voxel. Here the normalisation is folded into the weights, the ReLU is
done where the convolution writes, every convolution takes the library's path, and concatenation copies rows.

Source: oneDNN developer guide, "Primitive attributes: post-ops"; torch's own compiler emits the same operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from core.compute.inference.folding import folded

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


class FusedConvolution(nn.Module):
    """A convolution and the ReLU behind it in one pass.

    Parameters
    ----------
    convolution : torch.nn.Conv2d or torch.nn.Conv3d
        With zero padding given in numbers (see ``can_fuse``).
    relu : bool
        Whether a ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, relu: bool) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias
        self._groups = convolution.groups
        self._shape = tuple(list(item) for item in _numbers(convolution))
        self._after = "relu" if relu else "none"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the answer to ``(N, C, …)`` in the memory format of ``image``."""
        padding, stride, dilation = self._shape
        run: Callable[..., torch.Tensor] = torch.ops.mkldnn._convolution_pointwise
        return run(
            image, self.weight, self.bias, padding, stride, dilation, self._groups, self._after, [], ""
        )


class RowWiseConcatenation(TorchFunctionMode):
    """While active, ``torch.cat`` of images whose channels are innermost copies whole rows of channels."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer ``torch.cat`` along the channels; pass everything else on."""
        named = kwargs or {}
        if func is torch.cat and args and set(named) <= {"dim"}:
            dim = named.get("dim", args[1] if len(args) > 1 else 0)
            if dim == 1 and _channels_innermost(args[0]):
                last = torch.cat([image.movedim(1, -1) for image in args[0]], dim=-1)
                return last.movedim(-1, 1)
        return func(*args, **named)


def can_fuse() -> bool:
    """Whether this build of torch has the fused operator."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def fused(network: nn.Module) -> nn.Module:
    """Return a copy of an evaluation-mode network with folded normalisations and fused convolutions.

    Not for attribution: it computes no gradients.
    """
    copied = folded(network)
    for parent in list(copied.modules()):
        if isinstance(parent, nn.Sequential):
            _fuse_sequence(parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, _CONVOLUTIONS) and _numbers(child):
                setattr(parent, name, FusedConvolution(child, relu=False))
    return copied


def _fuse_sequence(sequence: nn.Sequential) -> None:
    """Replace each convolution that a ReLU follows; folding has left identities between them."""
    for index, module in enumerate(sequence):
        if not isinstance(module, _CONVOLUTIONS) or not _numbers(module):
            continue
        behind = index + 1
        while behind < len(sequence) and isinstance(sequence[behind], nn.Identity):
            behind += 1
        if behind < len(sequence) and isinstance(sequence[behind], nn.ReLU):
            sequence[index] = FusedConvolution(module, relu=True)
            sequence[behind] = nn.Identity()


def _numbers(convolution: nn.Conv2d | nn.Conv3d) -> tuple[tuple[int, ...], ...]:
    """Padding, stride and dilation; empty where the padding is none of zeros or has no numbers."""
    if isinstance(convolution.padding, str) or convolution.padding_mode != "zeros":
        return ()
    return convolution.padding, convolution.stride, convolution.dilation


def _channels_innermost(images: Sequence[torch.Tensor]) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return all(
        image.ndim in formats and image.is_contiguous(memory_format=formats[image.ndim]) for image in images
    )
