"""One case through the network as the bundle will run it: whole pictures, sliding windows over volumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.compute.inference.sliding import sliding_slabs
from core.compute.training.arithmetic import Arithmetic, first_output
from core.compute.training.meters import Meter
from core.domain.progress import CancelToken
from core.recipes.schema import Recipe


class NetworkBackend:
    """A network under training, as the engines of ``core.compute.inference`` look.

    A two-dimensional network takes windows of one slice.
    """

    name = "training"
    exact = False

    def __init__(self, network: nn.Module, arithmetic: Arithmetic, device: torch.device | str) -> None:
        self.device = str(device)
        self._network, self._arithmetic = network, arithmetic

    def __call__(self, batch: Tensor, cancel: CancelToken | None = None) -> Tensor:
        """Return float32 logits of ``(N, C, …)``."""
        del cancel
        with torch.no_grad(), self._arithmetic.autocast(torch.device(self.device).type):
            images = self._arithmetic.place(batch.to(self.device))
            answer = first_output(self._network(images))
        return answer.float().contiguous()


class SliceBackend:
    """Runs a two-dimensional network on windows ``(N, C, 1, H, W)``."""

    exact = False

    def __init__(self, inner: NetworkBackend) -> None:
        self.name, self.device, self._inner = inner.name, inner.device, inner

    def __call__(self, batch: Tensor, cancel: CancelToken | None = None) -> Tensor:
        """Return logits ``(N, C, 1, H, W)``."""
        return self._inner(batch[:, :, 0], cancel).unsqueeze(2)


def validate_case(
    batch: dict[str, Any], backend: NetworkBackend, loss: nn.Module, recipe: Recipe, meter: Meter
) -> None:
    """Give the answers to a batch of whole cases to the meter.

    Volumes go through slab by slab, so that the logits of a whole body are never held. The loss of a case is then the
    mean over its slabs, weighed by their voxels.
    """
    if recipe.task == "classification":
        logits = backend(batch["image"])
        target = batch["target"].to(logits.device)
        meter.add(logits, target, float(loss(logits, target)))
        return
    for image, truth in zip(batch["image"], batch["target"], strict=True):
        flat = image.ndim == 3
        volume, labels = (image[:, None], truth[None]) if flat else (image, truth)
        engine = SliceBackend(backend) if flat else backend
        for slab in sliding_slabs(volume, engine, recipe.bundle.inference):
            logits = slab.logits[None].to(backend.device)
            part = labels[None, slab.start : slab.start + slab.logits.shape[1]].to(backend.device)
            if flat:
                logits, part = logits[:, :, 0], part[:, 0]
            meter.add(logits, part, float(loss(logits.float(), part)))
        meter.end_case()
