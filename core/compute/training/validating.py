"""One case through the network as the bundle will run it: whole pictures, sliding windows over volumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.bundles.manifest import Inference
from core.compute.inference.backends import Backend
from core.compute.inference.slices import SliceBackend, flat_settings
from core.compute.inference.sliding import sliding_slabs
from core.compute.training.arithmetic import Arithmetic, answer_to, first_output
from core.compute.training.data.patches import filled_up
from core.compute.training.meters import AnyMeter, MultitaskMeter
from core.compute.training.mixing import on_device
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
        return first_output(self.answers(batch)).float().contiguous()

    @torch.no_grad()
    def answers(self, images: Tensor, text: Tensor | None = None) -> Any:
        """Return all that the network says to images ``(N, C, …)`` and word pieces ``(N, L)``."""
        words = None if text is None else text.to(self.device)
        return answer_to(self._network, images.to(self.device), words, self._arithmetic)


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
    batch: dict[str, Any], backend: NetworkBackend, loss: nn.Module, recipe: Recipe, meter: AnyMeter
) -> None:
    """Give the answers to a batch of whole cases to the meter.

    Volumes go through slab by slab, so that the logits of a whole body are never held. The loss of a case is then the
    mean over its slabs, weighed by their voxels.
    """
    if isinstance(meter, MultitaskMeter):
        _validate_tasks(batch, backend, loss, recipe, meter)
        return
    if recipe.task == "classification":
        logits = first_output(backend.answers(batch["image"], batch.get("text"))).float()
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


def whole_answer(
    backend: NetworkBackend, recipe: Recipe, images: Tensor, text: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the answers of a network of several tasks to whole images ``(N, C, …)``, on their grid.

    Sizes are filled up to the divisor on both sides with ``pad_value``, as the application does.
    """
    wanted = recipe.bundle.inference
    divisor = max(wanted.divisor, backend.divisor)
    padded = torch.stack([filled_up(image, None, divisor, wanted.pad_value)[0] for image in images])
    answer = backend.answers(padded, text)
    answers: dict[str, Tensor] = {task: answer[task].float() for task in recipe.task_names}
    if "segmentation" in answers and padded.shape != images.shape:
        sizes = zip(padded.shape[2:], images.shape[2:], strict=True)
        inside = tuple(slice((a - b) // 2, (a - b) // 2 + b) for a, b in sizes)
        answers["segmentation"] = answers["segmentation"][(slice(None), slice(None), *inside)]
    return answers


def _validate_tasks(
    batch: dict[str, Any], backend: NetworkBackend, loss: nn.Module, recipe: Recipe, meter: MultitaskMeter
) -> None:
    answers = whole_answer(backend, recipe, batch["image"], batch.get("text"))
    targets = on_device(batch["target"], backend.device)
    assert isinstance(targets, dict)
    meter.add_tasks(answers, targets, float(loss(answers, targets).detach()))
