"""Batch normalisation folded into the convolution before it.

In evaluation batch normalisation is a fixed affine map per channel, so the folded network computes the same
function (to rounding) with fewer passes over memory. Source: Jacob et al., CVPR 2018, section 3.2.
"""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folded(network: nn.Module) -> nn.Module:
    """Return a copy of an evaluation-mode network in which every ``Sequential`` pair is folded.

    A ReLU behind a folded pair works in place: nothing else reads the convolution's result. Not for
    attribution.
    """
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return copied.requires_grad_(False)


def _fold_sequence(sequence: nn.Sequential) -> None:
    for index in range(len(sequence) - 1):
        first, second = sequence[index], sequence[index + 1]
        if not (isinstance(first, _CONVOLUTIONS) and isinstance(second, _NORMS)):
            continue
        if second.running_mean is None or first.training or second.training:
            continue
        sequence[index] = fuse_conv_bn_eval(first, second)
        sequence[index + 1] = nn.Identity()
        after = sequence[index + 2] if index + 2 < len(sequence) else None
        if isinstance(after, nn.ReLU):
            sequence[index + 2] = nn.ReLU(inplace=True)
