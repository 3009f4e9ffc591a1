"""One case through the network as the bundle will run it: whole pictures, sliding windows over volumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.bundles.manifest import Inference
from core.compute.inference.backends import Backend
from core.compute.inference.slices import SliceBackend, flat_settings
from core.compute.inference.sliding import sliding_slabs
from core.compute.training.arithmetic import Arithmetic, first_output
from core.compute.training.meters import Meter
from core.domain.progress import CancelToken
from core.recipes.schema import Recipe
from models.networks.parts import parts_of


class NetworkBackend:
    """A network under training, as the engines of ``core.compute.inference`` look.

    ``divisor`` is what sizes must be multiples of.
    """

    name = "training"
    exact = False

    def __init__(self, network: nn.Module, arithmetic: Arithmetic, device: torch.device | str) -> None:
        self.device = str(device)
        self._network, self._arithmetic = network, arithmetic
        self.divisor = parts_of(network).divisor

    def __call__(self, batch: Tensor, cancel: CancelToken | None = None) -> Tensor:
        """Return float32 logits of ``(N, C, …)``."""
        del cancel
        with torch.no_grad(), self._arithmetic.autocast(torch.device(self.device).type):
            images = self._arithmetic.place(batch.to(self.device))
            answer = first_output(self._network(images))
        return answer.float().contiguous()


def engine_for(
    backend: NetworkBackend, recipe: Recipe, volume: Tensor, divisor: int
) -> tuple[Backend, Inference]:
    """Return the engine and the windows for ``volume`` ``(C, K, J, I)``: those that the bundle will have."""
    wanted = recipe.bundle.inference
    settings = wanted.model_copy(update={"divisor": max(wanted.divisor, divisor)})
    if recipe.spatial_dims == 3:
        return backend, settings
    return SliceBackend(backend), flat_settings(settings, volume.shape[1:])


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
        engine, settings = engine_for(backend, recipe, volume, backend.divisor)
        for slab in sliding_slabs(volume, engine, settings):
            logits = slab.logits[None].to(backend.device)
            part = labels[None, slab.start : slab.start + slab.logits.shape[1]].to(backend.device)
            if flat:
                logits, part = logits[:, :, 0], part[:, 0]
            meter.add(logits, part, float(loss(logits.float(), part)))
        meter.end_case()
