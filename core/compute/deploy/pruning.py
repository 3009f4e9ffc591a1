"""Channels taken out of a network for good, the least important first: fewer weights, fewer operations.

What is left is written as rows of numbers into the manifest (``models.networks.narrowing``), so that the registry
builds the smaller network again and the bundle stays free of code.

Source: G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (groups of dependent channels);
H. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (importance by the norm of the filter).
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from core.bundles.manifest import Network
from core.compute.deploy.engines import Inputs, flat, largest_difference
from core.compute.deploy.silence import silence
from core.domain.errors import EnvironmentFault, InputError
from models.networks.narrowing import rows_of
from models.networks.parts import parts_of
from models.networks.registry import build

MOST = 0.9
_CAST = (nn.Conv2d, nn.Conv3d, nn.Linear, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, eq=False)
class Pruned:
    """A network that lost channels.

    Attributes
    ----------
    network : torch.nn.Module
        Built by the registry from ``description``, with the weights that were kept.
    description : Network
        For the manifest.
    parameters, operations : tuple of int
        Before and after; multiply-adds for one input.
    """

    network: nn.Module
    description: Network
    parameters: tuple[int, int]
    operations: tuple[int, int]


def check_fraction(fraction: float) -> None:
    """Refuse what isn't a share of channels that a network survives: InputError ``deploy.prune``."""
    if not 0.0 < fraction <= MOST:
        raise InputError(
            "deploy.prune",
            f"{fraction:g} is not a share of channels to remove.",
            f"Choose more than 0 and at most {MOST:g}, for example 0.3.",
        )


def prune(network: nn.Module, description: Network, given: Inputs, fraction: float) -> Pruned:
    """Remove the share ``fraction`` of the channels of every layer, those with the smallest weights.

    Outputs keep their number. The result is built anew from its description and must answer as the pruned network.

    Raises
    ------
    EnvironmentFault
        ``deploy.prune`` when the package that finds the dependencies is absent.
    InputError
        ``deploy.prune`` for a fraction out of range, a model that was pruned before, or a network whose channels
        can't be taken out (attention with fixed heads, loose parameters).
    """
    check_fraction(fraction)
    if "pruned" in description.params:
        raise InputError("deploy.prune", "This model has been pruned already.", "Prune the original.")
    if importlib.util.find_spec("torch_pruning") is None:
        raise EnvironmentFault(
            "deploy.prune", "torch-pruning is not installed here.", "Install overread[train]."
        )
    model = copy.deepcopy(network).eval().requires_grad_(True)
    before = _size(model, given)
    with silence():
        try:
            _take_out(model, given, fraction)
            wanted = _answer(model, given)
        except Exception as error:
            raise _refused(description, type(error).__name__) from error
    model.requires_grad_(False)
    full = build(description.name, **description.params)
    smaller = Network(name=description.name, params={**description.params, "pruned": rows_of(full, model)})  # type: ignore[dict-item]
    again = _rebuilt(smaller, model)
    gap = largest_difference(_answer(again, given), wanted)
    if not gap <= 1e-4 * max(1.0, *(float(abs(part).max()) for part in wanted)):
        raise _refused(description, "it can't be built again from its widths")
    after = _size(again, given)
    return Pruned(again, smaller, (before[0], after[0]), (before[1], after[1]))


def _take_out(model: nn.Module, given: Inputs, fraction: float) -> None:
    import torch_pruning

    wanted = [part.shape for part in _answer(model, given)]
    shared = _without_shared_slopes(model)
    pruner = torch_pruning.pruner.MetaPruner(
        model,
        given.tensors,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=fraction,
        ignored_layers=_last_layers(model),
        output_transform=lambda answer: list(_tensors(answer)),
    )
    pruner.step()
    for parent, name, activation in shared:
        setattr(parent, name, activation)
    if [part.shape for part in _answer(model, given)] != wanted:
        raise ValueError("the outputs lost channels")


def _without_shared_slopes(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Stand a fixed slope in for each PReLU of one: the tracing takes its one parameter for the only channel.

    Returns what to put back: parent, name, activation.
    """
    found: list[tuple[nn.Module, str, nn.Module]] = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.PReLU) and child.num_parameters == 1
    ]
    for parent, name, child in found:
        setattr(parent, name, nn.LeakyReLU(float(next(child.parameters()).detach())))
    return found


def _last_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that make the outputs: of every head prefix the last convolution or linear layer.

    Their inputs are still pruned; their outputs are classes.
    """
    modules = list(model.named_modules())
    last: list[nn.Module] = []
    for prefix in parts_of(model).head or ("",):
        inside = [m for name, m in modules if name == prefix or name.startswith(prefix + ".") or not prefix]
        layers = [m for m in inside if isinstance(m, _CAST)]
        last += layers[-1:]
    return last


def _rebuilt(description: Network, pruned: nn.Module) -> nn.Module:
    network = build(description.name, **description.params)
    own, given = network.state_dict(), pruned.state_dict()
    wrong = [name for name in own if name not in given or own[name].shape != given[name].shape]
    if wrong or len(own) != len(given):
        raise _refused(description, f"{len(wrong)} of its tensors are no channels of a layer")
    network.load_state_dict(given)
    return network.eval().requires_grad_(False)


def _size(network: nn.Module, given: Inputs) -> tuple[int, int]:
    """Return parameters and multiply-adds of one call, counted at every convolution and linear layer."""
    counted = 0

    def count(module: nn.Module, _: Any, answer: torch.Tensor) -> None:
        nonlocal counted
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        places = answer.numel() // answer.shape[1] if answer.ndim > 2 else answer.shape[0]
        if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
            stride = 1
            for step in module.stride:
                stride *= step
            places //= stride
        if isinstance(module, nn.Linear):
            places = answer.numel() // answer.shape[-1]
        counted += weight.numel() * places

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, _CAST)]
    try:
        _answer(network, given)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(p.numel() for p in network.parameters()), counted // len(given.image)


def _answer(network: nn.Module, given: Inputs) -> tuple[Any, ...]:
    with torch.no_grad():
        return flat(network(*given.tensors))


def _tensors(answer: Any) -> Iterator[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        yield answer
        return
    for part in answer.values() if isinstance(answer, dict) else answer:
        yield from _tensors(part)


def _refused(description: Network, why: str) -> InputError:
    return InputError(
        "deploy.prune",
        f"Channels can't be taken out of the network {description.name}: {why}.",
        "Deploy it without --prune, or train a smaller network.",
    )
