"""In which precision and memory format a network is computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core.compute.training.layouts import keep_gradients, keep_layout
from core.domain.errors import InputError
from models.networks.parts import plain

Outputs = Tensor | dict[str, Tensor]
"""What a network answers or should: of one task a tensor, of several a dict by task."""

Precision = Literal["fp32", "bf16", "fp16"]
MemoryFormat = Literal["contiguous", "channels_last"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Arithmetic:
    """A precision (weights stay float32) and a memory format."""

    precision: Precision = "fp32"
    memory_format: MemoryFormat = "contiguous"

    def autocast(self, device_type: str) -> AbstractContextManager[object]:
        """Return the context of forward passes."""
        dtype = _DTYPES.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(device_type, dtype)

    def layout(self, ndim: int) -> torch.memory_format:
        """Return torch's memory format for tensors of ``ndim`` axes."""
        if self.memory_format == "contiguous" or ndim not in (4, 5):
            return torch.contiguous_format
        return torch.channels_last if ndim == 4 else torch.channels_last_3d

    def place(self, images: Tensor) -> Tensor:
        """Return images in the memory format."""
        return images.contiguous(memory_format=self.layout(images.ndim))

    def place_network(self, network: nn.Module, spatial_dims: int) -> None:
        """Bring the weights, and layers that would leave it, into the memory format."""
        network.to(memory_format=self.layout(spatial_dims + 2))  # type: ignore[call-overload]
        if self.memory_format == "channels_last":
            keep_layout(network)
        if self.precision == "bf16":
            keep_gradients(network)

    def __str__(self) -> str:
        """Return for example ``bf16, channels_last``."""
        return f"{self.precision}, {self.memory_format}"


def first_output(answer: object) -> Tensor:
    """Return the first output of networks that return several (deep supervision)."""
    while not isinstance(answer, Tensor):
        if isinstance(answer, dict):
            answer = next(iter(answer.values()))
        else:
            answer = answer[0]  # type: ignore[index]
    return answer


def answer_to(network: nn.Module, images: Tensor, text: Tensor | None, how: Arithmetic) -> Any:
    """Return what a network says to images ``(N, C, …)`` and, where given, word pieces ``(N, L)``."""
    with how.autocast(images.device.type):
        placed = how.place(images)
        return network(placed) if text is None else network(placed, text)


def outputs_for(answer: Any, target: Outputs) -> Outputs:
    """Return the float32 outputs that belong to a target: the first one, or those of its tasks.

    Raises
    ------
    InputError
        ``training.network`` when the network doesn't answer for one of the tasks.
    """
    if not isinstance(target, dict):
        return first_output(answer).float()
    if not isinstance(answer, dict) or not target.keys() <= answer.keys():
        raise InputError(
            "training.network",
            f"The network doesn't answer for each of {', '.join(target)}.",
            "Choose a network for several tasks, such as mri_multitask.",
        )
    return {task: answer[task].float() for task in target}


def loss_of(
    network: nn.Module,
    loss: nn.Module,
    images: Tensor,
    target: Outputs,
    how: Arithmetic,
    text: Tensor | None = None,
) -> Tensor:
    """Return the float32 loss of a batch; the loss itself is computed in float32.

    What the network asks for itself (``auxiliary_loss``) is added, weighed by the ``auxiliary_weight`` of the loss.
    """
    outputs = outputs_for(answer_to(network, images, text, how), target)
    value: Tensor = loss(outputs, target)
    weight = getattr(loss, "auxiliary_weight", 0.0)
    own = getattr(plain(network), "auxiliary_loss", None) if weight else None
    return value if own is None else value + weight * own().float()
