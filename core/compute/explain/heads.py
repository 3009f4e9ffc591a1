"""One answer of a network with several heads, or of one that also reads a text, as the map makers see a network."""

from __future__ import annotations

import torch
from torch import nn

from core.compute.inference.backends import Engine
from core.domain.progress import CancelToken


class HeadNetwork(nn.Module):
    """Takes ``(N, C, …)`` and gives the output ``name`` alone; layers keep the names of the inner network.

    Parameters
    ----------
    name : str
        Of the output; empty for the only (or first) one.
    text : torch.Tensor, optional
        ``(1, L)`` int64 ids that go with every image.
    """

    def __init__(self, inner: nn.Module, name: str, text: torch.Tensor | None = None) -> None:
        super().__init__()
        self.inner = inner
        self._name = name
        self._text = text

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Run the inner network and choose its answer."""
        given = () if self._text is None else (self._text.to(image.device).expand(len(image), -1),)
        answer = self.inner(image, *given)
        if isinstance(answer, dict):
            answer = answer[self._name] if self._name else next(iter(answer.values()))
        while not isinstance(answer, torch.Tensor):
            answer = answer[0]
        return answer

    def get_submodule(self, target: str) -> nn.Module:
        """Return a layer of the inner network."""
        return self.inner.get_submodule(target)


class HeadBackend:
    """An engine that gives the output ``name`` alone."""

    def __init__(self, inner: Engine, name: str, text: torch.Tensor | None = None) -> None:
        self.name, self.device, self.exact = inner.name, inner.device, inner.exact
        self._inner, self._output, self._text = inner, name, text

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Run the engine and choose its answer."""
        text = None if self._text is None else self._text.expand(len(batch), -1)
        outputs = self._inner.outputs(batch, text, cancel)
        return outputs[self._output] if self._output else next(iter(outputs.values()))
