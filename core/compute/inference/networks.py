"""From a bundle's weights to a torch module, without unpickling anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from core.bundles.bundle import Bundle
from core.bundles.small_weights import decode_int8
from core.domain.errors import EnvironmentFault, InputError
from models.networks.mri_multitask.memory import MemoryPolicy
from models.networks.plugins import BrokenNetworkError
from models.networks.registry import build


def load_network(bundle: Bundle) -> nn.Module | None:
    """Build the manifest's network and load its safetensors; None when the bundle has ONNX only.

    Weights that are stored small (float16, or int8 with scales) are turned into float32. The module is in
    evaluation mode, its parameters take no gradient, and no ReLU works in place (in-place
    operations break attribution hooks).

    Raises
    ------
    InputError
        ``model.network``: the registry refuses name or parameters. ``model.weights``: the file is damaged or
        its tensors don't have the names and shapes of the network.
    EnvironmentFault
        ``model.network``: a package that the network needs is missing or broken.
    """
    manifest = bundle.manifest
    weights = bundle.weights("safetensors")
    if manifest.network is None or weights is None:
        return None
    try:
        network = build(manifest.network.name, **manifest.network.params)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "model.network",
            f"{manifest.title} asks for a network that this version can't build: {manifest.network.name}.",
            "Update Overread or ask the maker of the model.",
        ) from error
    except (ImportError, BrokenNetworkError) as error:
        raise EnvironmentFault(
            "model.network",
            f"{manifest.title} needs a package that is missing or broken here: {error}.",
            "Install overread[train] or the package that brings the network.",
        ) from error
    _fill(network, bundle.read(weights.file), weights.encoding, manifest.title)
    return frozen(network)


def frozen(network: nn.Module) -> nn.Module:
    """Put a network into the state in which it is run: evaluation, no gradients, nothing in place."""
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6 | nn.LeakyReLU | nn.ELU | nn.SiLU):
            module.inplace = False
    return network.eval().requires_grad_(False)


def save_memory(network: nn.Module) -> bool:
    """Have a network work on parts of the image at a time where it can; returns whether it can."""
    able = [
        module for module in network.modules() if isinstance(getattr(module, "policy", None), MemoryPolicy)
    ]
    for module in able:
        module.policy = replace(cast(MemoryPolicy, module.policy), chunking="always")  # type: ignore[assignment]
    return bool(able)


def _fill(network: nn.Module, data: bytes, encoding: Literal["float", "int8"], title: str) -> None:
    wrong = InputError(
        "model.weights",
        f"The weights of {title} don't belong to its network.",
        "Get the bundle again from its maker.",
    )
    try:
        state = _decoded(data) if encoding == "int8" else safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise wrong from error
    own = network.state_dict()
    if set(state) != set(own) or any(state[name].shape != own[name].shape for name in own):
        raise wrong
    network.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()})


def _decoded(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a file of eight-bit weights as float32."""
    decoded = decode_int8(safetensors.numpy.load(data))
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in decoded.items()}


def available_device(wanted: str) -> tuple[str, str | None]:
    """Return the device to use and, when it isn't the wanted one, why.

    Raises
    ------
    InputError
        ``run.device`` for a name that isn't auto, cpu or cuda.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise InputError("run.device", f"There is no device “{wanted}”.", "Use auto, cpu or cuda.")
    if wanted == "cpu" or not torch.cuda.is_available():
        return "cpu", "no CUDA device: ran on the CPU" if wanted == "cuda" else None
    return "cuda", None
