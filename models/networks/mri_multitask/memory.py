"""When to save memory: gradient checkpointing and work in chunks, switched by how much memory is free.

Both change what a step costs, never what it computes. Source of checkpointing: T. Chen et al., "Training Deep
Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import psutil
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.networks.mri_multitask.tracing import exporting

Mode = Literal["always", "never", "auto"]
MODES: tuple[Mode, ...] = ("always", "never", "auto")
SMALLEST_CHUNKS = 8


@dataclass(frozen=True)
class MemoryPolicy:
    """What a network may do to fit into memory.

    Attributes
    ----------
    checkpointing, chunking : str
        ``always``, ``never``, or ``auto``: only when what would be kept exceeds the share of the free memory.
    share : float
        Part of the free memory that the kept activations may take, above 0 and at most 1.
    """

    checkpointing: Mode = "auto"
    chunking: Mode = "auto"
    share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("checkpointing", "chunking"):
            if getattr(self, name) not in MODES:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(MODES)}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be above 0 and at most 1")

    def checkpoints(self, needed: int, device: torch.device) -> bool:
        """Return whether to compute again in the backward pass what would take ``needed`` bytes to keep."""
        if self.checkpointing == "never" or exporting():
            return False
        return self.checkpointing == "always" or needed > self.share * free_bytes(device)

    def chunk(self, slices: int, slice_bytes: int, unit: int, device: torch.device) -> int:
        """Return how many slices to work on at a time: a multiple of ``unit``, or all of them.

        Parameters
        ----------
        slices : int
            Slices of the volume.
        slice_bytes : int
            Bytes that the work on one slice takes.
        unit : int
            Chunks are multiples of it.
        """
        if self.chunking == "never" or exporting():
            return slices
        fitting = int(self.share * free_bytes(device) / max(slice_bytes, 1))
        if self.chunking == "always":
            fitting = min(fitting, slices // SMALLEST_CHUNKS)
        return min(slices, max(unit, fitting // unit * unit))


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a graphics card, or of the computer for every other device."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + reserved)
    return int(psutil.virtual_memory().available)


def saved(function: Callable[..., Any], *inputs: Any, again: bool) -> Any:
    """Return ``function(*inputs)``; with ``again`` its inner values are computed again for the gradient.

    Random numbers (dropout, stochastic depth) are the same the second time.
    """
    if again and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False)
    return function(*inputs)


def bytes_of(shape: tuple[int, ...], like: Tensor) -> int:
    """Return the bytes of a tensor of this shape in the type that the network computes in."""
    size = torch.get_autocast_dtype(like.device.type).itemsize if _autocast(like) else like.element_size()
    count = size
    for extent in shape:
        count *= extent
    return count


def _autocast(like: Tensor) -> bool:
    return like.device.type != "meta" and torch.is_autocast_enabled(like.device.type)
