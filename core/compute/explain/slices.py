"""A two-dimensional segmentation network as the maps of volumes see it: on pictures of one slice."""

from __future__ import annotations

import torch
from torch import nn


class SliceNetwork(nn.Module):
    """Takes ``(N, C, 1, H, W)`` and gives logits ``(N, C, 1, H, W)``; layers keep the names of the inner network.

    With ``keep`` an answer without space (classes) stays as it is.
    """

    def __init__(self, inner: nn.Module, *, keep: bool = False) -> None:
        super().__init__()
        self.inner = inner
        self._keep = keep

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Run the inner network on the slice."""
        answer = self.inner(image[:, :, 0])
        while not isinstance(answer, torch.Tensor):
            answer = answer[0]
        return answer if self._keep else answer.unsqueeze(2)

    def get_submodule(self, target: str) -> nn.Module:
        """Return a layer of the inner network."""
        return self.inner.get_submodule(target)
