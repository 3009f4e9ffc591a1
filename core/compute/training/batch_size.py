"""The largest batch that fits: memory measured at two sizes, a line through them, a reserve."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from core.compute.inference.backends import is_out_of_memory
from core.compute.training.arithmetic import Arithmetic
from core.compute.training.mixing import Mixture

RESERVE = 0.10
_UPPER = {"classification": 64, "segmentation": 8, "multitask": 8}


@dataclass(frozen=True)
class MemoryModel:
    """Bytes of a step as ``fixed + per_sample · n``.

    Attributes
    ----------
    fixed, per_sample : float
        Bytes: weights, gradients, optimiser and averages; activations of a sample.
    """

    fixed: float
    per_sample: float

    def largest(self, free_bytes: float, upper: int) -> int:
        """Return how many samples fit into the free memory less the reserve, 1 … ``upper``."""
        room = free_bytes * (1 - RESERVE) - self.fixed
        fitting = int(room // self.per_sample) if self.per_sample > 0 else upper
        return max(1, min(fitting, upper))


def fitted(small: tuple[int, float], large: tuple[int, float], state_bytes: float) -> MemoryModel:
    """Lay a line through (samples, bytes of activations) at two sizes and add what doesn't depend on the batch."""
    slope = max(0.0, (large[1] - small[1]) / (large[0] - small[0]))
    return MemoryModel(state_bytes + max(0.0, small[1] - slope * small[0]), slope)


def largest_batch(
    network: nn.Module,
    loss: nn.Module,
    draw: Callable[[int], dict[str, Any]],
    *,
    how: Arithmetic,
    device: str,
    task: str,
    cases: int,
    free_bytes: float | None = None,
) -> tuple[int, str]:
    """Return the batch size to use and a sentence that says why.

    Parameters
    ----------
    draw : callable
        Gives a training batch of so many draws.
    cases : int
        Training cases: no batch is larger.
    free_bytes : float, optional
        By default what is free on the device now.
    """
    upper = max(1, min(_UPPER[task], cases))
    if upper == 1:
        return 1, "one training case: batches of 1"
    sizes = (2, 4) if upper >= 4 else (1, 2)
    measured: list[tuple[int, float]] = []
    try:
        for size in sizes:
            measured.append((size, activation_bytes(network, loss, draw(size), how, device)))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return 1, f"memory ran out at {sizes[len(measured)]} samples: batches of 1"
    free = _free(device) if free_bytes is None else free_bytes
    # Weights, their gradients, two moments, the average and one copy while it changes places.
    state = 6 * sum(p.numel() * p.element_size() for p in network.parameters())
    model = fitted(measured[0], measured[1], state)
    size = model.largest(free, upper)
    return size, (
        f"{model.per_sample / 2**20:.1f} MiB per draw and {model.fixed / 2**20:.0f} MiB besides, measured at "
        f"{sizes[0]} and {sizes[1]} draws; {free / 2**20:.0f} MiB free less {RESERVE:.0%}; at most {upper}: {size}"
    )


def activation_bytes(
    network: nn.Module, loss: nn.Module, batch: dict[str, Any], how: Arithmetic, device: str
) -> float:
    """Return the bytes that a step holds beside weights: peak on a GPU, else what the graph keeps for the way back.

    On the processor each storage that autograd saves is counted once; the largest one is added twice, for the outputs
    and gradients that live at the same moment.
    """
    one = copy.deepcopy(network).to(device).train()
    how.place_network(one, batch["image"].ndim - 2)
    samples = Mixture.of(batch, device)
    judge = copy.deepcopy(loss).to(device).train()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        samples.loss(one, judge, how).backward()
        return float(torch.cuda.max_memory_allocated() - before)
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in one.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = samples.loss(one, judge, how)
    held = sum(kept.values()) + 2 * max(kept.values(), default=0)
    del value
    return float(held)


def _free(device: str) -> float:
    if device != "cpu":
        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available)
