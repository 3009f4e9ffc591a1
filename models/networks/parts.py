"""Parts of a network: head and backbone, stages from input to output, size divisor, layers to explain.

What transfer learning needs to know (which parameters are new, in which order to unfreeze the others), the
same for every network. ``registry.build`` attaches the parts; a network from elsewhere gets plain guesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Parts:
    """What is what in one network, by dotted names.

    Attributes
    ----------
    head : tuple of str
        Prefixes of the parameters that depend on the task: new in every transfer.
    stages : tuple of tuple of str
        Backbone from input to output; each stage lists modules or parameters. Together with the head they
        hold every parameter.
    cam_layers : tuple of str
        Modules whose output explains a decision, deepest first.
    divisor : int
        Height, width (and depth) must be multiples of it; 1 for any size.
    """

    head: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]
    cam_layers: tuple[str, ...] = ()
    divisor: int = 1


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of gradual unfreezing: its parameters, and its modules (for normalisation layers)."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    modules: tuple[nn.Module, ...]


def attach(network: nn.Module, parts: Parts) -> nn.Module:
    """Remember the parts with the network; sets ``network.parts`` and ``network.divisor``."""
    object.__setattr__(network, "parts", parts)
    object.__setattr__(network, "divisor", parts.divisor)
    return network


def plain(network: nn.Module) -> nn.Module:
    """Return the network inside a compiled or distributed wrapper."""
    while True:
        inner = getattr(network, "_orig_mod", None)
        if inner is None and type(network).__name__ in {"DistributedDataParallel", "DataParallel"}:
            inner = getattr(network, "module", None)
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def parts_of(network: nn.Module) -> Parts:
    """Return the parts of a network.

    A network that ``registry.build`` didn't make has its last child with parameters as head and its other
    children as stages; a network of one child is all head.
    """
    network = plain(network)
    known = getattr(network, "parts", None)
    if isinstance(known, Parts):
        return known
    children = [name for name, child in network.named_children() if any(True for _ in child.parameters())]
    loose = [name for name, _ in network.named_parameters(recurse=False)]
    if not children:
        return Parts(head=tuple(loose), stages=())
    stages: tuple[tuple[str, ...], ...] = tuple((name,) for name in children[:-1])
    if loose:
        stages = (tuple(loose), *stages)
    divisor = getattr(network, "divisor", 1)
    return Parts((children[-1],), stages, (), divisor if isinstance(divisor, int) else 1)


def divisor(network: nn.Module) -> int:
    """Return the number that spatial sizes must be multiples of."""
    return parts_of(network).divisor


def head_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are new in every transfer (each once, in their order)."""
    return list(_below(plain(network), parts_of(network).head))


def backbone_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return all parameters that are not of the head."""
    head = {id(parameter) for parameter in head_parameters(network)}
    return [parameter for parameter in plain(network).parameters() if id(parameter) not in head]


def stages(network: nn.Module) -> list[Stage]:
    """Return the backbone's stages from input to output; unfreeze from the last to the first."""
    network = plain(network)
    modules = dict(network.named_modules())
    return [
        Stage(
            names[0],
            tuple(_below(network, names)),
            tuple(modules[name] for name in names if name in modules),
        )
        for names in parts_of(network).stages
    ]


def _below(network: nn.Module, prefixes: tuple[str, ...]) -> Iterator[nn.Parameter]:
    for name, parameter in network.named_parameters():
        if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes):
            yield parameter
